"""How far behind the standbys are."""

from dataclasses import replace

import pytest

from pgdbpool.endpoint.standing import Role
from pgdbpool.routing.monitor import HISTORY
from tests.unit.scripted_cluster import primary_at, standby_at
from tests.unit.scripted_monitor import Watched
from tests.unit.scripted_roster import START


def moving(watched: Watched, seconds: int, *, begin: int = 0) -> None:
    """Let the primary write ten bytes a second, and be asked each second."""
    for second in range(begin, seconds):
        watched.now = START + second
        watched.found(watched.endpoints[0], primary_at(100 + 10 * second))


def test_lag_is_how_long_ago_the_primary_was_there() -> None:
    """In seconds, and in bytes that are yet to be replayed."""
    watched = Watched()
    _, standby, _ = watched.endpoints
    moving(watched, 10)  # at 100, 110, ... 190

    watched.found(standby, standby_at(160))

    assert standby.standing.lag == 3.0
    assert standby.standing.lag_bytes == 30


def test_lag_between_two_positions_counts_from_the_earlier() -> None:
    """Never less than it is."""
    watched = Watched()
    _, standby, _ = watched.endpoints
    moving(watched, 10)

    watched.found(standby, standby_at(169))

    assert standby.standing.lag == 3.0


@pytest.mark.parametrize("position", [190, 195])
def test_who_has_all_that_is_known_has_no_lag(position: int) -> None:
    """Nor is it ahead, when it was asked later than the primary."""
    watched = Watched()
    _, standby, _ = watched.endpoints
    moving(watched, 10)
    watched.found(standby, standby_at(190))
    watched.now += 0.9

    watched.found(standby, standby_at(position))

    assert standby.standing.lag == 0.0
    assert standby.standing.lag_bytes == 0


def test_who_is_new_and_seems_ahead_is_not_believed_before_the_primary() -> None:
    """It can be of a dead branch; the primary is asked at once."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    moving(watched, 10)
    watched.now += 0.5

    watched.found(standby, standby_at(193))
    assert standby.standing.lag is None
    assert primary.standing.probe_at <= watched.now

    watched.now += 0.1
    watched.found(primary, primary_at(196))
    assert standby.standing.lag == pytest.approx(0.6)
    assert not standby.standing.is_astray


def test_who_has_what_the_primary_never_wrote_is_astray() -> None:
    """A standby that was not rewound: it has no lag then, and one warning is given."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    moving(watched, 10)
    watched.found(standby, standby_at(300))

    for position in (200, 210, 400, 500):
        watched.now += 0.5
        watched.found(primary, primary_at(position))
        watched.found(standby, standby_at(300))
        assert standby.standing.is_astray
        assert (standby.standing.lag, standby.standing.lag_bytes) == (None, None)

    (warning,) = watched.warnings
    assert warning.startswith("db2:5432 has replayed what the primary never wrote")


def test_who_is_rewound_serves_again() -> None:
    """Its sessions were lost with it."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    moving(watched, 10)
    watched.found(standby, standby_at(300))
    watched.now += 0.5
    watched.found(primary, primary_at(200))
    assert standby.standing.is_astray

    watched.lost(standby)
    assert standby.standing.is_astray
    watched.found(standby, standby_at(200))

    assert not standby.standing.is_astray
    assert standby.standing.lag == 0.0


def test_an_answer_on_its_way_while_the_standby_was_asked_proves_nothing() -> None:
    """The primary may have written more since it was asked."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    moving(watched, 10)
    sent = watched.now
    watched.now += 0.5
    watched.found(standby, standby_at(195))

    watched.monitor.found(primary, replace(primary_at(194), asked_at=sent), watched.now)

    assert not standby.standing.is_astray


def test_where_nothing_is_written_there_is_no_lag() -> None:
    """However long: what the standby shows is what there is."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    for _ in range(100):
        watched.now += 1.0
        watched.found(primary, primary_at(100))
        watched.found(standby, standby_at(100))

    assert standby.standing.lag == 0.0


def test_a_standby_that_is_cut_off_falls_behind() -> None:
    """With all that is written, and on when no more is."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    moving(watched, 2)
    watched.found(standby, standby_at(110))
    assert standby.standing.lag == 0.0

    moving(watched, 6, begin=2)
    watched.found(standby, standby_at(110))
    assert standby.standing.lag == 4.0

    watched.now += 10.0
    watched.found(primary, primary_at(150))
    watched.found(standby, standby_at(110))
    assert standby.standing.lag == 14.0


def test_after_a_promotion_to_a_lower_position_lag_is_measured_anew() -> None:
    """What the old primary had and the new one has not is no lag."""
    watched = Watched()
    first, second, third = watched.endpoints
    moving(watched, 10)
    watched.lost(first)

    watched.found(second, primary_at(150, timeline=2))
    watched.found(third, standby_at(150))
    assert (third.standing.lag, third.standing.lag_bytes) == (0.0, 0)

    watched.now += 2.0
    watched.found(second, primary_at(170, timeline=2))
    watched.now += 1.0
    watched.found(third, standby_at(150))
    assert (third.standing.lag, third.standing.lag_bytes) == (3.0, 20)


def test_before_the_primary_has_answered_lag_is_unknown() -> None:
    """And as soon as it has, it is known of all."""
    watched = Watched()
    primary, second, third = watched.endpoints
    watched.found(second, standby_at(100))
    watched.found(third, standby_at(90))
    assert (second.standing.lag, second.standing.lag_bytes) == (None, None)

    watched.found(primary, primary_at(100))

    assert (second.standing.lag, second.standing.lag_bytes) == (0.0, 0)
    assert third.standing.lag_bytes == 10


def test_where_no_primary_can_be_lag_is_behind_who_is_furthest() -> None:
    """So that a pool of standbys, or one made in an outage, can read."""
    watched = Watched()
    primary, second, third = watched.endpoints
    primary.health.connect_failed(OSError("refused"), watched.now)
    watched.found(second, standby_at(90))
    watched.found(third, standby_at(80))
    assert second.standing.lag == 0.0
    assert third.standing.lag is None

    watched.now += 1.0
    watched.found(third, standby_at(100))
    assert (second.standing.lag, second.standing.lag_bytes) == (1.0, 10)
    assert (third.standing.lag, third.standing.lag_bytes) == (0.0, 0)

    watched.now += 1.0
    watched.found(primary, primary_at(95, timeline=2))
    watched.found(second, standby_at(95))
    assert (second.standing.lag, second.standing.lag_bytes) == (0.0, 0)


def test_a_standby_that_tells_no_position_has_an_unknown_lag() -> None:
    """It is not taken for one without."""
    watched = Watched()
    _, standby, _ = watched.endpoints
    moving(watched, 3)
    watched.found(standby, standby_at(120))

    watched.found(standby, standby_at(None))

    assert (standby.standing.lag, standby.standing.lag_bytes) == (None, None)


def test_a_primary_has_no_lag() -> None:
    """By definition."""
    watched = Watched()
    primary, *_ = watched.endpoints

    watched.found(primary, primary_at(100))

    assert (primary.standing.lag, primary.standing.lag_bytes) == (0.0, 0)


def test_a_primary_that_became_a_standby_is_measured_as_one() -> None:
    """From its first probe as such."""
    watched = Watched()
    first, second, _ = watched.endpoints
    moving(watched, 10)
    watched.lost(first)
    watched.found(second, primary_at(190, timeline=2))
    watched.now += 5.0

    watched.found(first, standby_at(160))

    assert first.standing.lag == 8.0


def test_what_is_kept_of_the_past_is_bounded() -> None:
    """However long a pool lives."""
    watched = Watched()
    _, standby, _ = watched.endpoints
    moving(watched, HISTORY + 100)

    watched.found(standby, standby_at(100 + 10 * 100))

    assert standby.standing.lag == HISTORY - 1
    assert len(watched.monitor._positions) == len(watched.monitor._times) == HISTORY


def test_who_is_behind_all_that_is_known_has_an_unknown_lag() -> None:
    """A process that just began cannot know how far: it may be hours."""
    watched = Watched()
    primary, standby, _ = watched.endpoints
    watched.found(primary, primary_at(10**12))
    watched.now += 0.01

    watched.found(standby, standby_at(0))

    assert standby.standing.lag is None


def test_a_demotion_that_is_heard_of_leaves_the_lag_unknown() -> None:
    """It is not that of a primary any more."""
    watched = Watched()
    first, *_ = watched.endpoints
    watched.found(first, primary_at(100))

    watched.heard(first, Role.STANDBY)

    assert first.standing.lag is None

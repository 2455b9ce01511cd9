"""Who is the primary, how far behind the standbys are, who is asked next."""

import math

import pytest

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.standing import Finding, Role
from pgdbpool.routing.monitor import HISTORY, INTERVAL, SHORT_INTERVAL, Monitor
from pgdbpool.settings import Settings
from tests.unit.scripted_cluster import primary_at, standby_at
from tests.unit.scripted_roster import START

SILENT = Finding(Role.PRIMARY)  # a server that tells its role and nothing else


class Watched:
    """A monitor of three servers, and the time.

    Attributes:
        monitor: the monitor.
        endpoints: what it watches.
        now: the time, which only the test moves.
        warnings: what it told.
    """

    def __init__(self) -> None:
        settings = Settings.of("", {})
        self.endpoints = [
            Endpoint({"host": host}, {}, settings) for host in ("db1", "db2", "db3")
        ]
        self.warnings: list[str] = []
        self.monitor = Monitor(self.endpoints, self.warnings.append)
        self.now = START

    def found(self, endpoint: Endpoint, finding: Finding) -> None:
        """Let a probe have found something."""
        self.monitor.found(endpoint, finding, self.now)

    def heard(self, endpoint: Endpoint, role: Role) -> None:
        """Let a session report a role."""
        self.monitor.heard(endpoint, role, self.now)

    def lost(self, endpoint: Endpoint) -> None:
        """Let a server be lost."""
        self.monitor.lost(endpoint, self.now)


# Election.


def test_before_anyone_was_asked_there_is_no_primary() -> None:
    """Nor any standby."""
    watched = Watched()

    assert watched.monitor.primary is None
    assert watched.monitor.standbys == ()


def test_who_says_it_is_the_primary_is_not_before_it_was_probed() -> None:
    """A session knows its role and not its timeline."""
    watched = Watched()
    first, *_ = watched.endpoints

    watched.heard(first, Role.PRIMARY)
    assert watched.monitor.primary is None

    watched.found(first, primary_at(100))
    assert watched.monitor.primary is first


def test_standbys_are_those_that_say_so_in_the_users_order() -> None:
    """By a probe or by a session."""
    watched = Watched()
    first, second, third = watched.endpoints

    watched.heard(third, Role.STANDBY)
    watched.found(first, standby_at(100))
    watched.found(second, primary_at(100))

    assert watched.monitor.standbys == (first, third)


def test_of_two_primaries_the_higher_timeline_wins() -> None:
    """It is the one that was promoted, whoever was asked first."""
    for order in ((0, 1), (1, 0)):
        watched = Watched()
        said = [primary_at(100, timeline=1), primary_at(90, timeline=2)]
        for which in order:
            watched.found(watched.endpoints[which], said[which])

        assert watched.monitor.primary is watched.endpoints[1]


def test_with_equal_timelines_the_first_stays() -> None:
    """Writes never alternate between two servers."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(second, primary_at(100))

    for _ in range(3):
        watched.found(first, primary_at(200))
        watched.found(second, primary_at(100))
        assert watched.monitor.primary is second


def test_a_timeline_lower_than_one_that_was_seen_is_refused() -> None:
    """Also when the promoted one is lost: what comes back old is not written to."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100, timeline=2))
    watched.lost(first)

    watched.found(second, primary_at(900, timeline=1))
    assert watched.monitor.primary is None

    watched.found(first, primary_at(100, timeline=2))
    assert watched.monitor.primary is first


def test_a_refused_primary_is_told_of_once() -> None:
    """And again only when it says something else."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100, timeline=2))
    for _ in range(3):
        watched.found(second, primary_at(100, timeline=1))

    (warning,) = watched.warnings
    assert warning == (
        "db2:5432 says it is the primary, on timeline 1, but db1:5432 is, on timeline "
        "2: nothing is written to it. Stop it, or make it a standby"
    )
    watched.lost(first)
    watched.found(first, standby_at(100))
    assert len(watched.warnings) == 1


def test_a_primary_refused_for_one_that_is_gone_is_told_of_too() -> None:
    """Otherwise nobody would know why nothing is written."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100, timeline=2))
    watched.lost(first)

    watched.found(second, primary_at(100, timeline=1))

    (warning,) = watched.warnings
    assert "on timeline 1, but timeline 2 was seen before: nothing is" in warning


def test_a_failover_is_no_reason_to_warn() -> None:
    """Where the old primary is gone, nothing is to be stopped."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100, timeline=1))
    watched.lost(first)
    watched.found(second, primary_at(100, timeline=2))
    watched.found(first, standby_at(100))

    assert watched.monitor.primary is second
    assert watched.monitor.standbys == (first,)
    assert watched.warnings == []


def test_a_server_that_tells_no_timeline_can_be_the_primary() -> None:
    """As long as nobody told a higher one."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, SILENT)
    assert watched.monitor.primary is first

    watched.found(second, primary_at(100))
    assert watched.monitor.primary is second


# Loss.


def test_without_a_primary_it_is_known_since_when() -> None:
    """From the first moment of it, until there is one."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100))
    assert watched.monitor.leaderless_since is None

    watched.now += 1.0
    watched.lost(first)
    watched.now += 1.0
    watched.lost(second)
    assert watched.monitor.primary is None
    assert watched.monitor.leaderless_since == START + 1.0

    watched.found(second, primary_at(100, timeline=2))
    assert watched.monitor.leaderless_since is None


def test_a_lost_standby_leaves_the_primary() -> None:
    """It says nothing of others."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100))
    watched.found(second, standby_at(100))

    watched.lost(second)

    assert watched.monitor.primary is first
    assert watched.monitor.leaderless_since is None


def test_a_promotion_that_is_heard_of_is_believed_after_a_probe() -> None:
    """Which is due at once; meanwhile it serves neither as this nor as that."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100))
    watched.found(second, standby_at(100))

    watched.heard(second, Role.PRIMARY)
    assert watched.monitor.primary is first
    assert watched.monitor.standbys == ()
    assert second.standing.probe_at <= watched.now

    watched.found(second, primary_at(100, timeline=2))
    assert watched.monitor.primary is second


def test_a_demotion_that_is_heard_of_is_believed_at_once() -> None:
    """Whoever says that it cannot write is right."""
    watched = Watched()
    first, *_ = watched.endpoints
    watched.found(first, primary_at(100))
    watched.now += 3.0

    watched.heard(first, Role.STANDBY)

    assert watched.monitor.primary is None
    assert watched.monitor.standbys == (first,)
    assert watched.monitor.leaderless_since == first.standing.role_since == START + 3.0


def test_a_role_that_is_no_news_changes_nothing() -> None:
    """Each ping reports one."""
    watched = Watched()
    first, *_ = watched.endpoints
    watched.found(first, primary_at(100))

    watched.heard(first, Role.PRIMARY)

    assert watched.monitor.primary is first
    assert first.standing.role_since == START


def test_who_was_lost_and_comes_back_has_come_back_now() -> None:
    """And who was never seen before has not been away."""
    watched = Watched()
    _, second, _ = watched.endpoints
    watched.found(second, standby_at(100))
    assert second.standing.returned_at is None

    watched.lost(second)
    watched.now += 5.0
    watched.found(second, standby_at(100))
    watched.now += 1.0
    watched.found(second, standby_at(100))

    assert second.standing.returned_at == START + 5.0


# Lag.


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
    watched.now += 0.9

    watched.found(standby, standby_at(position))

    assert standby.standing.lag == 0.0
    assert standby.standing.lag_bytes == 0


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


# Whom to ask next.


def test_each_is_asked_once_a_second() -> None:
    """As long as there is a primary."""
    watched = Watched()
    first, second, _ = watched.endpoints

    watched.found(first, primary_at(100))
    watched.found(second, standby_at(100))

    assert (
        first.standing.probe_at
        == second.standing.probe_at
        == START + INTERVAL
        == (START + 1.0)
    )


def test_without_a_primary_all_are_asked_ten_times_a_second() -> None:
    """Also who was asked a moment ago."""
    watched = Watched()
    first, second, third = watched.endpoints
    watched.found(first, primary_at(100))
    watched.found(second, standby_at(100))
    watched.lost(first)

    watched.monitor.hurry(watched.now)
    assert second.standing.probe_at == START + SHORT_INTERVAL == START + 0.1

    watched.found(third, standby_at(100))
    assert third.standing.probe_at == START + 0.1


def test_hurrying_makes_no_probe_later() -> None:
    """Who is due stays due."""
    watched = Watched()
    first, *_ = watched.endpoints
    watched.lost(first)

    watched.monitor.hurry(watched.now)

    assert first.standing.probe_at <= watched.now


def test_who_has_nothing_idle_to_be_asked_on_is_not_due() -> None:
    """Upkeep would come for nothing."""
    watched = Watched()
    first, second, _ = watched.endpoints
    watched.found(first, primary_at(100))
    watched.now += 0.5
    watched.found(second, standby_at(100))
    assert watched.monitor.next_probe() == math.inf

    second.shelf.append(None)  # type: ignore[arg-type]

    assert watched.monitor.next_probe() == START + 1.5

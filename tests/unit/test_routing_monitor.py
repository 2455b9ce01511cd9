"""Who is the primary, and who is asked next."""

import math

import pytest

from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Role
from pgdbpool.routing.monitor import INTERVAL, SHORT_INTERVAL
from tests.unit.scripted_cluster import primary_at, standby_at
from tests.unit.scripted_monitor import SILENT, Watched
from tests.unit.scripted_roster import START

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


@pytest.mark.parametrize("timelines", [(1, 1), (1, 2), (2, 1)])
def test_who_wants_any_server_is_told_of_no_second_primary(
    timelines: tuple[int, int],
) -> None:
    """It is written to as well, as to the servers of a mesh."""
    watched = Watched(Need.ANY)
    for endpoint, timeline in zip(watched.endpoints, timelines, strict=False):
        watched.found(endpoint, primary_at(100, timeline=timeline))

    assert watched.monitor.primary is not None
    assert watched.warnings == []


@pytest.mark.parametrize(
    "wanted", [None, *(need for need in Need if need is not Need.ANY)]
)
def test_who_wants_anything_else_is_told_of_it(wanted: Need | None) -> None:
    """Nobody is led to it for writing then."""
    watched = Watched(wanted)
    for endpoint in watched.endpoints[:2]:
        watched.found(endpoint, primary_at(100))

    (warning,) = watched.warnings
    assert warning.startswith("db2:5432 says it is the primary")


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

    second.health.connect_failed(OSError("refused"), watched.now)
    watched.lost(second)
    watched.now += 5.0
    watched.found(second, standby_at(100))
    second.health.connected()
    watched.now += 1.0
    watched.found(second, standby_at(100))

    assert second.standing.returned_at == START + 5.0


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

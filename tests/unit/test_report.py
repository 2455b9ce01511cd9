"""A message is a status report: which pool, how long, how full, why, what to do."""

import re

import pytest

from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.standing import Role
from pgdbpool.errors import (
    AuthenticationFailed,
    EndpointDown,
    NestedCheckout,
    NoPrimary,
    NoStandby,
    PoolClosed,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    TooManyConnections,
    TooManyRequests,
)
from pgdbpool.report import ADVICE, Report
from tests.unit.scripted_cluster import (
    POSITION,
    ScriptedCluster,
    primary_at,
    standby_at,
)
from tests.unit.scripted_roster import REFUSED, ScriptedRoster

PLACE = r"unit/scripted_roster\.py:\d+"
BAD_PASSWORD = OSError('FATAL:  password authentication failed for user "app"')
TOO_MANY = OSError("FATAL:  sorry, too many clients already")


def refused_after(roster: ScriptedRoster, seconds: float, **hold: str) -> PoolError:
    """Return the error of a caller who waited so long."""
    asked = roster.now
    hold_of_caller = roster.new_hold(**hold)
    roster.now += seconds
    return Report("orders", roster).no_connection(hold_of_caller, asked, roster.now)


def assert_says(error: PoolError, pattern: str) -> None:
    """Fail unless the whole message is that."""
    assert re.fullmatch(pattern, str(error)), str(error)


def test_all_in_use_names_the_oldest_hold() -> None:
    """Its age, its request and where it was acquired, and what to change."""
    roster = ScriptedRoster(max_size=2)
    holder = roster.acquire("GET /report")
    roster.connect()
    roster.now += 7.3
    roster.fill(1)
    for _ in range(3):
        roster.acquire()

    error = refused_after(roster, 5.0)

    assert type(error) is PoolExhausted
    assert holder.hold is not None
    assert_says(
        error,
        r"pool 'orders': no connection within 5 s \(2 of 2 in use, 3 waiting; "
        rf"oldest, for 12\.3 s: hold by GET /report, acquired at {PLACE}\)\. "
        r"Raise max_size, or look for connections held too long\.",
    )
    assert error.__cause__ is None


def test_the_request_that_got_nothing_is_named() -> None:
    """Where it is known who asked, the message says so."""
    roster = ScriptedRoster(max_size=1)
    roster.fill(1)

    error = refused_after(roster, 0.25, request="POST /order")

    assert "no connection within 0.25 s for POST /order (1 of 1 in use; " in str(error)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (REFUSED, EndpointDown),
        (BAD_PASSWORD, AuthenticationFailed),
        (TOO_MANY, TooManyConnections),
    ],
)
def test_a_server_that_cannot_be_had_is_quoted(
    said: OSError, kind: type[PoolError]
) -> None:
    """With its name, when it said so, and as the cause of the error."""
    roster = ScriptedRoster(max_size=2, grace=0.0)
    roster.line.leave(roster.acquire())
    roster.refuse(said)

    error = refused_after(roster, 2.0)

    assert type(error) is kind
    words = re.escape(" ".join(str(said).split()))
    assert_says(
        error,
        r"pool 'orders': no connection within 2 s \(0 of 2 in use; "
        rf"db1:5432 said 2\.0 s ago: {words}\)\. {re.escape(ADVICE[kind])}",
    )
    assert error.__cause__ is said
    assert error.__suppress_context__


def test_the_tries_are_told() -> None:
    """How often it was tried says whether it is still being tried."""
    roster = ScriptedRoster(grace=0.0)
    roster.acquire()
    roster.refuse()
    roster.pass_time(2.0)
    roster.refuse()

    assert "after 2 tries: Connection refused" in str(refused_after(roster, 0.0))


def test_a_connect_that_takes_too_long_is_told() -> None:
    """The server has not refused: it has not answered."""
    roster = ScriptedRoster(max_size=2, min_size=2)
    roster.acquire()

    error = refused_after(roster, 1.0)

    assert type(error) is EndpointDown
    assert "(0 of 2 in use, 2 connecting, 1 waiting; db1:5432 has not answered" in str(
        error
    )


def test_a_refusal_behind_living_connections_is_told_by_its_kind() -> None:
    """New logins fail while some are in use: that is what must be mended."""
    roster = ScriptedRoster(max_size=2)
    roster.fill(1)
    roster.acquire()
    roster.refuse(TOO_MANY)

    error = refused_after(roster, 1.0)

    assert type(error) is TooManyConnections
    assert error.__cause__ is TOO_MANY


def test_no_time_without_any_other_reason_is_told_as_such() -> None:
    """Nothing is wrong but the timeout."""
    roster = ScriptedRoster(max_size=2)

    error = refused_after(roster, 0.0)

    assert type(error) is PoolTimeout
    assert str(error).endswith(f" {ADVICE[PoolTimeout]}")


def test_whoever_waited_for_a_pool_that_was_closed_is_told_that() -> None:
    """And not that there was no connection."""
    roster = ScriptedRoster()
    roster.close()

    error = refused_after(roster, 1.0)

    assert type(error) is PoolClosed
    assert str(error) == "pool 'orders' is closed"


def test_a_pool_not_open_yet_says_what_to_call() -> None:
    """Closed and not yet open are not the same."""
    roster = ScriptedRoster()
    roster.is_open = False

    error = Report("orders", roster).closed()

    assert str(error) == "pool 'orders' is not open yet: call open()"


def test_a_full_line_says_how_long_it_is() -> None:
    """And what keeps it so."""
    roster = ScriptedRoster(max_size=1, max_waiting=2)
    roster.fill(1)
    roster.acquire()
    roster.acquire()

    error = Report("orders", roster).line_is_full(roster.now)

    assert type(error) is TooManyRequests
    assert_says(
        error,
        r"pool 'orders': 2 callers wait already, and max_waiting allows no more "
        rf"\(1 of 1 in use, 2 waiting; oldest, for 0\.0 s: hold, acquired at {PLACE}\)"
        r"\. Raise max_waiting, max_size, or look for connections held too long\.",
    )


def test_a_deadlock_has_both_places() -> None:
    """Where the first connection was acquired, and where the second is wanted."""
    roster = ScriptedRoster(max_size=1)
    roster.acquire("GET /cart")
    roster.connect()
    hold: Hold = roster.new_hold()

    error = Report("orders", roster).deadlock(hold)

    assert type(error) is NestedCheckout
    assert_says(
        error,
        r"pool 'orders': each of its 1 connections is held by a thread that waits "
        rf"for another; this thread has a hold by GET /cart, acquired at {PLACE}, "
        rf"and wants a second at {PLACE}\. Use the connection you have, or raise "
        r"max_size\.",
    )


def test_every_way_to_be_refused_has_its_advice() -> None:
    """No message ends without what to do."""
    assert set(ADVICE) == {
        PoolExhausted,
        EndpointDown,
        AuthenticationFailed,
        TooManyConnections,
        NoPrimary,
        NoStandby,
        PoolTimeout,
    }


# Several servers.


def refused_cluster(roster: ScriptedCluster, hold: Hold, seconds: float) -> PoolError:
    """Return the error of a caller who waited so long, at what it is then."""
    asked = roster.now
    roster.now += seconds
    return Report("orders", roster).no_connection(hold, asked, roster.now)


def test_no_primary_says_what_each_server_is_and_since_when() -> None:
    """Whoever reads it sees what there is to promote."""
    roster = ScriptedCluster(grace=2.0)
    first, second, third = roster.endpoints
    roster.lose(first)
    roster.monitor.found(second, standby_at(POSITION - 1), roster.now + 1.5)
    third.standing.role = None
    roster.write()
    roster.refuse_at(first)

    error = refused_cluster(roster, roster.new_hold(), 3.0)

    assert type(error) is NoPrimary
    assert_says(
        error,
        r"pool 'orders': no connection within 3 s \(0 of 60 in use, 1 waiting; "
        r"db1:5432 said 3\.0 s ago: Connection refused; "
        r"db2:5432 has been a standby for 3\.0 s, lag (unknown|\d\.\d s); "
        rf"db3:5432 has not answered yet\)\. {re.escape(ADVICE[NoPrimary])}",
    )


def test_a_primary_that_is_not_believed_is_told_of_with_its_timeline() -> None:
    """Nothing is written to it, and this is why."""
    roster = ScriptedCluster("db1", "db2", grace=0.0)
    first, second = roster.endpoints
    roster.monitor.found(second, primary_at(POSITION, timeline=2), roster.now)
    roster.monitor.lost(second, roster.now)
    roster.monitor.found(first, primary_at(POSITION, timeline=1), roster.now)
    second.standing.role = Role.STANDBY

    error = refused_cluster(roster, roster.new_hold(), 1.0)

    assert type(error) is NoPrimary
    said = "db1:5432 has been a primary for 1.0 s, by its own word, on timeline 1"
    assert said in str(error)


def test_no_standby_says_how_far_behind_each_is() -> None:
    """And the primary is there, which `strict=True` leaves out."""
    roster = ScriptedCluster("db1", "db2")
    roster.endpoints[1].standing.lag = 61.5

    error = refused_cluster(roster, roster.new_reading(is_strict=True), 5.0)

    assert type(error) is NoStandby
    assert_says(
        error,
        r"pool 'orders': no connection within 5 s \(0 of 40 in use; "
        r"db1:5432 has been the primary for 5\.0 s; "
        r"db2:5432 has been a standby for 5\.0 s, lag 61\.5 s\)\. "
        rf"{re.escape(ADVICE[NoStandby])}",
    )


def test_when_all_are_down_each_is_quoted() -> None:
    """The first that said something is the cause."""
    roster = ScriptedCluster("db1", "db2", grace=0.0)
    for endpoint in roster.endpoints:
        endpoint.health.connect_failed(REFUSED, roster.now)

    error = refused_cluster(roster, roster.new_reading(), 2.0)

    assert type(error) is EndpointDown
    assert "db1:5432 said 2.0 s ago: Connection refused; db2:5432 said" in str(error)
    assert error.__cause__ is REFUSED


def test_a_primary_that_is_full_is_told_as_such_whatever_is_idle_elsewhere() -> None:
    """A standby is no help to who writes."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    roster.write()
    roster.write()

    error = refused_cluster(roster, roster.new_hold(), 5.0)

    assert type(error) is PoolExhausted

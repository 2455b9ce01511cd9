"""A message is a status report: which pool, how long, how full, why, what to do."""

import re

import pytest

from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import (
    AuthenticationFailed,
    EndpointDown,
    NestedCheckout,
    PoolClosed,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    TooManyConnections,
    TooManyRequests,
)
from pgdbpool.report import ADVICE, Report
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
        PoolTimeout,
    }

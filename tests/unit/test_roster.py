"""Who is given which connection, who waits, who is refused, what goes at release."""

import pytest

from pgdbpool.endpoint.state import Reason, State
from pgdbpool.errors import AuthenticationFailed, EndpointDown
from tests.unit.scripted_roster import ScriptedRoster

BAD_PASSWORD = OSError('FATAL:  password authentication failed for user "app"')


def conns_of(roster: ScriptedRoster) -> list[object]:
    """Return what is on the shelf, oldest first."""
    return list(roster.endpoint.shelf)


# Acquire: the shelf and the line.


def test_an_idle_connection_is_given_at_once() -> None:
    """Nobody stands in line while something is idle."""
    roster = ScriptedRoster(max_size=2)
    (first,) = roster.fill(1)
    roster.release(first)

    second = roster.acquire("GET /report")

    assert second.conn is first.conn
    assert second.hold is not None
    assert roster.holds() == [second.hold]
    assert roster.stats.requests_queued == 1  # the first


@pytest.mark.parametrize(("order", "which"), [("lifo", -1), ("fifo", 0)])
def test_the_order_says_which_idle_connection_serves(order: str, which: int) -> None:
    """`lifo` the one released last, `fifo` the one released first."""
    roster = ScriptedRoster(max_size=3, order=order)
    for waiter in roster.fill(3):
        roster.release(waiter)
    idle = conns_of(roster)

    assert roster.acquire().conn is idle[which]


def test_releases_serve_the_line_in_order_of_arrival() -> None:
    """First come, first served, and each release serves one."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    line = [roster.acquire() for _ in range(3)]

    for waiter in line:
        assert waiter.conn is None
        roster.release(holder)
        assert waiter.conn is holder.conn
        holder = waiter

    roster.release(holder)
    assert conns_of(roster) == [holder.conn]


def test_what_is_given_to_a_waiter_never_lies_on_the_shelf() -> None:
    """It is in use from the moment of the release: nobody can overtake."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    waiter = roster.acquire()

    roster.release(holder)

    assert waiter.is_awake
    assert conns_of(roster) == []
    assert roster.count(State.IN_USE) == 1
    assert roster.take(roster.new_hold(), roster.now) is None


def test_a_finished_connect_serves_the_line_too() -> None:
    """Whichever comes first serves: one funnel for all."""
    roster = ScriptedRoster(max_size=2)
    first, second = roster.acquire(), roster.acquire()

    served_first = roster.connect()
    served_second = roster.connect()

    assert first.conn is served_first  # type: ignore[comparison-overlap]
    assert second.conn is served_second  # type: ignore[comparison-overlap]


def test_who_waits_is_served_by_a_release_before_its_connect_is_done() -> None:
    """The connect that comes later is not wasted: it joins the pool."""
    roster = ScriptedRoster(max_size=2)
    (holder,) = roster.fill(1)
    waiter = roster.acquire()
    roster.release(holder)
    assert waiter.conn is holder.conn

    late = roster.connect()

    assert conns_of(roster) == [late]


def test_who_left_the_line_is_given_nothing() -> None:
    """A connection is never given to someone whose time is up."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    gone, patient = roster.acquire(), roster.acquire()

    roster.line.leave(gone)
    roster.release(holder)

    assert gone.conn is None
    assert patient.conn is holder.conn


def test_a_hold_counts_from_when_it_was_given() -> None:
    """Waiting is not holding; both are counted, each as itself."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    waiter = roster.acquire()
    roster.now += 2.0
    roster.release(holder)
    roster.now += 3.0
    roster.release(waiter)

    assert roster.stats.requests_wait == 2.0
    assert roster.stats.usage == 2.0 + 3.0


def test_holds_are_told_oldest_first() -> None:
    """The first is the one that messages name."""
    roster = ScriptedRoster(max_size=3)
    waiters = []
    for _ in range(3):
        waiters += roster.fill(1)
        roster.now += 1.0

    assert roster.holds() == [waiter.hold for waiter in waiters]


# Release: exactly once, fit or unfit.


def test_a_second_release_touches_nothing() -> None:
    """The hold is an object: the next holder's is another."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    roster.release(holder)
    next_holder = roster.acquire()

    assert roster.release(holder) is False

    assert roster.holds() == [next_holder.hold]
    assert next_holder.conn is holder.conn


def test_between_the_end_of_a_hold_and_unfit_or_fit_nobody_is_given_it() -> None:
    """A connection that is being made clean is still in use."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    assert holder.hold is not None
    assert holder.conn is not None

    entry = roster.end(holder.hold, holder.conn, roster.now, False)

    assert entry is not None
    assert entry.state is State.IN_USE
    assert roster.holds() == []
    assert roster.take(roster.new_hold(), roster.now) is None


@pytest.mark.parametrize("reason", [Reason.DIRTY, Reason.WRONG_ROLE])
def test_an_unfit_connection_is_closed_alone(reason: Reason) -> None:
    """What one holder spoiled says nothing of the others."""
    roster = ScriptedRoster(max_size=2)
    idle, holder = roster.fill(2)
    roster.release(idle)

    roster.release(holder, reason=reason)

    assert roster.reasons == [reason]
    assert conns_of(roster) == [idle.conn]
    assert (roster.stats.returns_bad, roster.stats.connections_lost) == (1, 0)


@pytest.mark.parametrize("reason", [Reason.LOST, Reason.PING_FAILED])
def test_a_lost_connection_condemns_its_generation(reason: Reason) -> None:
    """Sixteen stale connections cost one discovery: idle ones go, and at once."""
    roster = ScriptedRoster(max_size=16, min_size=0)
    waiters = roster.fill(16)
    for waiter in waiters[1:]:
        roster.release(waiter)

    roster.release(waiters[0], reason=reason)

    assert len(roster.closed) == 16
    assert roster.size() == 0
    assert (roster.stats.returns_bad, roster.stats.connections_lost) == (0, 1)


def test_a_busy_connection_of_a_condemned_generation_goes_at_its_release() -> None:
    """Nothing is torn from a holder; it is not given on either."""
    roster = ScriptedRoster(max_size=2, min_size=0)
    lost, busy = roster.fill(2)
    roster.release(lost, reason=Reason.LOST)
    assert roster.holds() == [busy.hold]

    roster.release(busy)

    assert roster.reasons == [Reason.LOST, Reason.DRAINED]


def test_a_second_loss_of_the_same_generation_condemns_no_newer_one() -> None:
    """What was opened after the loss is not thrown away with what was lost."""
    roster = ScriptedRoster(max_size=3, min_size=0)
    first, second = roster.fill(2)
    roster.release(first, reason=Reason.LOST)
    (newer,) = roster.fill(1)
    roster.release(newer)

    roster.release(second, reason=Reason.LOST)

    assert conns_of(roster) == [newer.conn]


def test_what_was_lost_is_replaced_for_who_waits() -> None:
    """A new connect begins at once, without a pause."""
    roster = ScriptedRoster(max_size=1, min_size=0)
    (holder,) = roster.fill(1)
    waiter = roster.acquire()

    roster.release(holder, reason=Reason.LOST)

    assert len(roster.begun) == 1
    assert waiter.conn is None
    assert waiter.conn is not roster.connect()


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_session_that_the_server_ended_is_never_given(*, is_idle: bool) -> None:
    """An idle one is replaced at once, one in use goes at its release."""
    roster = ScriptedRoster(max_size=2)
    (holder,) = roster.fill(1)
    assert holder.conn is not None
    if is_idle:
        roster.release(holder)

    roster.hung_up(holder.conn.entry, holder.conn, roster.now)
    roster.act()
    assert roster.reasons == [Reason.LOST] * is_idle
    if not is_idle:
        roster.release(holder)

    assert roster.reasons == [Reason.LOST]
    assert conns_of(roster) == []
    assert len(roster.begun) == 1


# Refusal and deadlock.


def test_within_the_grace_callers_wait() -> None:
    """A restart of the database costs nobody an error."""
    roster = ScriptedRoster(grace=5.0)
    waiter = roster.acquire()
    roster.refuse()

    roster.pass_time(4.9)

    assert roster.refuses(roster.new_hold(), roster.now) is None
    assert not waiter.is_awake


def test_after_the_grace_callers_are_refused_and_waiters_told_to_go() -> None:
    """They wake with nothing and find out why."""
    roster = ScriptedRoster(grace=5.0)
    waiter = roster.acquire()
    roster.refuse()

    roster.pass_time(5.0)

    assert roster.refuses(roster.new_hold(), roster.now) is EndpointDown
    assert waiter.is_awake
    assert waiter.conn is None
    assert not roster.line


def test_a_refused_login_needs_no_grace() -> None:
    """A wrong password does not get better by waiting."""
    roster = ScriptedRoster(grace=5.0)
    waiter = roster.acquire()

    roster.refuse(BAD_PASSWORD)

    assert roster.refuses(roster.new_hold(), roster.now) is AuthenticationFailed
    assert waiter.is_awake


def test_behind_living_connections_callers_wait_for_a_release() -> None:
    """That new logins fail is no reason to refuse who could be served."""
    roster = ScriptedRoster(max_size=2)
    (holder,) = roster.fill(1)
    waiter = roster.acquire()

    roster.refuse(BAD_PASSWORD)

    assert roster.refuses(roster.new_hold(), roster.now) is None
    roster.release(holder)
    assert waiter.conn is holder.conn


def test_a_success_ends_the_refusals() -> None:
    """The first success opens the door for all."""
    roster = ScriptedRoster(grace=0.0)
    roster.acquire()
    roster.refuse()
    assert roster.refuses(roster.new_hold(), roster.now) is EndpointDown

    roster.pass_time(2.0)
    roster.connect()

    assert roster.refuses(roster.new_hold(), roster.now) is None


def test_when_every_holder_would_wait_that_is_a_deadlock() -> None:
    """Two threads hold one each, one waits already: the second must not."""
    roster = ScriptedRoster(max_size=2)
    held = [roster.acquire(thread=1), roster.acquire(thread=2)]
    roster.connect()
    roster.connect()
    assert all(waiter.conn is not None for waiter in held)
    roster.acquire(thread=1)
    second = roster.new_hold()
    second.thread = 2

    assert roster.is_deadlocked(second, roster.now)


@pytest.mark.parametrize(
    "why_not", ["room", "another holder", "getconn", "connecting", "being released"]
)
def test_what_can_still_end_is_no_deadlock(why_not: str) -> None:
    """Someone who does not wait will release, or there is room for one more."""
    roster = ScriptedRoster(max_size=3 if why_not in ("room", "connecting") else 2)
    held = [
        roster.acquire(thread=1),
        roster.acquire(
            thread=9 if why_not == "another holder" else 1,
            is_block=why_not != "getconn",
        ),
    ]
    roster.connect()
    roster.connect()
    if why_not == "connecting":
        roster.acquire(thread=2)
    if why_not == "being released":
        assert held[0].hold is not None
        assert held[0].conn is not None
        roster.end(held[0].hold, held[0].conn, roster.now, False)
    nested = roster.new_hold()
    nested.thread = 1

    assert not roster.is_deadlocked(nested, roster.now)


def test_one_thread_that_holds_all_is_a_deadlock_by_itself() -> None:
    """The plainest case: max_size=1 and a nested block."""
    roster = ScriptedRoster(max_size=1)
    held = roster.acquire(thread=1)
    roster.connect()
    assert held.conn is not None
    nested = roster.new_hold()
    nested.thread = 1

    assert roster.is_deadlocked(nested, roster.now)

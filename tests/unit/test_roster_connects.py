"""Which connects are begun, what becomes of them, and opening, closing, resizing."""

import pytest

from pgdbpool.endpoint.state import Reason, State
from pgdbpool.planning import MOST_CONNECTING
from pgdbpool.waiters import Waiter
from tests.unit.scripted_roster import ScriptedRoster


def test_nothing_connects_before_the_first_use() -> None:
    """Whatever upkeep does: a pool that nobody used opens nothing."""
    roster = ScriptedRoster(min_size=3)

    roster.pass_time(10.0)

    assert not roster.begun


def test_the_first_use_fills_the_pool_to_its_min_size() -> None:
    """One caller is enough for all of them."""
    roster = ScriptedRoster(min_size=3)

    roster.acquire()

    assert len(roster.begun) == 3


def test_every_waiter_has_a_connect_of_its_own() -> None:
    """And none twice."""
    roster = ScriptedRoster(min_size=0)

    for number in (1, 2, 3):
        roster.acquire()
        assert len(roster.begun) == number


@pytest.mark.parametrize("min_size", [0, 20])
def test_no_more_connect_at_a_time_than_the_server_can_bear(min_size: int) -> None:
    """Neither for callers nor to fill the pool; each that ends makes room."""
    roster = ScriptedRoster(min_size=min_size)
    for _ in range(10):
        roster.acquire()
    assert len(roster.begun) == MOST_CONNECTING == 4

    roster.connect()

    assert len(roster.begun) == 4


def test_no_more_connections_than_max_size_are_begun() -> None:
    """However many wait."""
    roster = ScriptedRoster(max_size=3)
    for _ in range(10):
        roster.acquire()

    while roster.begun:
        roster.connect()

    assert roster.size() == 3
    assert len(roster.line) == 7


def test_a_connect_that_nobody_waits_for_any_more_joins_the_pool() -> None:
    """It was paid for."""
    roster = ScriptedRoster(min_size=0)
    waiter = roster.acquire()
    roster.line.leave(waiter)

    conn = roster.connect()

    assert list(roster.endpoint.shelf) == [conn]
    assert roster.stats.connections_time == pytest.approx(0.01)


def test_a_connect_that_is_given_up_is_closed_when_it_comes() -> None:
    """Its place may have been filled again: it is not put in twice."""
    roster = ScriptedRoster(min_size=0, max_size=1)
    roster.acquire()
    given_up = roster.begun[0]
    roster.pass_time(roster.endpoint.connect_limit)
    assert given_up.state is State.CLOSED
    roster.pass_time(2.0)
    assert len(roster.begun) == 2  # another was begun in its place

    roster.connect(given_up)

    assert roster.reasons == [Reason.CONNECT_FAILED]
    assert roster.size() == 1
    assert roster.count(State.CONNECTING) == 1


def test_a_connect_that_is_given_up_counts_as_a_failure_that_says_so() -> None:
    """Who asks learns that there was no answer, and after how long."""
    roster = ScriptedRoster()
    roster.acquire()

    roster.pass_time(roster.endpoint.connect_limit)

    assert roster.endpoint.health.is_down
    assert "no answer to a connect within 6.0 s" in str(roster.endpoint.health.error)


def test_a_connect_just_before_its_limit_is_not_given_up() -> None:
    """The timeout of libpq itself comes first."""
    roster = ScriptedRoster()
    roster.acquire()

    roster.pass_time(roster.endpoint.connect_limit - 0.01)

    assert roster.count(State.CONNECTING) == 1


def test_when_the_server_is_down_one_prober_tries() -> None:
    """Whoever waits, there is one connect at a time, after its pause."""
    roster = ScriptedRoster(min_size=4, grace=None)
    for _ in range(10):
        roster.acquire()
    while roster.begun:
        roster.refuse()
    assert not roster.begun

    for _ in range(5):
        roster.pass_time(2.0)
        assert len(roster.begun) == 1
        roster.acquire()
        assert len(roster.begun) == 1
        roster.refuse()
        assert not roster.begun


def test_no_prober_tries_before_its_pause_is_over() -> None:
    """Also when more callers come."""
    roster = ScriptedRoster(grace=None)
    roster.acquire()
    roster.refuse()

    roster.pass_time(roster.endpoint.health.retry_at - roster.now - 0.001)
    roster.acquire()
    assert not roster.begun

    roster.pass_time(0.002)
    assert len(roster.begun) == 1


def test_the_first_success_begins_the_other_connects() -> None:
    """The door is open for everyone who waits."""
    roster = ScriptedRoster(grace=None)
    for _ in range(3):
        roster.acquire()
    while roster.begun:
        roster.refuse()
    roster.pass_time(2.0)

    roster.connect()

    assert len(roster.line) == 2
    assert len(roster.begun) == 2


def test_a_connect_of_a_condemned_generation_is_closed_and_begun_anew() -> None:
    """It may have been answered by what is gone."""
    roster = ScriptedRoster(min_size=0)
    waiter = roster.acquire()
    roster.condemn(roster.endpoint, Reason.DRAINED)

    roster.connect()

    assert roster.reasons == [Reason.DRAINED]
    assert waiter.conn is None
    assert len(roster.begun) == 1


def test_what_was_decided_and_not_done_is_left_for_the_next_who_comes() -> None:
    """Jobs stay until they are done, in order."""
    roster = ScriptedRoster(min_size=0)
    for _ in range(2):
        roster.join(roster.new_hold(), roster.now, again=False)
    assert len(roster.jobs) == 2

    roster.act()

    assert list(roster.begun) == sorted(roster.begun, key=lambda entry: entry.since)
    assert len(roster.begun) == 2


# Opening and closing.


def test_a_pool_that_is_not_open_begins_nothing() -> None:
    """Its min_size is for when it is open."""
    roster = ScriptedRoster()
    roster.is_open = False
    roster.is_filling = True

    roster.pass_time(1.0)

    assert not roster.begun


def test_closing_retires_what_is_idle_now_and_what_is_busy_at_its_release() -> None:
    """Nothing is torn from a holder, and nothing is begun in its place."""
    roster = ScriptedRoster(max_size=2)
    idle, busy = roster.fill(2)
    roster.release(idle)

    roster.close()
    roster.act()
    assert roster.reasons == [Reason.POOL_CLOSED]
    assert roster.holds() == [busy.hold]

    roster.release(busy)
    assert roster.reasons == [Reason.POOL_CLOSED] * 2
    assert roster.size() == 0
    assert not roster.begun


def test_closing_dismisses_who_waits() -> None:
    """They wake with nothing, at once."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    waiters = [roster.acquire() for _ in range(3)]

    roster.close()
    roster.act()
    roster.release(holder)

    assert all(waiter.is_awake and waiter.conn is None for waiter in waiters)


def test_closing_wakes_a_watcher_for_whom_that_is_what_it_waits_for() -> None:
    """Who waits for a pool to fill need not wait for one that is closed."""
    roster = ScriptedRoster()
    waiter = Waiter()
    roster.watchers.append((lambda: not roster.is_open, waiter))

    roster.close()

    assert waiter.is_awake


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_connect_that_ends_after_the_close_leaves_nothing(*, succeeds: bool) -> None:
    """What comes is closed, what fails is forgotten, nothing is begun."""
    roster = ScriptedRoster()
    roster.acquire()
    roster.close()

    if succeeds:
        roster.connect()
    else:
        roster.refuse()

    assert roster.reasons == [Reason.POOL_CLOSED] * succeeds
    assert roster.size() == 0
    assert not roster.begun


def test_a_watcher_is_woken_when_what_it_waits_for_has_come() -> None:
    """Not before, and once."""
    roster = ScriptedRoster(max_size=2)
    waiter = Waiter()
    roster.watchers.append((lambda: roster.count(State.IDLE) == 2, waiter))
    first, second = roster.fill(2)

    roster.release(first)
    assert not waiter.is_awake

    roster.release(second)
    assert waiter.is_awake
    assert roster.watchers == []


def test_a_watcher_hears_of_what_was_closed() -> None:
    """Who waits for the last to go is told."""
    roster = ScriptedRoster(max_size=1, min_size=0)
    (holder,) = roster.fill(1)
    waiter = Waiter()
    roster.watchers.append((lambda: roster.size() == 0, waiter))

    roster.release(holder, reason=Reason.DIRTY)

    assert waiter.is_awake


# Changing size.


def test_more_room_serves_who_waits() -> None:
    """Raising the limit begins connects at once."""
    roster = ScriptedRoster(max_size=1)
    roster.fill(1)
    roster.acquire()
    assert not roster.begun

    roster.resize(1, 2, roster.now)
    roster.act()

    assert len(roster.begun) == 1


def test_less_room_closes_what_is_idle() -> None:
    """Idle ones go first, and only as many as are too many."""
    roster = ScriptedRoster(max_size=4)
    busy, *others = roster.fill(4)
    for waiter in others:
        roster.release(waiter)

    roster.resize(1, 2, roster.now)
    roster.act()

    assert roster.reasons == [Reason.SHRUNK] * 2
    assert roster.count(State.IDLE) == 1
    assert roster.holds() == [busy.hold]


def test_less_room_closes_what_is_busy_at_its_release() -> None:
    """Holders are left alone; nothing is opened in its place."""
    roster = ScriptedRoster(max_size=3)
    waiters = roster.fill(3)

    roster.resize(1, 1, roster.now)
    roster.act()
    assert len(roster.holds()) == 3

    for waiter in waiters:
        roster.release(waiter)
    assert roster.reasons == [Reason.SHRUNK] * 2
    assert roster.count(State.IDLE) == roster.size() == 1


def test_after_a_shrink_a_long_hold_does_not_keep_the_pool_too_large() -> None:
    """What is released first goes first, as long as there are too many."""
    roster = ScriptedRoster(max_size=2)
    _, released = roster.fill(2)
    roster.resize(1, 1, roster.now)

    roster.release(released)

    assert roster.reasons == [Reason.SHRUNK]
    assert roster.size() == 1

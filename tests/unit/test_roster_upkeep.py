"""What time brings: lifetimes, idle time, probes, and when to come again."""

import gc
import math

import pytest

from pgdbpool.endpoint.endpoint import LIFETIME_JITTER
from pgdbpool.endpoint.state import Reason, State
from tests.unit.scripted_roster import ScriptedRoster


@pytest.fixture(autouse=True)
def _longest_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chance: every lifetime is as long as the setting says."""
    monkeypatch.setattr(
        "pgdbpool.endpoint.endpoint.random.uniform", lambda _low, high: high
    )


def test_who_is_too_old_is_not_given() -> None:
    """A lifetime is kept at the acquire, whenever upkeep comes."""
    roster = ScriptedRoster(max_lifetime=100.0, max_idle=None)
    (holder,) = roster.fill(1)
    roster.release(holder)
    roster.now += 100.0

    waiter = roster.acquire()

    assert waiter.conn is None
    assert roster.reasons == [Reason.LIFETIME]
    assert len(roster.begun) == 1


def test_who_is_not_too_old_is_given() -> None:
    """The lifetime is not shorter than it says."""
    roster = ScriptedRoster(max_lifetime=100.0, max_idle=None)
    (holder,) = roster.fill(1)
    roster.release(holder)
    roster.now += 99.9

    assert roster.acquire().conn is holder.conn


def test_who_is_too_old_at_its_release_goes() -> None:
    """Also before upkeep comes; its place is filled anew."""
    roster = ScriptedRoster(max_lifetime=100.0, min_size=1)
    (holder,) = roster.fill(1)
    roster.now += 100.0

    roster.release(holder)

    assert roster.reasons == [Reason.LIFETIME]
    assert len(roster.begun) == 1


def test_upkeep_retires_who_is_too_old_and_replaces_it() -> None:
    """The pool keeps its min_size."""
    roster = ScriptedRoster(max_lifetime=100.0, max_idle=None)
    (holder,) = roster.fill(1)
    roster.release(holder)

    roster.pass_time(100.0)

    assert roster.reasons == [Reason.LIFETIME]
    assert len(roster.begun) == 1


def test_upkeep_leaves_holders_alone() -> None:
    """Nothing is torn from a holder, however old."""
    roster = ScriptedRoster(max_lifetime=10.0, max_idle=1.0)
    (holder,) = roster.fill(1)

    roster.pass_time(1000.0)

    assert roster.closed == []
    assert roster.holds() == [holder.hold]


def test_no_lifetime_is_no_end() -> None:
    """`max_lifetime=None` means no limit."""
    roster = ScriptedRoster(max_lifetime=None, max_idle=None)
    (holder,) = roster.fill(1)
    roster.release(holder)

    roster.pass_time(1e9)

    assert roster.closed == []


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_lifetime_is_a_fifth_shorter_at_most(
    chance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never longer than the setting."""
    assert LIFETIME_JITTER == 0.2
    monkeypatch.setattr(
        "pgdbpool.endpoint.endpoint.random.uniform",
        lambda low, high: low + (high - low) * chance,
    )
    roster = ScriptedRoster(max_lifetime=100.0)

    entry = roster.endpoint.new_entry(roster.now)

    assert entry.expires_at - roster.now == pytest.approx(80.0 + 20.0 * chance)


# Idle time.


def test_what_is_idle_too_long_goes_down_to_the_min_size() -> None:
    """Each for itself; the last ones stay, however long."""
    roster = ScriptedRoster(max_idle=60.0, min_size=2, max_size=5)
    for waiter in roster.fill(5):
        roster.release(waiter)

    roster.pass_time(60.0)
    assert roster.reasons == [Reason.IDLE_TIME] * 3

    roster.pass_time(600.0)
    assert roster.size() == 2
    assert not roster.begun


def test_what_was_used_meanwhile_stays() -> None:
    """Idle time counts from the release."""
    roster = ScriptedRoster(max_idle=60.0, min_size=0)
    first, second = roster.fill(2)
    roster.release(first)
    roster.now += 30.0
    roster.release(second)

    roster.pass_time(30.0)

    assert list(roster.endpoint.shelf) == [second.conn]


def test_no_idle_time_is_no_end() -> None:
    """`max_idle=None` means no limit."""
    roster = ScriptedRoster(max_idle=None, min_size=0, max_lifetime=None)
    for waiter in roster.fill(3):
        roster.release(waiter)

    due = roster.pass_time(1e9)

    assert roster.size() == 3
    assert due == math.inf


# What exceptions in the middle of a move left behind.


def test_an_idle_entry_off_the_shelf_is_taken_back() -> None:
    """It costs a connection, not a place in the pool."""
    roster = ScriptedRoster(max_idle=None, max_size=1)
    (holder,) = roster.fill(1)
    roster.release(holder)
    roster.endpoint.shelf.clear()

    roster.upkeep(roster.now)
    while roster.jobs:
        roster.jobs.popleft()()

    assert roster.reasons == [Reason.ABANDONED]
    assert roster.count(State.CONNECTING) == 1


@pytest.mark.parametrize("finder", ["upkeep", "next in line"])
def test_a_connection_that_its_holder_lost_is_told_of_once(finder: str) -> None:
    """Whoever finds out: upkeep, or the next who has to wait."""
    roster = ScriptedRoster(max_idle=None, max_size=1)
    (holder,) = roster.fill(1)
    hold = holder.hold
    del holder
    gc.collect()

    roster.is_disturbed = True
    if finder == "upkeep":
        roster.upkeep(roster.now)
    else:
        roster.join(roster.new_hold(), roster.now, again=False)
    roster.act()
    roster.upkeep(roster.now)
    roster.act()

    (warning,) = roster.warnings
    assert repr(hold) in warning
    assert roster.reasons == []


def test_an_idle_entry_without_a_connection_is_taken_back() -> None:
    """There is nothing to close, and the place is free again."""
    roster = ScriptedRoster(max_idle=None, max_size=1)
    (holder,) = roster.fill(1)
    roster.release(holder)
    roster.endpoint.shelf.clear()
    holder.conn = None

    roster.upkeep(roster.now)
    while roster.jobs:
        roster.jobs.popleft()()

    assert roster.closed == []
    assert roster.count(State.CONNECTING) == 1


# When to come again.


def test_a_pool_without_limits_needs_no_upkeep() -> None:
    """Nothing wakes a process that has nothing to do."""
    roster = ScriptedRoster(max_lifetime=None, max_idle=None)
    assert roster.pass_time(0.0) == math.inf

    (holder,) = roster.fill(1)
    assert roster.pass_time(0.0) == math.inf

    roster.release(holder)
    assert roster.pass_time(0.0) == math.inf


def test_upkeep_comes_when_the_first_is_due() -> None:
    """The nearest of lifetimes and idle times."""
    roster = ScriptedRoster(max_lifetime=100.0, max_idle=60.0, min_size=0)
    first, second = roster.fill(2)
    roster.release(first)
    roster.release(second)
    assert roster.pass_time(10.0) == roster.now + 50.0

    roster.acquire()
    assert roster.pass_time(50.0) == pytest.approx(roster.now + 40.0)


def test_upkeep_comes_in_time_for_what_is_in_use_now() -> None:
    """Whenever it is released, its idle time cannot be over before."""
    roster = ScriptedRoster(max_lifetime=None, max_idle=60.0)
    held = roster.fill(1)

    due = roster.pass_time(10.0)

    assert roster.now < due <= roster.now + 60.0
    assert len(roster.holds()) == len(held)


def test_upkeep_comes_when_a_connect_has_taken_too_long() -> None:
    """The limit of a connect counts from when it was planned."""
    roster = ScriptedRoster()
    roster.acquire()

    due = roster.pass_time(2.0)

    assert due == roster.now - 2.0 + roster.endpoint.connect_limit


def test_upkeep_comes_for_the_next_probe() -> None:
    """Not before its pause is over."""
    roster = ScriptedRoster(grace=None)
    roster.acquire()
    roster.refuse()

    assert roster.pass_time(0.0) == roster.endpoint.health.retry_at


def test_upkeep_comes_when_the_grace_is_over() -> None:
    """So that who waits is refused in time, though the probe is later."""
    roster = ScriptedRoster(grace=5.0)
    roster.acquire()
    roster.refuse()
    roster.endpoint.health.retry_at = roster.now + 60.0

    assert roster.pass_time(1.0) == roster.now + 4.0


def test_upkeep_that_kept_the_last_ones_comes_again_after_the_idle_time() -> None:
    """It does not come at once, again and again."""
    roster = ScriptedRoster(max_idle=60.0, max_lifetime=None)
    (holder,) = roster.fill(1)
    roster.release(holder)

    assert roster.pass_time(100.0) == roster.now + 60.0


@pytest.mark.parametrize("max_idle", [0.0, 0.2])
def test_upkeep_comes_once_a_second_at_most(max_idle: float) -> None:
    """However small a limit is."""
    roster = ScriptedRoster(max_idle=max_idle, max_lifetime=0.5)
    held = roster.fill(1)

    assert roster.pass_time(10.0) >= roster.now + 1.0
    assert len(roster.holds()) == len(held)


def test_upkeep_does_not_come_for_a_probe_that_is_under_way() -> None:
    """A black hole keeps a prober for seconds: nothing is due until it ends."""
    roster = ScriptedRoster(grace=None, min_size=0)
    roster.acquire()
    roster.refuse()
    roster.pass_time(2.0)
    assert len(roster.begun) == 1

    due = roster.pass_time(0.1)

    assert due >= roster.now + 1.0


def test_upkeep_does_not_come_to_a_closed_pool() -> None:
    """After an outage too, nothing is due any more."""
    roster = ScriptedRoster()
    roster.acquire()
    roster.refuse()
    roster.close()

    assert roster.pass_time(10.0) == math.inf


def test_upkeep_that_gave_a_connect_up_is_not_due_at_once() -> None:
    """The time it returns is one to come."""
    roster = ScriptedRoster(grace=None)
    roster.acquire()

    assert roster.pass_time(10.0) > roster.now


def test_a_pool_told_to_open_nothing_does_not_probe() -> None:
    """An arbiter's pool stays empty, also when the server was down before."""
    roster = ScriptedRoster()
    roster.line.leave(roster.acquire())
    roster.refuse()
    roster.is_filling = False

    roster.pass_time(10.0)

    assert not roster.begun


def test_upkeep_does_not_come_for_a_connect_that_nobody_wants() -> None:
    """A connect was refused, what is open lives: nothing is due, again and again."""
    roster = ScriptedRoster(max_size=3, max_idle=None, max_lifetime=None)
    held = roster.fill(2)
    waiter = roster.acquire()
    roster.refuse()
    roster.line.leave(waiter)
    roster.endpoint.health.succeeded()  # as a ping does
    for holder in held:
        roster.release(holder)

    due = roster.pass_time(10.0)

    assert not roster.begun
    assert due == math.inf

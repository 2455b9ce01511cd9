"""Deadlines: fired when due and not before, or cancelled; agreed by both sides."""

import _thread
import gc
import logging
import math
import threading
from collections.abc import Callable, Iterator

import pytest

from pgdbpool.watchdog import LONGEST_SLEEP, Watchdog
from tests.unit.scripted_timer import Timer
from tests.waiting import until


@pytest.fixture
def timer() -> Timer:
    """Give a watchdog without a thread."""
    return Timer()


@pytest.fixture
def fired() -> list[str]:
    """Give a list to write down what was fired."""
    return []


def note(fired: list[str], what: str) -> Callable[[], None]:
    """Return an action that writes down that it was done."""
    return lambda: fired.append(what)


# When it fires.


def test_nothing_fires_before_it_is_due(timer: Timer, fired: list[str]) -> None:
    """And the thread sleeps until the first is."""
    timer.at(105.0, "a", note(fired, "a"))
    timer.at(103.0, "b", note(fired, "b"))

    assert timer.fire_due() == 3.0
    assert fired == []


def test_what_is_due_fires_once(timer: Timer, fired: list[str]) -> None:
    """The rest is left, and the thread sleeps until the next."""
    timer.at(105.0, "a", note(fired, "a"))
    timer.at(103.0, "b", note(fired, "b"))
    timer.clock.now = 103.0

    assert timer.fire_due() == 2.0
    assert timer.fire_due() == 2.0
    assert fired == ["b"]


def test_without_deadlines_the_thread_sleeps_long(timer: Timer) -> None:
    """It wakes nobody up for nothing."""
    assert timer.fire_due() == LONGEST_SLEEP


@pytest.mark.parametrize("when", [1e300, math.inf])
def test_a_deadline_far_away_is_no_error(timer: Timer, when: float) -> None:
    """A lock cannot be waited for that long at once; the thread looks again."""
    timer.at(when, "a", lambda: None)

    assert timer.fire_due() == LONGEST_SLEEP


def test_a_second_deadline_of_a_key_replaces_the_first(
    timer: Timer, fired: list[str]
) -> None:
    """Whether it is earlier or later."""
    timer.at(103.0, "a", note(fired, "first"))
    timer.at(105.0, "a", note(fired, "second"))
    timer.clock.now = 104.0
    assert timer.fire_due() == 1.0

    timer.clock.now = 105.0
    timer.fire_due()
    assert fired == ["second"]


def test_later_deadlines_do_not_wake_the_thread(timer: Timer) -> None:
    """It wakes when it is due anyway: registering costs a store."""
    timer.at(103.0, "a", lambda: None)
    for number in range(100):
        timer.at(103.0 + number, number, lambda: None)

    assert timer.wakes == 1


def test_an_earlier_deadline_wakes_the_thread(timer: Timer) -> None:
    """Or it would sleep past it."""
    timer.at(105.0, "a", lambda: None)
    timer.fire_due()

    timer.at(103.0, "b", lambda: None)

    assert timer.wakes == 2


def test_the_first_deadline_after_an_idle_time_wakes_the_thread(timer: Timer) -> None:
    """It had nothing to wake up for."""
    timer.at(103.0, "a", lambda: None)
    timer.clock.now = 104.0
    timer.fire_due()

    timer.at(200.0, "b", lambda: None)

    assert timer.wakes == 2


def test_what_is_added_while_it_fires_is_not_slept_past(
    timer: Timer, fired: list[str]
) -> None:
    """An action that registers the next one, as upkeep does, is heard."""
    timer.at(103.0, "a", lambda: timer.at(104.0, "a", note(fired, "again")))
    timer.clock.now = 103.0
    assert timer.fire_due() == 1.0

    timer.clock.now = 104.0
    timer.fire_due()
    assert fired == ["again"]


def test_an_action_that_fails_is_logged_and_harms_no_other(
    timer: Timer, fired: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The thread lives on and does the rest."""

    def fail() -> None:
        raise ValueError("broken action")

    timer.at(101.0, "a", fail)
    timer.at(101.0, "b", note(fired, "b"))
    timer.clock.now = 101.0

    with caplog.at_level(logging.ERROR, "pgdbpool.watchdog"):
        timer.fire_due()

    assert fired == ["b"]
    assert "'a'" in caplog.text
    assert "broken action" in caplog.text


class Lost:
    """Garbage that registers a deadline when it is collected."""

    def __init__(self, timer: Timer) -> None:
        self.me = self
        self.timer = timer

    def __del__(self) -> None:
        """Do what a finalizer may: anything."""
        self.timer.at(2e9, id(self), lambda: None)


def test_a_collection_while_it_looks_does_it_no_harm(
    timer: Timer, fired: list[str]
) -> None:
    """Finalizers run at any allocation, and the thread that looks allocates."""
    for number in range(2000):
        timer.at(1e9 + number, number, lambda: None)
    timer.at(0.0, "a", note(fired, "a"))
    threshold = gc.get_threshold()
    gc.collect()
    gc.disable()
    Lost(timer)
    gc.set_threshold(1000, 1, 1)
    gc.enable()
    try:
        timer.fire_due()
    finally:
        gc.set_threshold(*threshold)

    assert fired == ["a"]


# Fire or cancel, never both.


def test_what_was_cancelled_never_fires(timer: Timer, fired: list[str]) -> None:
    """And cancel says that it was in time."""
    timer.at(101.0, "a", note(fired, "a"))

    assert timer.cancel("a") is True

    timer.clock.now = 101.0
    timer.fire_due()
    assert fired == []


def test_what_was_fired_cannot_be_cancelled(timer: Timer) -> None:
    """And cancel says so."""
    timer.at(101.0, "a", lambda: None)
    timer.clock.now = 101.0
    timer.fire_due()

    assert timer.cancel("a") is False


def test_who_cancels_too_late_waits_until_the_firing_is_over(timer: Timer) -> None:
    """The descriptor may not be reused while it is being shut down."""
    order: list[str] = []
    entered, may_go_on = threading.Event(), threading.Event()

    def fire() -> None:
        entered.set()
        may_go_on.wait(10.0)
        order.append("fired")

    def cancel() -> None:
        order.append(f"cancelled {timer.cancel('a')}")

    timer.at(101.0, "a", fire)
    timer.clock.now = 101.0
    threads = [threading.Thread(target=timer.fire_due), threading.Thread(target=cancel)]
    threads[0].start()
    assert entered.wait(10.0)
    threads[1].start()
    assert order == []
    may_go_on.set()
    for thread in threads:
        thread.join()

    assert order == ["fired", "cancelled False"]


def test_a_deadline_cancelled_between_look_and_fire_does_not_fire(
    timer: Timer, fired: list[str]
) -> None:
    """Both sides take it out of the dictionary: one of them gets it."""
    timer.at(101.0, "a", note(fired, "a"))
    timer.cancel("a")

    timer._fire("a")

    assert fired == []


# The thread.


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    """Give a watchdog with its thread, which is ended after the test."""
    watchdog = Watchdog()
    yield watchdog
    end(watchdog)


def end(watchdog: Watchdog) -> None:
    """Let the thread die: of an exception that ends threads silently."""
    watchdog._deadlines.clear()
    watchdog.at(0.0, "end", _thread.exit)
    until(lambda: watchdog._alarm is None)


def test_the_thread_is_started_by_the_first_deadline(watchdog: Watchdog) -> None:
    """Not before: a process that never blocks has no thread."""
    assert watchdog._alarm is None
    done = threading.Event()

    watchdog.at(0.0, "a", done.set)

    assert done.wait(10.0)


def test_a_sleeping_thread_is_woken_by_what_is_due_earlier(watchdog: Watchdog) -> None:
    """It does not sleep for an hour first."""
    watchdog.at(watchdog.clock() + 3600.0, "a", lambda: None)
    done = threading.Event()

    watchdog.at(0.0, "b", done.set)

    assert done.wait(10.0)


def test_a_thread_that_died_is_started_by_the_next_deadline(
    watchdog: Watchdog,
) -> None:
    """It had nothing more to do, and now it has."""
    watchdog.at(0.0, "a", lambda: None)
    end(watchdog)
    done = threading.Event()

    watchdog.at(0.0, "b", done.set)

    assert done.wait(10.0)


def test_a_thread_that_dies_leaves_no_deadline_behind(watchdog: Watchdog) -> None:
    """What it had to do is done by the next: a blocked call may depend on it."""
    later = threading.Event()
    watchdog.at(watchdog.clock() + 0.05, "kept", later.set)

    watchdog.at(0.0, "end", _thread.exit)

    assert later.wait(10.0)


def test_many_threads_add_and_cancel_and_the_thread_survives(
    watchdog: Watchdog,
) -> None:
    """Each deadline is either cancelled or fired: the two numbers add up."""
    fired: list[int] = []
    cancelled: list[int] = []

    def work(first: int) -> None:
        for number in range(first, first + 300):
            watchdog.at(
                watchdog.clock(), number, lambda number=number: fired.append(number)
            )
            if watchdog.cancel(number):
                cancelled.append(number)

    threads = [threading.Thread(target=work, args=(n * 300,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(fired + cancelled) == list(range(1200))


def test_forgetting_leaves_nothing_of_the_parent(
    timer: Timer, fired: list[str]
) -> None:
    """A forked child has neither its deadlines, nor its thread, nor its locks."""
    timer.at(101.0, "a", note(fired, "a"))
    timer._lock.acquire()
    timer._firing.acquire()
    assert timer.wakes == 1

    timer.forget()

    assert timer.cancel("a") is False
    timer.clock.now = 101.0
    assert timer.fire_due() == LONGEST_SLEEP
    assert fired == []
    timer.at(200.0, "b", lambda: None)
    assert timer.wakes == 2

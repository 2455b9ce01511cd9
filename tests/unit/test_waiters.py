"""The line: first come, first served; woken once, or out of time, never both."""

import _thread
import sys
from collections.abc import Iterator

import pytest

from pgdbpool.endpoint.entry import Hold
from pgdbpool.waiters import Line, Waiter
from tests.waiting import until


def hold() -> Hold:
    """Return a hold of the calling thread."""
    return Hold(0.0, sys._getframe(), None, True)


@pytest.fixture
def line() -> Line:
    """Give an empty line."""
    return Line()


@pytest.fixture
def three(line: Line) -> list[Waiter]:
    """Give three waiters who stand in line in this order."""
    waiters = [Waiter(hold()) for _ in range(3)]
    for waiter in waiters:
        line.join(waiter, again=False)
    return waiters


def served(line: Line) -> Iterator[Waiter]:
    """Yield the waiters as they are served."""
    while line:
        yield line.popleft()


def test_who_came_first_is_served_first(line: Line, three: list[Waiter]) -> None:
    """The line is served in order of arrival."""
    assert list(served(line)) == three


def test_who_was_served_a_dead_connection_stands_at_the_head(
    line: Line, three: list[Waiter]
) -> None:
    """Bad luck does not send anyone to the end of the line."""
    unlucky = Waiter(hold())

    line.join(unlucky, again=True)

    assert list(served(line)) == [unlucky, *three]


def test_who_leaves_is_passed_over(line: Line, three: list[Waiter]) -> None:
    """The others keep their order."""
    line.leave(three[1])

    assert list(served(line)) == [three[0], three[2]]


def test_leaving_twice_is_leaving_once(line: Line, three: list[Waiter]) -> None:
    """Who is not in line any more can leave without harm."""
    line.leave(three[0])
    line.leave(three[0])

    assert len(line) == 2


def test_an_empty_line_is_false(line: Line, three: list[Waiter]) -> None:
    """The funnel asks for nothing but the truth value of the line."""
    assert bool(line)

    for waiter in three:
        line.leave(waiter)

    assert not line


def test_a_waiter_begins_with_nothing() -> None:
    """Whoever was not woken was given nothing."""
    waiter = Waiter()

    assert (waiter.conn, waiter.hold, waiter.is_awake) == (None, None, False)


def test_a_sleep_without_a_wake_ends_in_time() -> None:
    """Who is not woken wakes by itself, and knows that nobody woke it."""
    waiter = Waiter()

    waiter.sleep(0.001)

    assert not waiter.is_awake


@pytest.mark.parametrize("seconds", [0.0, -1.0, -1e300])
def test_no_time_is_no_sleep(seconds: float) -> None:
    """A deadline in the past does not become an endless sleep."""
    Waiter().sleep(seconds)


@pytest.mark.parametrize("seconds", [None, 1e300, float("inf"), 60.0])
def test_a_wake_before_the_sleep_is_not_lost(seconds: float | None) -> None:
    """Who is woken before it sleeps does not sleep, whatever its limit."""
    waiter = Waiter()

    waiter.wake()
    waiter.sleep(seconds)

    assert waiter.is_awake


def test_a_second_wake_does_nothing() -> None:
    """Being dismissed after being served is no error."""
    waiter = Waiter()

    waiter.wake()
    waiter.wake()

    assert waiter.is_awake


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_sleeping_waiter_is_woken(seconds: float | None) -> None:
    """The giver ends the sleep of another thread, with and without a limit."""
    waiter = Waiter()
    ended: list[bool] = []

    def sleep() -> None:
        waiter.sleep(seconds)
        ended.append(waiter.is_awake)

    _thread.start_new_thread(sleep, ())
    waiter.wake()

    until(lambda: ended)
    assert ended == [True]


def test_everyone_dismissed_wakes_with_nothing(line: Line, three: list[Waiter]) -> None:
    """Nobody stays behind in the line when it is dismissed."""
    line.dismiss()

    assert not line
    assert all(waiter.is_awake and waiter.conn is None for waiter in three)

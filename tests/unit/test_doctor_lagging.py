"""The doctor measures lag as a pool does: by positions over time."""

import threading
from collections.abc import Iterator, Sequence
from time import monotonic

import pytest

from pgdbpool.doctor.lagging import STILL, Lag, Mark, Written, follow

MARK = Mark("7", 1000, at=100.0)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def followed(
    positions: Sequence[int | None], at: float = 100.25, deadline: float = 105.0
) -> Lag | None:
    """Return the lag of a standby that answers so, and then stays where it is."""
    clock = Clock(at)
    told: Iterator[int | None] = iter(positions)
    last = positions[-1]
    return follow(lambda: next(told, last), MARK, deadline, clock, clock.sleep)


@pytest.mark.parametrize("position", [1000, 1001, 10**12])
def test_who_has_replayed_it_already_has_no_lag(position: int) -> None:
    """However long the way to it took, and however old its last commit is."""
    assert followed([position], at=103.0) == Lag(0.0, 0, reached=True)


def test_the_lag_is_the_time_it_takes_to_replay_what_was_written() -> None:
    """Counted from when the primary was asked."""
    lag = followed([10, 500, 900, 1000])
    assert lag == Lag(pytest.approx(0.31), 0, reached=True)


def test_who_stands_still_is_not_waited_for() -> None:
    """It has a lag of that long at least, and it is told what is left."""
    lag = followed([10])
    assert lag == Lag(pytest.approx(0.25 + STILL, abs=0.03), 990, reached=False)


def test_who_moves_is_waited_for_until_the_deadline() -> None:
    """A busy standby needs longer than a second, and is no sick one."""
    slow = followed(range(0, 800, 8), deadline=105.0)
    assert slow is not None
    assert slow.reached is False
    assert slow.seconds > 3.0
    arrived = followed(range(0, 2000, 8), deadline=105.0)
    assert arrived is not None
    assert arrived.reached is True
    assert arrived.seconds > STILL


@pytest.mark.parametrize(
    ("positions", "deadline"), [([10], 100.5), ([10], 99.0), ([None], 105.0)]
)
def test_what_is_not_known_is_no_lag(
    positions: list[int | None], deadline: float
) -> None:
    """In too short a time, or where nothing was replayed yet."""
    assert followed(positions, deadline=deadline) is None


def test_a_standby_that_does_not_say_for_once_stands_still() -> None:
    """It is asked again."""
    lag = followed([10, None, 1000])
    assert lag is not None
    assert lag.reached is True


def test_a_mark_is_that_of_the_own_cluster() -> None:
    """Or of who does not say of which it is."""
    written = Written()
    written.expect(["a", "b", "c"])
    written.tell("a", MARK)
    written.tell("b", Mark("8", 5000, at=100.0))
    written.tell("c", None)
    assert written.of("7", 0.0) == MARK
    assert written.of("9", monotonic() + 60.0) is None
    assert written.of(None, 0.0) == Mark("8", 5000, at=100.0)


def test_only_the_first_that_is_told_counts() -> None:
    """Whoever ends tells once more that it is no primary."""
    written = Written()
    written.expect(["a"])
    written.tell("a", None)
    written.tell("a", MARK)
    assert written.of("7", monotonic() + 60.0) is None


@pytest.mark.parametrize("mark", [MARK, None])
def test_a_standby_waits_until_all_have_told(mark: Mark | None) -> None:
    """And no longer: not for who is silent, where the primary has spoken."""
    written = Written()
    written.expect(["a", "b"])
    if mark is None:
        written.tell("b", None)
    found: list[Mark | None] = []
    waiter = threading.Thread(
        target=lambda: found.append(written.of("7", monotonic() + 60.0))
    )
    waiter.start()
    written.tell("a", mark)
    waiter.join(30.0)
    assert found == [mark]


def test_who_is_silent_is_waited_for_until_the_deadline() -> None:
    """It could be the primary."""
    written = Written()
    written.expect(["a"])
    begun_at = monotonic()
    assert written.of("7", begun_at + 0.05) is None
    assert monotonic() - begun_at >= 0.05

"""A watchdog without a thread, and a clock that only the test moves."""

import _thread

from pgdbpool.watchdog import Watchdog


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Timer(Watchdog):
    """A watchdog whose thread is the test: `fire_due` is what it would do.

    Attributes:
        clock: moved by the test.
        wakes: how often the thread would have been started or woken.
    """

    clock: Clock

    def __init__(self) -> None:
        self.wakes = 0
        super().__init__(Clock())

    def _wake_by(self, when: float) -> None:
        self.wakes += 1
        self._next = min(self._next, when)
        self._alarm = _thread.allocate_lock()

    def fire_due(self) -> float:
        """Do what the thread does when it wakes; return how long it sleeps then."""
        return self._fire_due()

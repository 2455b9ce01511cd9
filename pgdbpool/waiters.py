"""The line: threads that wait for a connection, first come, first served.

Each waiter sleeps on a raw lock of its own, which the giver releases while it
holds the pool's lock. So "was given one" and "ran out of time" cannot both
happen, whatever exception arrives: `threading.Condition` has a gap there.
"""

import _thread
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.endpoint.entry import Hold


class Waiter:
    """One thread in line; all but `sleep` needs the pool's lock.

    Attributes:
        hold: who waits; None for one who waits for an event, not a connection.
        conn: what it was given.
        is_awake: whether it was given something, or told to go.
    """

    __slots__ = ("_bell", "conn", "hold", "is_awake")

    def __init__(self, hold: "Hold | None" = None) -> None:
        self.hold = hold
        self.conn: PooledConnection | None = None
        self.is_awake = False
        self._bell = _thread.allocate_lock()
        self._bell.acquire()

    def sleep(self, seconds: float | None) -> None:
        """Block until woken, at most ``seconds``; without the pool's lock."""
        if seconds is None:
            self._bell.acquire()
        else:
            self._bell.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))

    def wake(self) -> None:
        """End the sleep, once."""
        if not self.is_awake:
            self.is_awake = True
            self._bell.release()


class Line(deque[Waiter]):
    """The waiters in order of arrival; the pool's lock guards it."""

    def join(self, waiter: Waiter, *, again: bool) -> None:
        """Stand at the end, or at the head who was served a dead connection."""
        if again:
            self.appendleft(waiter)
        else:
            self.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Step out of the line, if still in it."""
        if waiter in self:
            self.remove(waiter)

    def drop(self, hold: "Hold") -> None:
        """Take whoever waits for this hold out of the line."""
        for waiter in tuple(self):
            if waiter.hold is hold:
                self.remove(waiter)

    def dismiss(self) -> None:
        """Wake everyone with nothing: each finds out why by itself."""
        while self:
            self.popleft().wake()

"""Wakes an object up after a pause, as long as there is that object."""

import functools
import weakref
from collections.abc import Callable

from pgdbpool.watchdog import Watchdog


class Alarm:
    """Calls a method once, on the timer thread, for nobody if its object is gone.

    Args:
        timer: the timer.
        call: a bound method, kept weakly; it must not block.

    Attributes:
        is_set: whether the last pause is known to the timer.
        is_resting: rings no more; to be ended by whoever sets it next.
    """

    def __init__(self, timer: Watchdog, call: Callable[[], None]) -> None:
        self._timer = timer
        self._call = weakref.WeakMethod(call)
        self.is_resting = False
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child, where the timer has forgotten all."""
        self._key = object()
        self.is_set = False

    def set(self, pause: float | None) -> None:
        """Ring after a pause of so many seconds and not before; None: not at all."""
        self.is_set = not self.is_resting
        if pause is None or self.is_resting:
            self._key = object()  # what is set for the old one finds nobody
            return
        ring = functools.partial(_ring, weakref.ref(self), self._key)
        try:
            self._timer.at(self._timer.clock() + pause, self._key, ring)
        except RuntimeError:  # the process can have no more threads, nor a timer
            self.is_set = False

    def rest(self) -> None:
        """Ring no more."""
        self.is_resting = True
        self.set(None)

    def ring(self, key: object) -> None:
        """Call, unless what rings was set before the alarm was last put off."""
        call = self._call()
        if call is not None and key is self._key:
            call()


def _ring(alarm: "weakref.ref[Alarm]", key: object) -> None:
    alive = alarm()
    if alive is not None:
        alive.ring(key)

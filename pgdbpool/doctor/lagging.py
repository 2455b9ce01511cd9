"""How far a standby is behind, measured as a pool does: by positions over time.

The thread that asks the primary tells the others how far it had written, and when.
Theirs ask a standby until it has replayed as much: that takes as long as the standby is
behind. The age of its last commit would say nothing, where nobody has committed since.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

# How long a standby may stand still before it is not waited for any more, seconds.
STILL: Final = 1.0
POLL: Final = 0.02


@dataclasses.dataclass(frozen=True)
class Mark:
    """How far a primary had written, and when.

    Attributes:
        system: the number of its cluster, None if unknown.
        position: in bytes of WAL.
        at: monotonic seconds.
    """

    system: str | None
    position: int
    at: float


@dataclasses.dataclass(frozen=True)
class Lag:
    """How far a standby is behind.

    Attributes:
        seconds: how long it took to replay a mark, or has taken till now.
        left: bytes of WAL that it has yet to replay.
        reached: whether it has replayed the mark.
    """

    seconds: float
    left: int
    reached: bool


class Written:
    """The marks of a cluster's primaries; threads tell and wait for them here."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the two below
        self._asked: set[Hashable] = set()
        self._marks: list[Mark] = []

    def expect(self, names: Iterable[Hashable]) -> None:
        """Take note of servers that will be asked."""
        with self._changed:
            self._asked |= set(names)

    def tell(self, name: Hashable, mark: Mark | None) -> None:
        """Take note of what a server has written; None: it is no primary.

        It may be told again, and only the first counts.
        """
        with self._changed:
            if name in self._asked and mark is not None:
                self._marks.append(mark)
            self._asked.discard(name)
            self._changed.notify_all()

    def of(self, system: str | None, deadline: float) -> Mark | None:
        """Return the mark of the primary of a cluster. Blocks until ``deadline``.

        None where all have told and none is, or it is not known in time.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._marks_locked(system) or not self._asked,
                max(0.0, deadline - monotonic()),
            )
            marks = self._marks_locked(system)
            return max(marks, key=lambda mark: mark.position, default=None)

    def _marks_locked(self, system: str | None) -> list[Mark]:
        """Return the marks of a cluster, and those that could be its own."""
        return [
            mark
            for mark in self._marks
            if mark.system == system or None in (mark.system, system)
        ]


def follow(
    ask: Callable[[], int | None],
    mark: Mark,
    deadline: float,
    clock: Callable[[], float] = monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lag | None:
    """Measure how far a standby is behind.

    Blocks until it has replayed the mark, has stood still for a second, or
    ``deadline``.

    Args:
        ask: returns the position that it has replayed; None if it cannot say.
        mark: what is to be replayed.
        deadline: monotonic seconds.
        clock: returns those.
        sleep: waits for seconds.

    Returns:
        None where nothing is known: nothing was replayed yet, or the time was too
        short to tell.
    """
    position = ask()
    begun_at = moved_at = clock()
    if position is None:
        return None
    if position >= mark.position:
        return Lag(0.0, 0, reached=True)
    while (now := clock()) < min(deadline, moved_at + STILL):
        sleep(POLL)
        found = ask() or position
        if found >= mark.position:
            return Lag(clock() - mark.at, 0, reached=True)
        if found > position:
            position, moved_at = found, clock()
    if now - begun_at < STILL:
        return None
    return Lag(now - mark.at, mark.position - position, reached=False)

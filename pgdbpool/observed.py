"""A pool that is observed: how long its waits and holds take, and which ones last.

Only pools with ``observe`` or ``leak_warn_after`` are of this kind; the others pay
nothing for it.
"""

import logging
import math
import sys
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from pgdbpool import greenlets
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.stack import lines_of, stack_of
from pgdbpool.endpoint.standing import Finding
from pgdbpool.errors import PoolError
from pgdbpool.histograms import BOUNDS, Histogram, Routes
from pgdbpool.looking import Looking, Observer
from pgdbpool.snapshot import Measured, RouteTimings, Timings, session_of, thread_name

logger = logging.getLogger(__name__)

_frame = sys._getframe  # noqa: SLF001 - the one way to learn who acquires

# When a warning that no thread could be had for is tried again, seconds.
RETRY: Final = 1.0


@dataclass
class Leak:
    """A hold that lasts, and is to be told of.

    Attributes:
        hold: whose.
        held: for how long, seconds, when it was found.
        backend, transaction: of its session, as of then.
        ended: for how long it was held in all; None: it has not come back.
    """

    hold: Hold
    held: float
    backend: int | None
    transaction: str
    ended: float | None = None


class Observed(Looking):
    """Measures holds and names those that last.

    Attributes:
        observers: who is told.
        routes: how long waits and holds took, by route; under the lock.
        connects: how long connects took; under the lock.
    """

    observers: tuple[Observer, ...] = ()
    # What ``super()`` would find, which takes long to find it, in each hold twice.
    _serve_unobserved: Any
    _release_unobserved: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        inherited: Any = super()
        cls._serve_unobserved = inherited.serve
        cls._release_unobserved = inherited.release

    def _start_anew(self) -> None:
        super()._start_anew()
        limit = self.settings.leak_warn_after
        self._traces = limit is not None
        self._patience = math.inf if limit is None else limit
        # No timer looks then, and there may be no acquire before it ends.
        self._is_late = self._traces and not self.settings.threaded
        self.routes = Routes()
        self.connects = Histogram()
        # Those of whom no warning is written yet, by their holds, and in their order;
        # under the lock.
        self._leaks: dict[Hold, Leak] = {}
        self._untold: deque[Leak] = deque()

    # Acquire and release.

    def serve(self, hold: Hold, timeout: float | None) -> PooledConnection:
        """Find a connection for a new hold. Blocks; raises as `Holding.serve` does."""
        asked = hold.since
        try:
            conn: PooledConnection = self._serve_unobserved(hold, timeout)
        except PoolError as error:
            self._tell("acquired", hold, monotonic() - asked, error)
            raise
        try:
            now = monotonic()
            hold.waited = now - asked
            hold.route = hold.request
            hold.is_reported = False
            if self._traces:
                hold.stack = stack_of(_frame(1), hold.code)
                if now + self._patience < self._upkeep_at:
                    self._come_by(now + self._patience)
            hold.began = now  # from here on all of it is there
            if self.observers:
                self._tell("acquired", hold, hold.waited, None)
        except BaseException:
            self.release(conn, hold, keep=False)
            raise
        return conn

    def release(self, conn: PooledConnection, hold: Hold, *, keep: bool = True) -> bool:
        """End a hold, once; see `Releasing.release`."""
        if self._is_late and not self._is_locked_by_me():
            with self._lock:
                self._come_by(self._find_leaks(monotonic()))
        if not self._release_unobserved(conn, hold, keep=keep):
            return False
        if hold.entry.hold is hold:  # a finalizer's is put off, and comes back here
            return True
        try:
            held = monotonic() - hold.began
        except AttributeError:  # an exception came before it had begun
            return True
        with self._lock:
            self.routes.add(hold, held)
        if hold.is_reported:
            self._come_back(hold, held)
        if self.observers:
            self._tell("released", hold, held)
        if self._is_late and self._untold:  # not before: logging may fail, or take long
            self._tell_of_leaks()
        return True

    def _tell(self, event: str, *what: object) -> None:
        """Tell all observers; what goes wrong with one is nobody else's trouble."""
        for observer in self.observers:
            try:
                getattr(observer, event)(*what)
            except Exception:
                logger.exception("pool %r: %r failed", self.name, observer)

    def _measured(self) -> Measured:
        routes = {
            route: RouteTimings(_timings_of(waits), _timings_of(holds))
            for route, waits, holds in self.routes.items()
        }
        return routes, _timings_of(self.connects)

    # Connects.

    def _take_in(
        self,
        entry: Entry,
        conn: PooledConnection,
        finding: Finding | None,
        seconds: float,
    ) -> None:
        super()._take_in(entry, conn, finding, seconds)
        with self._lock:
            self.connects.add(seconds)
        self._tell("connected", entry.endpoint, seconds, None)

    def _not_connected(
        self, endpoint: Endpoint, seconds: float, error: BaseException
    ) -> None:
        self._tell("connected", endpoint, seconds, error)

    # Leaks.

    def _keep_up(self) -> None:
        try:
            super()._keep_up()
        finally:  # also if there was no thread for what else is due
            if self._traces:
                self._look_for_leaks()

    def _look_for_leaks(self) -> None:
        """Have those told of who hold for too long; see to it that it comes again."""
        with self._lock:
            due = self._find_leaks(monotonic())
        self._come_by(due)
        if not self._untold:
            return
        if not self.settings.threaded:
            self._tell_of_leaks()
            return
        try:
            # Reading sources and logging are I/O, and this may be the timer thread.
            greenlets.start(self._tell_of_leaks)
        except RuntimeError:  # the process can have no more threads
            self._come_by(monotonic() + RETRY)

    def _find_leaks(self, now: float) -> float:
        """Take note of the holds to warn of; return when to look again."""
        due = math.inf
        for endpoint in self._roster.endpoints:
            for entry in endpoint.entries:
                hold = entry.hold
                began: float | None = getattr(hold, "began", None)
                if hold is None or began is None or hold.is_reported:
                    continue
                if began + self._patience <= now:
                    hold.is_reported = True
                    leak = Leak(hold, now - began, *session_of(entry))
                    self._leaks[hold] = leak
                    self._untold.append(leak)
                else:
                    due = min(due, began + self._patience)
        return due

    def _tell_of_leaks(self) -> None:
        """Write the warnings that are due, each before the word of its hold's end."""
        while True:
            with self._lock:
                if not self._untold:
                    return
                leak = self._untold.popleft()
            try:
                self._warn_of(leak)
            finally:
                with self._lock:
                    del self._leaks[leak.hold]
            if leak.ended is not None:
                self._tell_of_end(leak.hold, leak.ended)

    def _warn_of(self, leak: Leak) -> None:
        logger.warning(
            "pool %r: a connection has been held for %.1f s (%r; thread %s, "
            "backend %s, transaction %s); the acquiring stack, innermost last:"
            "\n  %s",
            self.name,
            leak.held,
            leak.hold,
            thread_name(leak.hold.thread),
            leak.backend,
            leak.transaction,
            "\n  ".join(lines_of(leak.hold.stack)),
        )

    def _come_back(self, hold: Hold, held: float) -> None:
        """Tell of the end of a hold that was warned of, or have it told after that."""
        with self._lock:
            leak = self._leaks.get(hold)
            if leak is not None:
                leak.ended = held
        if leak is None:
            self._tell_of_end(hold, held)

    def _tell_of_end(self, hold: Hold, held: float) -> None:
        logger.warning(
            "pool %r: a connection came back after all, after %.1f s (%r)",
            self.name,
            held,
            hold,
        )


def _timings_of(histogram: Histogram) -> Timings:
    return Timings(BOUNDS, tuple(histogram.counts), histogram.total)

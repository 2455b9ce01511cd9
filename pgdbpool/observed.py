"""A pool that is observed: how long its waits and holds take, and which ones last.

Only pools with ``observe`` or ``leak_warn_after`` are of this kind; the others pay
nothing for it.
"""

import functools
import logging
import math
import sys
from time import monotonic

from pgdbpool import greenlets
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.stack import lines_of, stack_of
from pgdbpool.endpoint.standing import Finding
from pgdbpool.errors import PoolError
from pgdbpool.histograms import BOUNDS, Histogram, Routes
from pgdbpool.looking import Looking, Observer
from pgdbpool.snapshot import Measured, RouteTimings, Timings, session_of, thread_name

logger = logging.getLogger(__name__)


class Observed(Looking):
    """Measures holds and names those that last.

    Attributes:
        observers: who is told.
        routes: how long waits and holds took, by route; under the lock.
        connects: how long connects took; under the lock.
    """

    observers: tuple[Observer, ...] = ()

    def _start_anew(self) -> None:
        super()._start_anew()
        limit = self.settings.leak_warn_after
        self._traces = limit is not None
        self._patience = math.inf if limit is None else limit
        self.routes = Routes()
        self.connects = Histogram()

    # Acquire and release.

    def serve(self, hold: Hold, timeout: float | None) -> PooledConnection:
        """Find a connection for a new hold. Blocks; raises as `Holding.serve` does."""
        asked = hold.since
        try:
            conn = super().serve(hold, timeout)
        except PoolError as error:
            self._tell("acquired", hold, monotonic() - asked, error)
            raise
        try:
            now = monotonic()
            hold.waited = now - asked
            hold.route = hold.request
            hold.is_reported = False
            if self._traces:
                hold.stack = stack_of(sys._getframe(1), hold.code)  # noqa: SLF001 - who acquires
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
        if self._is_locked_by_me():  # a finalizer's is put off, and comes back here
            return super().release(conn, hold, keep=keep)
        if not super().release(conn, hold, keep=keep):
            return False
        try:
            held = monotonic() - hold.began
        except AttributeError:  # an exception came before it had begun
            return True
        with self._lock:
            self.routes.add(hold, held)
        if hold.is_reported:
            logger.info(
                "pool %r: a connection came back after all, after %.1f s (%r)",
                self.name,
                held,
                hold,
            )
        if self.observers:
            self._tell("released", hold, held)
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

    def _connect_failed(self, entry: Entry, error: BaseException) -> None:
        seconds = monotonic() - entry.since
        super()._connect_failed(entry, error)
        self._tell("connected", entry.endpoint, seconds, error)

    # Leaks.

    def _keep_up(self) -> None:
        super()._keep_up()
        if not self._traces:
            return
        with self._lock:
            found, due = self._lasting(monotonic())
        self._come_by(due)
        if found:
            # Reading sources and logging are I/O, and this may be the timer thread.
            tell = functools.partial(self._warn_of, found)
            tell() if not self.settings.threaded else greenlets.start(tell)

    def _lasting(self, now: float) -> tuple[list[tuple[Entry, Hold]], float]:
        """Return the holds to warn of, and when to look again; under the lock."""
        found, due = [], math.inf
        for endpoint in self._roster.endpoints:
            for entry in endpoint.entries:
                hold = entry.hold
                began: float | None = getattr(hold, "began", None)
                if hold is None or began is None or hold.is_reported:
                    continue
                ends = began + self._patience
                if ends <= now:
                    hold.is_reported = True
                    found.append((entry, hold))
                else:
                    due = min(due, ends)
        return found, due

    def _warn_of(self, found: list[tuple[Entry, Hold]]) -> None:
        for entry, hold in found:
            backend, transaction = session_of(entry)
            logger.warning(
                "pool %r: a connection has been held for %.1f s (%r; thread %s, "
                "backend %s, transaction %s); the acquiring stack, innermost last:"
                "\n  %s",
                self.name,
                monotonic() - hold.began,
                hold,
                thread_name(hold.thread),
                backend,
                transaction,
                "\n  ".join(lines_of(hold.stack)),
            )


def _timings_of(histogram: Histogram) -> Timings:
    return Timings(BOUNDS, tuple(histogram.counts), histogram.total)

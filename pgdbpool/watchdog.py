"""One timer thread a process: it ends blocked calls and wakes upkeep in time.

psycopg2 blocks in C, and neither keepalives nor ``cancel()`` end a call to a
frozen server. Shutting its socket down from another thread does: the call
raises ``OperationalError`` at once. The thread never does I/O of its own.

Registering has to be cheap, so it is a store into a dictionary: the next time
to wake up is a lower bound, and the dictionary is scanned when that comes, not
whenever a deadline is added or removed.
"""

import _thread
import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

import psycopg2
from psycopg2 import extensions as driver

from pgdbpool import forks, greenlets, polling

logger = logging.getLogger(__name__)

LONGEST_SLEEP = 3600.0


class Watchdog:
    """Deadlines of this process, fired by one daemon thread started on demand.

    Args:
        clock: monotonic seconds.

    Attributes:
        thread: the id of the timer thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._deadlines: dict[object, tuple[float, Callable[[], None]]] = {}
        self.forget()

    def forget(self) -> None:
        """Start anew, as a forked child must: the thread is not in it."""
        # The lock guards these three.
        self._lock = threading.RLock()
        self._next = math.inf
        self._alarm: _thread.LockType | None = None
        self.thread = 0
        # Held while a deadline is taken and fired: who finds its deadline gone
        # waits here until the firing is over.
        self._firing = threading.Lock()
        self._deadlines.clear()

    def at(self, when: float, key: object, fire: Callable[[], None]) -> None:
        """Call ``fire`` on the timer thread at ``when``; it must not block.

        Does not block. A second deadline for a ``key`` replaces the first.
        """
        self._deadlines[key] = (when, fire)
        if when < self._next or self._alarm is None:
            try:
                self._wake_by(when)
            except RuntimeError:  # the process can have no more threads
                self._deadlines.pop(key, None)
                raise

    def cancel(self, key: object) -> bool:
        """Forget a deadline; False when it has been fired.

        In that case the firing is over when this returns.
        """
        if self._deadlines.pop(key, None) is not None:
            return True
        with self._firing:
            return False

    def _wake_by(self, when: float) -> None:
        with self._lock:
            self._next = min(self._next, when)
            if self._alarm is None:
                alarm = _thread.allocate_lock()
                alarm.acquire()
                greenlets.start(self._run, alarm)
                self._alarm = alarm
            elif self._alarm.locked():
                self._alarm.release()

    def _run(self, alarm: _thread.LockType) -> None:
        """Fire what is due, sleep until the next; should this die, it is restarted."""
        self.thread = threading.get_ident()
        try:
            while True:
                alarm.acquire(timeout=self._fire_due())
        finally:
            with self._lock:
                if self._alarm is alarm:
                    self._alarm = None
            if self._alarm is None and self._deadlines:
                self._wake_by(-math.inf)

    def _fire_due(self) -> float:
        """Fire what is due and return how long to sleep, in seconds."""
        # Whoever registers from here on finds infinity and raises the alarm;
        # whoever did before is in the dictionary.
        self._next = math.inf
        now = self.clock()
        # A copy, made in one go: each tuple of a list could let the collector in,
        # and what it finalizes may register deadlines.
        for key, (when, _) in self._deadlines.copy().items():
            if when <= now:
                self._fire(key)
        left = self._deadlines.copy().values()
        nearest = min((when for when, _ in left), default=math.inf)
        with self._lock:
            self._next = min(self._next, nearest)
            return min(max(self._next - self.clock(), 0.0), LONGEST_SLEEP)

    def _fire(self, key: object) -> None:
        with self._firing:
            _, fire = self._deadlines.pop(key, (0.0, None))
            if fire is None:
                return
            try:
                fire()
            except Exception:
                logger.exception("a deadline's action failed: %r", key)


watchdog = Watchdog()
forks.in_child(watchdog.forget)


class guarded:  # noqa: N801 - used as a verb, like contextlib's
    """End what the block does on a connection when it takes too long.

    Args:
        conn: the connection whose calls may block.
        limit: seconds; None for no limit.
        what: what takes so long, for the message.

    Raises:
        psycopg2.OperationalError: the limit passed; the connection is unusable.
    """

    __slots__ = ("_before", "_conn", "_fired", "_limit", "_polls", "_what")

    def __init__(self, conn: driver.connection, limit: float | None, what: str) -> None:
        self._conn = conn
        self._limit = limit
        self._what = what
        self._fired = False
        # Where there are no threads.
        self._polls: bool = getattr(conn, "polls", False)
        self._before: polling.WaitCallback = None

    def __enter__(self) -> None:
        if self._limit is None:
            return
        if self._polls:
            self._before = polling.begin(self._limit, self._fire)
        else:
            watchdog.at(watchdog.clock() + self._limit, self, self._fire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._limit is None:
            return
        if self._polls:
            polling.end(self._before)
        else:
            watchdog.cancel(self)
        if not self._fired:
            return
        if error is None or isinstance(error, psycopg2.Error):
            raise psycopg2.OperationalError(
                f"{self._what} took longer than {self._limit:g} s"
            ) from error

    def _fire(self) -> None:
        self._fired = shut_down(self._conn)


class advancing:  # noqa: N801 - as `guarded`
    """Give up one address after another that does not answer a connect.

    Under a wait callback libpq leaves its ``connect_timeout`` to the callback (manual,
    "PQconnectStartParams"), and psycogreen does not keep it. A socket that is shut
    down while it connects is a refused one: libpq goes on to the next address.

    Args:
        conn: the connection that is being made.
        limit: seconds for each address.

    Raises:
        psycopg2.OperationalError: none answered in time.
    """

    __slots__ = ("_conn", "_fired", "_is_over", "_limit")

    def __init__(self, conn: driver.connection, limit: float) -> None:
        self._conn = conn
        self._limit = limit
        self._fired = self._is_over = False

    def __enter__(self) -> None:
        self._wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        watchdog.cancel(self)
        watchdog.cancel(self)  # what was set anew while that waited for the firing
        if self._fired and isinstance(error, psycopg2.Error):
            raise psycopg2.OperationalError(
                f"no answer to a connect within {self._limit:g} s"
            ) from error

    def _wait(self) -> None:
        watchdog.at(watchdog.clock() + self._limit, self, self._fire)

    def _fire(self) -> None:
        if not self._is_over:
            self._wait()
            self._fired = shut_down(self._conn) or self._fired


def shut_down(conn: driver.connection) -> bool:
    """Shut the connection's socket down, so that calls blocked on it raise.

    Does not block and may be called from any thread. False when the connection
    had no socket any more.
    """
    with contextlib.suppress(OSError, psycopg2.Error):
        # A duplicate, because the socket object closes what it was given.
        with socket.socket(fileno=os.dup(conn.fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)
        return True
    return False

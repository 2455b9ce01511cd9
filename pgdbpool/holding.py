"""A hold, from its acquire to its release: what happens in the caller's thread."""

import _thread
import logging
import math
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType

from pgdbpool.endpoint import cleaning, session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.health import in_one_line
from pgdbpool.endpoint.state import Reason
from pgdbpool.errors import PoolError
from pgdbpool.hangups import hangups
from pgdbpool.keeper import Keeper
from pgdbpool.settings import Settings
from pgdbpool.waiters import Waiter
from pgdbpool.watchdog import guarded, watchdog

logger = logging.getLogger(__name__)

# A stale connection costs no pause before the next. When new ones are found
# unfit as well, callers pause, so that the server is not flooded.
UNPAUSED = 2
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


class Holding(Keeper):
    """Acquire and release, in the order of a hold's life.

    Args:
        name: the pool's.
        settings: the pool's.
        endpoints: makes the endpoints, anew in each forked child.
    """

    def __init__(
        self, name: str, settings: Settings, endpoints: Callable[[], list[Endpoint]]
    ) -> None:
        super().__init__(name, settings, endpoints)
        # A check hook is asked each time, whatever the ping.
        self._ping_idle = 0.0 if settings.check else settings.ping_idle
        self._is_rollback_enough = settings.reset == "rollback"
        self._is_ping_enough = self._is_rollback_enough and not settings.check

    def acquire(
        self, timeout: float | None = None, *, request: str | None = None
    ) -> PooledConnection:
        """Acquire for a block or request that ends in this thread.

        Like `getconn`, for layers above the pool: they end the hold with
        `release`, and it is known that the thread cannot release while it waits.

        Args:
            timeout: seconds; None for the pool's.
            request: what it is for, such as ``GET /report``, for messages.

        Raises:
            NestedCheckout: every holder waits as well, so none could ever end.
            PoolError: as `getconn`.
        """
        return self._acquire(timeout, sys._getframe(1), request, True)  # noqa: SLF001 - who acquires

    def acquire_at(
        self, frame: FrameType, timeout: float | None, request: str | None
    ) -> PooledConnection:
        """Acquire like `acquire`, on behalf of the caller that ``frame`` shows."""
        return self._acquire(timeout, frame, request, True)

    def _acquire(
        self,
        timeout: float | None,
        frame: FrameType,
        request: str | None,
        is_block: bool,  # noqa: FBT001 - see Hold
    ) -> PooledConnection:
        if self._is_locked_by_me():
            raise PoolError("a finalizer cannot acquire: it can run inside the pool")
        now = monotonic()
        hold = Hold(now, frame, request, is_block)
        roster = self._roster
        try:
            with self._lock:
                roster.stats.requests_num += 1
                conn = roster.take(hold, now)
            if (
                conn is not None
                and now - (entry := conn.entry).since < self._ping_idle
                and ((hangups.is_listening and entry.is_heard) or not conn.news())
            ):
                return conn
            return self._serve(hold, conn, timeout)
        except BaseException as error:
            self._withdraw(hold)
            if not isinstance(error, Exception):
                self.mend()
            raise

    def _serve(
        self, hold: Hold, conn: PooledConnection | None, timeout: float | None
    ) -> PooledConnection:
        """Find the hold a connection that is fit, within the timeout."""
        limit = self.settings.timeout if timeout is None else timeout
        asked = hold.since
        deadline = math.inf if limit is None else asked + limit
        tries = 0
        try:
            while True:
                if conn is None:
                    conn = self._stand_in_line(hold, asked, deadline, again=tries > 0)
                if self._is_fit(conn, deadline):
                    return conn
                conn = None
                tries += 1
                self._pause(tries, deadline)
        except PoolError:
            with self._lock:
                self._roster.stats.requests_errors += 1
            raise

    def _stand_in_line(
        self, hold: Hold, asked: float, deadline: float, *, again: bool
    ) -> PooledConnection:
        """Block until served; see `_serve` for what it raises."""
        roster = self._roster
        with self._lock:
            now = monotonic()
            conn = roster.take(hold, now)
            if conn is not None:
                return conn
            error = self._objection(hold, asked, now, again=again)
            if error is None:
                waiter = roster.join(hold, now, again=again)
            due = roster.refusal_due()
        self._come_by(due)
        self.act()
        if error is not None:
            raise error
        waiter.sleep(None if deadline == math.inf else deadline - monotonic())
        with self._lock:
            if waiter.conn is not None:
                return waiter.conn
            roster.line.leave(waiter)
            now = monotonic()
            roster.stats.requests_wait += now - hold.since
            error = self._report.no_connection(hold, asked, now)
        raise error

    def _objection(
        self, hold: Hold, asked: float, now: float, *, again: bool
    ) -> PoolError | None:
        """Return why this caller may not even wait."""
        roster = self._roster
        most = self.settings.max_waiting
        if not roster.is_open:
            return self._report.closed()
        if most and len(roster.line) >= most and not again:
            return self._report.line_is_full(now)
        if roster.refuses(now):
            roster.plan(now)
            return self._report.no_connection(hold, asked, now)
        if hold.is_block and roster.is_deadlocked(hold):
            return self._report.deadlock(hold)
        return None

    def _withdraw(self, hold: Hold) -> None:
        """Leave the line for an exception's sake; what was given goes back."""
        with self._lock:
            self._roster.line.drop(hold)
            conn = self._roster.given_to(hold)
        if conn is not None:
            # Nobody knows in the middle of what it was interrupted.
            self.release(conn, hold, keep=False)

    def _is_fit(self, conn: PooledConnection, deadline: float) -> bool:
        """Ping; what fails is retired. Blocks, at most ``ping_timeout``."""
        entry = conn.entry
        limit = self.settings.ping_timeout
        if deadline != math.inf:
            limit = min(limit, max(deadline - monotonic(), 0.1))
        try:
            if conn.pinged_for is not conn.hold:
                with guarded(conn, limit, "the ping"):
                    self._check_and_ping(conn)
            conn.pinged_for = None
        except Exception as error:  # noqa: BLE001 - the check hook's may be any
            self._discard(entry, conn, error)
            return False
        health = entry.endpoint.health
        if health.is_down:
            with self._lock:
                health.succeeded()
                self._roster.plan(monotonic())
            self.act()
        if entry.endpoint.wants_primary and session.is_standby(conn):
            self._retire(entry, conn, Reason.WRONG_ROLE)
            return False
        return True

    def _check_and_ping(self, conn: PooledConnection) -> None:
        if self.settings.check is not None:
            self.settings.check(conn)
            session.roll_back(conn)
            conn.cursors.clear()
        session.ping(conn)

    def _discard(
        self, entry: Entry, conn: PooledConnection, error: BaseException
    ) -> None:
        """Retire a connection that a ping or check found unfit."""
        health = entry.endpoint.health
        is_lost = conn.closed > 1  # and not closed by a check hook
        with self._lock:
            if is_lost:
                health.ping_lost(error, monotonic())
            else:
                health.note(error, monotonic())
            due = self._roster.refusal_due()
        self._come_by(due)
        logger.info(
            "pool %r: a connection is not fit: %s", self.name, in_one_line(error)
        )
        self._retire(entry, conn, Reason.PING_FAILED if is_lost else Reason.DIRTY)

    def _retire(self, entry: Entry, conn: PooledConnection, reason: Reason) -> None:
        with self._lock:
            self._roster.fail(entry, conn, reason, monotonic())
        self.act()

    def _pause(self, tries: int, deadline: float) -> None:
        if tries > UNPAUSED:
            pause = min(FIRST_PAUSE * 2 ** (tries - UNPAUSED), LONGEST_PAUSE)
            Waiter().sleep(min(pause, deadline - monotonic()))

    # Release.

    def commit(self, conn: PooledConnection, *, is_last: bool = False) -> None:
        """Commit what is open on a held connection. Blocks as long as it takes.

        Args:
            conn: the connection.
            is_last: the hold is released next. Then the ping for the first in
                line, if there is one, goes along with the COMMIT.

        Raises:
            psycopg2.errors.InFailedSqlTransaction: a statement had failed;
                all is rolled back.
            CommitUnknown: the session was lost meanwhile.
            psycopg2.Error: the driver's own; nothing is committed.
        """
        may_renew = is_last and self._is_ping_enough and bool(self._roster.line)
        session.commit(conn, self.settings.ping_timeout, may_renew=may_renew)

    def release(self, conn: PooledConnection, hold: Hold, *, keep: bool = True) -> bool:
        """End a hold, once: roll back what is open, make clean, pass on.

        Any thread may call it, any number of times. May block for a round trip
        or two, at most ``ping_timeout``.

        Args:
            conn: the connection.
            hold: the hold to end.
            keep: False to close the connection instead.

        Returns:
            False if the hold had ended before; then nothing was touched.
        """
        if self._is_locked_by_me():
            # A finalizer, which the collector runs in the middle of our own work.
            if hold.entry.hold is not hold:
                return False
            _thread.start_new_thread(self._release_later, (conn, hold, keep))
            return True
        is_clean = keep and self._is_rollback_enough and cleaning.is_clean(conn)
        roster = self._roster
        now = monotonic()
        try:
            with self._lock:
                # Renewed for nobody, it would be idle in a transaction.
                if is_clean and conn.is_renewed and not roster.line:
                    is_clean = False
                entry = roster.end(hold, conn, now, is_clean)
            if entry is None:
                return False
            if not is_clean:
                self._clean_here_or_elsewhere(entry, conn, keep)
        except BaseException:
            self.mend()
            raise
        if roster.jobs:
            self.act()
        return True

    def _release_later(
        self,
        conn: PooledConnection,
        hold: Hold,
        keep: bool,  # noqa: FBT001 - a thread's body
    ) -> None:
        self.release(conn, hold, keep=keep)

    def _clean_here_or_elsewhere(
        self,
        entry: Entry,
        conn: PooledConnection,
        keep: bool,  # noqa: FBT001 - a thread's body
    ) -> None:
        if threading.get_ident() in (watchdog.thread, hangups.thread):
            # A finalizer again, on one of the threads that do no I/O.
            _thread.start_new_thread(self._clean_elsewhere, (entry, conn, keep))
        else:
            self._clean(entry, conn, keep=keep)

    def _clean_elsewhere(
        self,
        entry: Entry,
        conn: PooledConnection,
        keep: bool,  # noqa: FBT001 - a thread's body
    ) -> None:
        self._clean(entry, conn, keep=keep)
        self.act()

    def _clean(self, entry: Entry, conn: PooledConnection, *, keep: bool) -> None:
        reason: Reason | None = Reason.DIRTY
        try:
            if keep:
                reason = cleaning.clean(conn, self.settings)
        finally:
            # Also for an exception from outside: then it is not fit.
            with self._lock:
                now = monotonic()
                if reason is None:
                    self._roster.give(entry, conn, now)
                else:
                    self._roster.fail(entry, conn, reason, now)


def leaves_usable(error: BaseException) -> bool:
    """Whether a connection may be kept that a block left by this exception.

    One that interrupts from outside can have struck in the middle of a call.
    """
    return isinstance(error, (Exception, GeneratorExit))

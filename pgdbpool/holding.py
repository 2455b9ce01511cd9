"""The beginning of a hold: the shelf or the line, and a ping; in its own thread."""

import logging
import math
import sys
from time import monotonic
from types import FrameType

from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold, Reading
from pgdbpool.endpoint.health import in_one_line
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.probe import role_of
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import Reason
from pgdbpool.errors import PoolError
from pgdbpool.hangups import hangups
from pgdbpool.releasing import Releasing
from pgdbpool.waiters import Waiter
from pgdbpool.watchdog import guarded

logger = logging.getLogger(__name__)

# A stale connection costs no pause before the next. When new ones are found
# unfit as well, callers pause, so that the server is not flooded.
UNPAUSED = 2
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


class Holding(Releasing):
    """Acquire: all of a hold, for its end is inherited."""

    def acquire(
        self,
        timeout: float | None = None,
        *,
        request: str | None = None,
        read_only: bool = False,
        after: int | None = None,
    ) -> PooledConnection:
        """Acquire for a block or request that ends in this thread.

        Like `getconn`, for layers above the pool: they end the hold with
        `release`, and it is known that the thread cannot release while it waits.

        Args:
            timeout: seconds; None for the pool's.
            request: what it is for, such as ``GET /report``, for messages.
            read_only: from a standby where one qualifies, in READ ONLY transactions.
            after: bytes of WAL that a standby must have replayed (`written`).

        Raises:
            NestedCheckout: every holder waits as well, so none could ever end.
            PoolError: as `getconn`.
        """
        frame = sys._getframe(1)  # noqa: SLF001 - who acquires
        return self.acquire_at(frame, timeout, request, read_only, after)

    def acquire_at(
        self,
        frame: FrameType,
        timeout: float | None,
        request: str | None,
        read_only: bool = False,  # noqa: FBT001, FBT002 - on the path of every request
        after: int | None = None,
    ) -> PooledConnection:
        """Acquire like `acquire`, on behalf of the caller that ``frame`` shows."""
        now = monotonic()
        if read_only:
            return self.serve(Reading(now, frame, request, True, after), timeout)
        return self.serve(Hold(now, frame, request, True), timeout)

    def elsewhere(
        self, need: Need, failed: Endpoint | None, *, is_last: bool
    ) -> tuple[Need, Endpoint | None]:
        """Return where to read what a server has failed to, and where not."""
        with self._lock:
            chooser, monitor = self._roster.chooser, self._roster.monitor
            if is_last and need is not Need.STANDBY and monitor.primary is not None:
                return Need.PRIMARY, None
            others = chooser.readers(monotonic()) - {failed}
        return need, failed if others or need is not Need.STANDBY else None

    def serve(self, hold: Hold, timeout: float | None) -> PooledConnection:
        """Find a connection for a new hold. Blocks; raises as `acquire` does."""
        if self._is_locked_by_me():
            raise PoolError("a finalizer cannot acquire: it can run inside the pool")
        now = hold.since
        roster = self._roster
        try:
            with self._lock:
                roster.stats.requests_num += 1
                conn = roster.take(hold, now)
                if conn is None:
                    roster.stats.requests_unserved += 1
            if (
                conn is not None
                and now - (entry := conn.entry).since < self._ping_idle
                and conn.is_read_ping is hold.is_reading
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
        while True:
            if conn is None:
                conn = self._stand_in_line(hold, asked, deadline, again=tries > 0)
            if self._is_fit(conn, deadline):
                with self._lock:
                    self._roster.count_wait(hold, monotonic())
                return conn
            conn = None
            tries += 1
            self._pause(tries, deadline)

    def _stand_in_line(
        self, hold: Hold, asked: float, deadline: float, *, again: bool
    ) -> PooledConnection:
        """Block until served; see `_serve` for what it raises."""
        roster = self._roster
        with self._lock:
            now = monotonic()
            conn = roster.take_late(hold, now)
            if conn is not None:
                return conn
            error = self._objection(hold, asked, now, again=again)
            if error is None:
                waiter = roster.join(hold, now, again=again)
            due = roster.refusal_due(now)
        self._come_by(due)
        self.act()
        if error is not None:
            raise error
        waiter.sleep(None if deadline == math.inf else deadline - monotonic())
        with self._lock:
            if waiter.conn is not None:
                return waiter.conn
            roster.line.leave(waiter)
            error = self._report.no_connection(hold, asked, monotonic())
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
        if roster.refuses(hold, now):
            roster.plan(now, hold.since)
            is_lost = roster.monitor.primary is None and not roster.is_single
            if is_lost and self.settings.threaded:
                roster.meet(now)  # nobody is in line who would have it found
            return self._report.no_connection(hold, asked, now)
        if hold.is_block and roster.is_deadlocked(hold, now):
            return self._report.deadlock(hold)
        return None

    def _withdraw(self, hold: Hold) -> None:
        """Leave the line for an exception's sake; what was given goes back."""
        with self._lock:
            self._roster.withdraw(hold)
            conn = self._roster.given_to(hold)
            if conn is None:
                self._roster.stats.requests_errors += 1
                self._roster.count_wait(hold, monotonic())
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
        return self._has_right_role(entry, conn)

    def _has_right_role(self, entry: Entry, conn: PooledConnection) -> bool:
        """Whether the server that answered the ping is what its holder needs."""
        roster, endpoint = self._roster, entry.endpoint
        if roster.is_single:
            is_right = not (endpoint.wants_primary and session.is_standby(conn))
        else:
            # Who took READ WRITE is a primary.
            role = Role.PRIMARY if conn.is_write_ping else role_of(conn)
            is_right = role is None or role is endpoint.standing.role
            if role is not None and not is_right:
                now = monotonic()
                with self._lock:
                    roster.monitor.heard(endpoint, role, now)
                    due = roster.upkeep(now)
                self._come_by(due)
        if not is_right:
            self._retire(entry, conn, Reason.WRONG_ROLE)
        return is_right

    def _check_and_ping(self, conn: PooledConnection) -> None:
        if self.settings.check is not None:
            self.settings.check(conn)
            session.roll_back(conn)
            conn.cursors.clear()
        hold = conn.hold
        self._ping(conn, is_reading=hold is not None and hold.is_reading)

    def _ping(self, conn: PooledConnection, *, is_reading: bool = False) -> None:
        """Ping, and take note of how long the server took. Blocks."""
        began = monotonic()
        session.ping(conn, is_reading=is_reading)
        seconds = monotonic() - began
        standing = conn.entry.endpoint.standing
        if self._roster.is_single:  # nobody probes it
            standing.round_trip = seconds
        else:
            standing.answered(seconds)

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
            due = self._roster.refusal_due(monotonic())
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

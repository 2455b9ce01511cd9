"""The end of a hold: commit, clean, pass on; in whichever thread releases."""

import threading
from time import monotonic

import psycopg2

from pgdbpool import greenlets
from pgdbpool.connecting import Connecting
from pgdbpool.endpoint import cleaning, session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.probe import written
from pgdbpool.endpoint.state import Reason
from pgdbpool.hangups import hangups
from pgdbpool.watchdog import guarded, watchdog

READ_ONLY_SQL_TRANSACTION = "25006"


class Releasing(Connecting):
    """Commit and release."""

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

    def blame(self, conn: PooledConnection, error: BaseException | None) -> None:
        """Take note of an error that tells of its server: no longer the primary.

        Does not block. One that a handler brought about costs a probe, no more.
        """
        if self._roster.is_single or not isinstance(error, psycopg2.Error):
            return
        hold = conn.hold
        if error.pgcode == READ_ONLY_SQL_TRANSACTION and hold and not hold.is_reading:
            now = monotonic()
            with self._lock:
                self._roster.monitor.lost(conn.entry.endpoint, now)
                due = self._roster.upkeep(now)
            self._come_by(due)
            self.act()

    def written(self, conn: PooledConnection) -> int | None:
        """Return how far a standby must be to show what was committed. Blocks.

        For a held connection outside any transaction; at most ``ping_timeout``.

        Returns:
            Bytes of WAL, for ``acquire(after=...)``; None if the server cannot say.
        """
        with guarded(conn, self.settings.ping_timeout, "asking for the WAL position"):
            return written(conn)

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
            greenlets.start(self._release_later, conn, hold, keep)
            return True
        is_clean = keep and self._is_rollback_enough and cleaning.is_clean(conn)
        roster = self._roster
        now = monotonic()
        try:
            with self._lock:
                # Renewed for nobody, it would be idle in a transaction.
                if is_clean and conn.is_renewed and not roster.is_wanted(conn, now):
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
            greenlets.start(self._clean_elsewhere, entry, conn, keep)
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

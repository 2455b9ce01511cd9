"""One request: its own connection, and one more to read if it needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import extensions as driver

from pgdbpool.wsgi.holder import COMMITTED, SAFE_METHODS, Holder
from pgdbpool.wsgi.trail import Trail

if TYPE_CHECKING:
    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.wsgi.reader import Reader
    from pgdbpool.wsgi.rules import Headers

FAILED = driver.TRANSACTION_STATUS_INERROR


class Request(Holder):
    """The holder of the connection that the request is a transaction of.

    Attributes:
        reader: holds what ``environ["pgdbpool.read"]`` needed for itself.
        trail: what was written; None if nothing can have been, or nobody asks.
        is_announced: the headers are out that could tell what was written.
    """

    reader: Reader | None = None
    trail: Trail | None = None
    is_announced = False

    @property
    def is_holding(self) -> bool:
        """Whether a connection is held, to write or to read."""
        reader = self.reader
        return self.conn is not None or (reader is not None and reader.conn is not None)

    @property
    def last_failure(self) -> BaseException | None:
        """What promises that nothing was committed, here or of the reader."""
        reader = self.reader
        return self.failure or (None if reader is None else reader.failure)

    @property
    def reads_itself(self) -> bool:
        """Whether no reader is needed beside it: it only reads, or is over."""
        return self.is_over or self.is_read_only

    def _from_pool(self) -> PooledConnection:
        marks = self.rules.read_your_writes
        # Safe methods promise to write nothing. Were they asked what they wrote,
        # whoever looks at a page would be sent to the primary for the next one.
        if (
            marks is not None
            and self.trail is None
            and not self.is_announced
            and not self.is_read_only
            and self.method not in SAFE_METHODS
        ):
            self.trail = Trail(marks, self.rules.pool, self.environ, self.name)
        return super()._from_pool()

    def _committed(self, conn: PooledConnection) -> None:
        super()._committed(conn)
        if self.trail is not None:
            self.trail.is_due = True
            self._ask(conn)

    def _has_left(self, conn: PooledConnection) -> None:
        self._ask(conn)

    def _ask(self, conn: PooledConnection) -> None:
        # In a block psycopg2 would begin another transaction for the question.
        if self.trail is not None and not self._is_entered:
            self.trail.ask(conn)

    def settle(self, status: str, headers: Headers) -> None:
        """Commit what the app left open, if its response calls for it. Blocks.

        Raises:
            psycopg2.Error: it cannot be committed, and the response said it was.
            Exception: whatever ``commit_veto`` raised.
        """
        conn = self.conn
        if conn is None or not self._is_due(conn, status):
            return
        veto = self.rules.commit_veto
        if veto is not None and veto(self.environ, status, headers):
            return
        if self.is_lost() or conn.get_transaction_status() == FAILED:
            if status >= "4":
                return
            self._refuse_if_lost()
        self.commit()

    def _is_due(self, conn: PooledConnection, status: str) -> bool:
        """Whether a commit is due by the rules, possible or not."""
        if not self.rules.is_automatic or self.has_failed:
            return False
        if not status or status >= "5":
            return False
        return self.is_lost() if conn.closed else conn.in_transaction

    def _refuse_if_lost(self) -> None:
        if self.is_lost():
            raise psycopg2.OperationalError(
                f"{self.name}: the session was lost and with it what was not committed"
            )

    def may_try_again(self, error: BaseException | None) -> bool:
        """Whether a 503 would be true: it is transient, and nothing was committed.

        Args:
            error: what the app raised; None if it made a response of it.
        """
        self._note_commits()
        if COMMITTED in self.environ:
            return False
        reader = self.reader
        return self.explains(error) or (reader is not None and reader.explains(error))

    def stream(self) -> None:
        """Expect a body to be closed before the request ends."""
        super().stream()
        if self.reader is not None:
            self.reader.stream()

    def announce(self) -> Headers:
        """Return the headers that tell the client what it wrote. May block."""
        self.is_announced = True
        if self.trail is None:
            return []
        if self.conn is not None:
            self._look_back(self.conn)
        return self.trail.headers()

    def _about_to_release(self, conn: PooledConnection) -> None:
        if not (self.has_failed or self.is_over):
            self._look_back(conn)
        super()._about_to_release(conn)

    def _look_back(self, conn: PooledConnection) -> None:
        if self.trail is not None:
            self.trail.look_back(conn)
            self._ask(conn)

    def give_all_back(self, *, keep: bool = True) -> None:
        """End all its holds, as `give_back` ends one. Blocks."""
        try:
            self.give_back(keep=keep)
        finally:
            if self.reader is not None:
                self.reader.give_back(keep=keep)

    def end(self) -> None:
        """End the request: from now on its connections refuse to be used. Blocks."""
        self.is_over = True
        try:
            if self.is_used:
                self._end_holds()
        finally:
            # What stands in environ leads here: no cycle may lead back.
            self.environ = {}

    def _end_holds(self) -> None:
        reader = vars(self).pop("reader", None)
        self.trail = self.failure = None
        try:
            self.give_back()
        finally:
            if reader is not None:
                reader.end()

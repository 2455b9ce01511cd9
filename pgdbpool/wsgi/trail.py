"""What one request wrote, as far as its response can still tell the client."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import extensions as driver

if TYPE_CHECKING:
    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.endpoint.entry import Hold
    from pgdbpool.pool import ConnectionPool
    from pgdbpool.wsgi.read_your_writes import ReadYourWrites
    from pgdbpool.wsgi.rules import Environ, Headers

logger = logging.getLogger("pgdbpool.wsgi")

IDLE = driver.TRANSACTION_STATUS_IDLE


class Trail:
    """How far a standby must be to show what the request committed.

    The server is asked right after each COMMIT, until the response's headers are
    out. A request has a trail from its first acquire on, if it may write and its
    middleware keeps read-your-writes. Positions are bytes of WAL.

    Args:
        marks: how it travels.
        pool: whom to ask.
        environ: the request.
        name: what messages call it.

    Attributes:
        is_due: something was committed since the server was asked.
    """

    def __init__(
        self, marks: ReadYourWrites, pool: ConnectionPool, environ: Environ, name: str
    ) -> None:
        self._marks = marks
        self._pool = pool
        self._environ = environ
        self._name = name
        self._position: int | None = None
        self._asked: Hold | None = None
        self._is_told = False
        self.is_due = False

    def ask(self, conn: PooledConnection) -> None:
        """Ask how far the client's next read has to see, if that is due.

        Blocks for a round trip. For a held connection outside of any block; while
        a transaction is open on it, it stays due.
        """
        if not self.is_due or self._is_told:
            return
        if conn.get_transaction_status() != IDLE:
            return
        self.is_due = False
        self._asked = conn.hold
        try:
            position = self._pool.written(conn)
        except psycopg2.Error as error:
            # What was committed is committed, though its client may not see it yet.
            logger.warning(
                "%s: how far its client must see is not known: %s",
                self._name,
                " ".join(str(error).split()),
            )
            return
        if position is not None:
            self._position = max(position, self._position or 0)

    def look_back(self, conn: PooledConnection) -> None:
        """Make it due if something can have been committed past the middleware.

        As in autocommit, or by the connection of a cursor.
        """
        hold = conn.hold
        if hold is not None and hold is not self._asked:
            self.is_due = self.is_due or conn.autocommit or hold.has_committed

    def headers(self) -> Headers:
        """Return what tells the client. What is committed later stays untold."""
        self._is_told = True
        if self._position is None:
            return []
        brought = self._marks.brought(self._environ) or 0
        if self._position == brought:
            return []  # nobody wrote anything since
        return self._marks.headers(self._environ, max(self._position, brought))

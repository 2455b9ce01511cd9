"""Who holds a connection for one request, at most one at a time."""

from __future__ import annotations

import _thread
import logging
import sys
from typing import TYPE_CHECKING

import psycopg2

from pgdbpool.errors import CommitUnknown, ConnectionReleased, NestedCheckout, PoolError
from pgdbpool.wsgi.causes import causes
from pgdbpool.wsgi.route import printable, route_of

if TYPE_CHECKING:
    from types import FrameType

    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.endpoint.entry import Hold
    from pgdbpool.wsgi.rules import Environ, Rules

# The package's, so that its name survives a move between these files.
logger = logging.getLogger("pgdbpool.wsgi")

# Set in environ by whichever middleware of a stack commits first: what one of
# them committed, another one's 503 would make the client do twice.
COMMITTED = "pgdbpool.committed"

# RFC 9110, section 9.2.1. Repeating them is asked of every client.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

CLOSED = 1  # psycopg2's ``closed``, when ``close()`` was called
LOST = 2  # and when the session has failed


class Holder:
    """A connection of one request, from its first use to the request's end.

    Any thread may call any method. Ending is exactly once, because the pool asks
    for the hold: whoever comes second changes nothing.

    Attributes:
        conn: the connection while it is held.
        failure: the last error that promises that nothing was committed.
        is_used: an acquire was tried.
        has_held: one succeeded.
        is_over: the request has ended.
        has_failed: nothing of this request is to be committed any more.
        is_streaming: a body is still to be closed before the request ends.
    """

    conn: PooledConnection | None = None
    failure: BaseException | None = None
    is_used = False
    has_held = False
    is_over = False
    has_failed = False
    is_streaming = False
    _hold: Hold | None = None
    _was_lost = False
    _is_entered = False

    def __init__(self, rules: Rules, environ: Environ) -> None:
        self.rules = rules
        self.environ = environ
        self.method: str = environ.get("REQUEST_METHOD", "")
        # Now: what dispatches further on moves parts of the path from one to the other.
        self._path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        # Held by the thread that acquires, so that a second one waits for that
        # connection and does not take another.
        self._acquiring = _thread.allocate_lock()

    @property
    def name(self) -> str:
        """What to call this request: its method and path, never its query."""
        return f"{self.method} {printable(self._path)}"

    @property
    def is_read_only(self) -> bool:
        """Whether it holds for reading: what a standby can do as well."""
        return self.method in self.rules.read_methods

    def connection(self) -> PooledConnection:
        """Return the request's connection, acquired now if it has none. May block.

        Raises:
            ConnectionReleased: the request is over.
            PoolError: there is none to be had.
        """
        conn = self.conn
        if conn is not None:
            return conn
        with self._acquiring:
            return self.conn or self._acquire()

    def _acquire(self) -> PooledConnection:
        self.refuse_if_over()
        self.is_used = True
        try:
            conn = self._from_pool()
        except NestedCheckout:
            raise  # a mistake of the app's, which trying again repeats
        except PoolError as error:
            self.failure = error
            raise
        self._hold = conn.hold
        self.conn = conn
        if self.rules.tells_routes:
            self._tell_route(conn.hold)
        if self.is_streaming:
            self.stream()
        self.has_held = True
        self.failure = None
        self._was_lost = False
        if conn.autocommit:
            self._mark_committed()
        if self.is_over:
            # It ended on another thread, which may have seen no connection yet.
            self.give_back()
            self.refuse_if_over()
        return conn

    def _tell_route(self, hold: Hold | None) -> None:
        """Have the hold go by the rule of a framework, if there is one."""
        route = route_of(self.environ)
        if hold is not None and route is not None:
            hold.route = route

    def _from_pool(self) -> PooledConnection:
        pool, place = self.rules.pool, _place_in_app()
        if not self.is_read_only:
            return pool.acquire_at(place, None, self.name)
        marks = self.rules.read_your_writes
        after = None if marks is None else marks.brought(self.environ)
        return pool.acquire_at(place, None, self.name, read_only=True, after=after)

    def _mark_committed(self) -> None:
        """Remember that there is something which trying again would do twice."""
        if not self.is_read_only:
            self.environ[COMMITTED] = True

    def refuse_if_over(self) -> None:
        """Raise ConnectionReleased when the request has ended."""
        if self.is_over:
            raise ConnectionReleased(
                f"{self.name} is over and its connection released: "
                "what runs after a request acquires from the pool"
            )

    def held(self) -> PooledConnection | None:
        """Return the connection without acquiring one.

        Raises:
            ConnectionReleased: the request is over.
        """
        if self.conn is None:
            self.refuse_if_over()
        return self.conn

    def enter(self) -> None:
        """Begin a ``with`` block of psycopg2's."""
        self.connection().__enter__()
        self._is_entered = True

    def leave(self, error: BaseException | None) -> None:
        """End it. Blocks for a COMMIT, or after an error for a rollback."""
        conn = self.conn
        try:
            if error is None:
                self.commit()
        except BaseException:
            self._is_entered = False
            _leave_quietly(conn)
            raise
        self._is_entered = False
        if conn is not None:
            conn.__exit__(None if error is None else type(error), error, None)
            self._has_left(conn)

    def _has_left(self, _conn: PooledConnection) -> None:
        """Do what cannot be done inside of a block."""

    def commit(self) -> None:
        """Commit the open transaction, if there is one. Blocks.

        Raises:
            psycopg2.Error: as `ConnectionPool.commit` does.
        """
        conn = self.held()
        if conn is None:
            return
        if conn.closed == CLOSED:
            conn.commit()  # which says so
        is_open = conn.in_transaction
        try:
            self.rules.pool.commit(conn)
        except CommitUnknown as error:
            self._outcome_is_unknown(error)
            raise
        except psycopg2.OperationalError:
            self._was_lost = self._was_lost or bool(conn.closed)
            raise
        if is_open:
            self._committed(conn)

    def _committed(self, _conn: PooledConnection) -> None:
        self._mark_committed()

    def _outcome_is_unknown(self, error: CommitUnknown) -> None:
        if self.is_read_only or self.method in SAFE_METHODS:
            self.failure = error
            if self._hold is not None:
                self._hold.has_committed = False
        else:
            self._mark_committed()

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one. Blocks."""
        conn = self.held()
        if conn is not None:
            conn.rollback()

    def close(self) -> None:
        """Close the real connection, if there is one, as the app asked for."""
        conn = self.held()
        if conn is not None:
            self._was_lost = self.is_lost()
            conn.close()

    def release(self) -> None:
        """Give the connection back before the request ends. Blocks for a reset.

        Raises:
            psycopg2.ProgrammingError: a transaction is open that was used.
        """
        conn = self.held()
        if conn is None:
            return
        if self._is_entered or (not conn.closed and conn.in_transaction):
            raise psycopg2.ProgrammingError(
                f"{self.name}: release() cannot be used inside a transaction; "
                "commit() or rollback() first"
            )
        self.give_back()

    def change_autocommit(self, value: object) -> None:
        """Set ``autocommit``; statements may be committed as they come."""
        self.connection().autocommit = value
        if value:
            self._mark_committed()

    def is_lost(self) -> bool:
        """Whether the request's transaction went down with its session. No I/O."""
        if not self.rules.is_automatic:
            return False
        conn = self.conn
        if conn is not None and conn.closed == LOST and not conn.autocommit:
            return True
        return self._was_lost

    def explains(self, error: BaseException | None) -> bool:
        """Whether what became of this connection made the request fail."""
        if error is None:
            return self.failure is not None or self.is_lost()
        led_to = list(causes(error))
        if any(cause is self.failure for cause in led_to):
            return True
        return self.is_lost() and any(isinstance(e, psycopg2.Error) for e in led_to)

    def _note_commits(self) -> None:
        """Remember what was committed past this class, as by a cursor's connection."""
        if self._hold is not None and self._hold.has_committed:
            self._mark_committed()

    def stream(self) -> None:
        """Expect a body to be closed before the request ends."""
        self.is_streaming = True
        if self.conn is not None:
            self.rules.streaming.add(self.conn)

    def blame(self, error: BaseException) -> None:
        """Let the pool know of an error that may tell of its server."""
        if self.conn is not None:
            self.rules.pool.blame(self.conn, error)

    def give_back(self, *, keep: bool = True) -> None:
        """End the hold, if there is one: roll back, reset, release. Blocks.

        Args:
            keep: False closes the connection instead.
        """
        conn, hold = self.conn, self._hold
        if conn is None or hold is None:
            return
        self._note_commits()
        self._was_lost = self.is_lost()
        # Else psycopg2 would refuse the next holder a block of its own.
        keep = keep and not self._is_entered
        self.conn = self._hold = None
        self.rules.streaming.discard(conn)
        try:
            self._about_to_release(conn)
        finally:
            self._is_entered = False
            self.rules.pool.release(conn, hold, keep=keep)

    def _about_to_release(self, conn: PooledConnection) -> None:
        if self.rules.is_automatic or self.is_read_only:
            return
        if conn.closed or not conn.in_transaction:
            return
        logger.warning(
            "%s left a transaction open, which is rolled back: with "
            "transaction='manual' the handler commits",
            self.name,
        )

    def end(self) -> None:
        """End it with its request: from now on it refuses to be used. Blocks."""
        self.is_over = True
        try:
            self.give_back()
        finally:
            # What stands in environ leads here: no cycle may lead back.
            self.environ = {}
            self.failure = None


def _place_in_app() -> FrameType:
    """Return the frame that asked for the connection: the nearest not of ours."""
    frame = sys._getframe(1)  # noqa: SLF001 - who acquires
    while frame.f_back and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame


def _leave_quietly(conn: PooledConnection | None) -> None:
    """Let psycopg2 know that its block has ended; what went wrong is known."""
    try:
        if conn is not None:
            conn.__exit__(BaseException, None, None)
    except psycopg2.Error:
        logger.debug("the block's rollback failed too", exc_info=True)

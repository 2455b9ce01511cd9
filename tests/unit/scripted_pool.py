"""A pool that connects to nothing and writes down what is asked of it."""

import itertools
from types import FrameType

import psycopg2
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver

from pgdbpool.errors import CommitUnknown, PoolError

LOST = 2


class ScriptedCursor:
    """A cursor that opens a transaction, or fails as its connection was told."""

    def __init__(self, conn: "ScriptedConnection") -> None:
        self.connection = conn
        self.is_closed = False

    def execute(self, statement: str) -> None:
        """Pretend to run a statement; ``lost`` and ``fail`` mean themselves."""
        conn = self.connection
        if self.is_closed:
            raise psycopg2.InterfaceError("cursor already closed")
        conn.log.append(statement)
        if statement == "lost":
            conn.lose()
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        conn.in_transaction = not conn.autocommit
        if statement == "fail":
            conn.has_failed = True
            raise sqlstate.UniqueViolation("duplicate key")

    def __enter__(self) -> "ScriptedCursor":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True


class ScriptedHold:
    """What the middleware asks of a hold."""

    has_committed = False


class ScriptedConnection:
    """What the middleware needs of a `PooledConnection`."""

    def __init__(self, number: int, log: list[str], *, autocommit: bool) -> None:
        self.number = number
        self.log = log
        self.autocommit = autocommit
        self.closed = 0
        self.in_transaction = False
        self.has_failed = False
        self.hold: object = None
        self.cursors: list[ScriptedCursor] = []
        self.is_entered = False

    def lose(self) -> None:
        """Lose the session, as psycopg2 shows it."""
        self.closed = LOST

    def get_transaction_status(self) -> int:
        """Return libpq's word for the state of the transaction."""
        if self.closed:
            return driver.TRANSACTION_STATUS_UNKNOWN
        if self.has_failed:
            return driver.TRANSACTION_STATUS_INERROR
        if self.in_transaction:
            return driver.TRANSACTION_STATUS_INTRANS
        return driver.TRANSACTION_STATUS_IDLE

    def cursor(self) -> ScriptedCursor:
        """Return a new cursor."""
        cur = ScriptedCursor(self)
        self.cursors.append(cur)
        return cur

    def commit(self) -> None:
        """End the transaction as psycopg2 does."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """End the transaction as psycopg2 does."""
        self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        if self.closed:
            raise psycopg2.InterfaceError("connection already closed")
        if self.in_transaction:
            self.log.append(statement)
        self.in_transaction = self.has_failed = False

    def close(self) -> None:
        """Close it, as psycopg2 shows it."""
        self.closed = 1

    def __enter__(self) -> "ScriptedConnection":
        self.is_entered = True
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.is_entered = False
        if kind is None:
            self.commit()
        else:
            self.rollback()


class ScriptedPool:
    """What the middleware needs of a `ConnectionPool`.

    Attributes:
        log: what happened, in order.
        refusals: errors that the next acquires raise.
        commit_error: what the next COMMIT raises; ``"unknown"`` and ``"lost"``
            behave as the pool's own does then.
        on_acquire, on_commit, on_release: called at those moments.
        tells_routes: it is told of which route a request is.
    """

    tells_routes = False

    def __init__(self, *, autocommit: bool = False) -> None:
        self.log: list[str] = []
        self.refusals: list[PoolError] = []
        self.commit_error: BaseException | str | None = None
        self.autocommit = autocommit
        self.requests: list[str | None] = []
        self.callers: list[str] = []
        self.kept: list[bool] = []
        self.on_acquire = self.on_commit = self.on_release = lambda: None
        self._numbers = itertools.count(1)
        self._held: list[ScriptedConnection] = []

    @property
    def held(self) -> int:
        """How many connections are held now."""
        return len(self._held)

    @property
    def conn(self) -> ScriptedConnection:
        """The connection that was acquired last and is still held."""
        return self._held[-1]

    def acquire_at(
        self, frame: FrameType, _timeout: float | None, request: str | None
    ) -> ScriptedConnection:
        """Give a new connection."""
        self.on_acquire()
        if self.refusals:
            self.log.append("refused")
            raise self.refusals.pop(0)
        self.log.append("acquire")
        self.requests.append(request)
        self.callers.append(frame.f_code.co_name)
        conn = ScriptedConnection(
            next(self._numbers), self.log, autocommit=self.autocommit
        )
        conn.hold = ScriptedHold()
        self._held.append(conn)
        return conn

    acquire = acquire_at

    def commit(self, conn: ScriptedConnection) -> None:
        """Commit what is open, as `ConnectionPool.commit` does."""
        self.on_commit()
        if conn.closed == 1 or not (conn.closed or conn.in_transaction):
            return
        error, self.commit_error = self.commit_error, None
        if conn.closed or error == "lost":
            conn.close()
            raise psycopg2.OperationalError("the session was lost before COMMIT")
        if conn.has_failed:
            conn.rollback()
            raise sqlstate.InFailedSqlTransaction("rolled back")
        if error == "unknown":
            conn.lose()
            raise CommitUnknown("lost meanwhile") from psycopg2.OperationalError("EOF")
        if isinstance(error, BaseException):
            conn.rollback()
            raise error
        conn.commit()

    def blame(self, conn: object, error: BaseException) -> None:
        """Learn of an error that may tell of its server."""

    def release(
        self, conn: ScriptedConnection, hold: object, *, keep: bool = True
    ) -> bool:
        """End a hold once, as `ConnectionPool.release` does."""
        self.on_release()
        if conn.hold is not hold:
            return False
        conn.hold = None
        if not conn.closed:
            conn.rollback()
        for cur in conn.cursors:
            cur.is_closed = True
        self._held.remove(conn)
        self.kept.append(keep)
        self.log.append("release")
        return True

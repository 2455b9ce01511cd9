"""`Handler`: a connection of a group for the time of a ``with`` block."""

from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from psycopg2.extras import DictCursor

from pgdbpool.compat.dbpool.connection import Connection, Place
from pgdbpool.compat.dbpool.group import Held, caller
from pgdbpool.compat.dbpool.query import Parameters
from pgdbpool.endpoint.connection import PooledConnection

if TYPE_CHECKING:
    from typing_extensions import Self


class Handler:
    """Queries on one connection: ``with Handler("group1") as db: db.query(…)``.

    The block commits when it ends, rolls back when it raises, and gives the connection
    back in either case. Without ``with`` a connection is acquired by the first query
    and held as long as the handler lives; what was not committed by then is lost, and
    the log warned.

    Args:
        group: the name of a group.

    Raises:
        UnconfiguredGroupError: there is no such group.
    """

    def __init__(self, group: str) -> None:
        Connection.get_group(group)
        self._group = group
        self._held: Held | None = None
        self._is_fresh = True

    def __repr__(self) -> str:
        """Return the group, and whether a connection is held."""
        what = "nothing" if self._held is None else repr(self._held.conn)
        return f"<Handler of {self._group!r} holds {what}>"

    def __enter__(self) -> "Self":
        """Acquire, unless a query has. Blocks.

        Raises:
            DBConnectionError: there is no connection; also a `PoolError`.
        """
        self._hold(caller(1), is_block=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit or roll back, and release. Blocks.

        Raises:
            psycopg2.Error: it could not be committed.
        """
        held, self._held = self._held, None
        if held is not None:
            held.end(kind, error, trace)

    def query(self, statement: str, params: Parameters = None) -> DictCursor:
        """Execute a statement and return its cursor. Blocks.

        Raises:
            DBQueryError: it fails. What the same transaction did is not committed:
                its next statement fails too, until it is rolled back.
        """
        return self._hold(caller(1)).execute(statement, params)

    def query_prepared(self, params: Sequence[Any]) -> Any:  # noqa: ANN401 - what JSON has
        """Execute a prepared query and return its answer. Blocks.

        Raises:
            DBQueryError: it fails.
        """
        if params is None:
            raise ValueError("sql_params must be given.")
        return self._hold(caller(1)).execute_prepared(params)

    def commit(self) -> None:
        """Commit what the queries have done so far. Blocks.

        Raises:
            psycopg2.Error: nothing of it is committed; but `CommitUnknown`: perhaps.
        """
        if self._held is not None:
            self._held.commit()

    def rollback(self) -> None:
        """Undo what the queries have done since the last commit. Blocks.

        1.x had no such method.
        """
        if self._held is not None:
            self._held.rollback()

    @property
    def conn_ref(self) -> PooledConnection | None:
        """The connection, acquired if need be; None after the block."""
        if self._is_fresh:
            return self._hold(caller(1)).conn
        return None if self._held is None else self._held.conn

    @property
    def _connection(self) -> Place | None:
        """The place of the connection, as `Query` takes it; None after the block."""
        if self._is_fresh:
            self._hold(caller(1))
        return None if self._held is None else (self._group, self._held.number)

    def _hold(self, frame: FrameType, *, is_block: bool = False) -> Held:
        held = self._held
        if held is None or held.is_over:
            group = Connection.get_group(self._group)
            held = self._held = group.acquire(frame, is_block=is_block)
            self._is_fresh = False
        return held

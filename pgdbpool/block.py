"""A connection for the time of a ``with`` block."""

import sys
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType

from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Hold
from pgdbpool.holding import Holding
from pgdbpool.releasing import leaves_usable

_caller = sys._getframe  # noqa: SLF001 - the one way to learn who acquires


# Makes a hold: since when, where, for which request, whether it is a block.
Kind = Callable[[float, FrameType, str | None, bool], Hold]


class Block:
    """A connection for the time of a ``with`` block: `ConnectionPool.connection`.

    Args:
        pool: the pool.
        timeout: seconds; None for the pool's.
        kind: of the hold.
    """

    __slots__ = ("_conn", "_hold", "_kind", "_pool", "_timeout")

    def __init__(self, pool: Holding, timeout: float | None, kind: Kind) -> None:
        self._pool = pool
        self._timeout = timeout
        self._kind = kind

    def __enter__(self) -> PooledConnection:
        """Acquire. Blocks; raises what `Holding.acquire` raises."""
        conn = None
        try:
            hold = self._kind(monotonic(), _caller(1), None, True)
            conn = self._conn = self._pool.serve(hold, self._timeout)
            self._hold = conn.hold
        except BaseException:
            if conn is not None and conn.hold is not None:
                self._pool.release(conn, conn.hold, keep=False)
            raise
        return conn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit or roll back, and release."""
        conn, hold = self._conn, self._hold
        del self._conn, self._hold
        if hold is None:
            return
        try:
            if error is not None:
                self._pool.blame(conn, error)
            elif conn.hold is hold and not session.is_idle(conn):
                self._pool.commit(conn, is_last=True)
        except BaseException as failure:
            self._pool.release(conn, hold, keep=leaves_usable(failure))
            raise
        self._pool.release(conn, hold, keep=error is None or leaves_usable(error))

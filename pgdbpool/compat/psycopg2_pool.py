"""The classes of `psycopg2.pool`, on a `ConnectionPool`."""

import sys
import threading
from collections.abc import Hashable
from time import monotonic
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from psycopg2.pool import PoolError

from pgdbpool import forks
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Hold
from pgdbpool.pool import ConnectionPool

__all__ = ["PoolError", "SimpleConnectionPool", "ThreadedConnectionPool"]

_caller = sys._getframe  # noqa: SLF001 - the one way to learn who acquires


class ThreadedConnectionPool:
    """A pool with the methods of psycopg2's class of this name.

    Args:
        minconn: how many connections are kept open, from the first use on.
        maxconn: how many there can be.
        *args: what `psycopg2.connect` takes: a DSN, and a connection factory.
        **kwargs: likewise, by keyword.

    Attributes:
        minconn: as given.
        maxconn: as given.
        pool: the pool that serves.

    Raises:
        SettingsError: an argument is wrong; nothing is connected yet.
    """

    # Guards what is held by which key, of all pools: it is never held for long. A
    # finalizer that puts a connection back can run within.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, minconn: int, maxconn: int, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - psycopg2's
        given = dict(
            zip(("dsn", "connection_factory", "cursor_factory"), args, strict=False)
        )
        params = {**given, **kwargs}
        dsn = params.pop("dsn", None) or ""
        self.minconn = minconn
        self.maxconn = maxconn
        self.pool = ConnectionPool(
            dsn, kwargs=params, min_size=int(minconn), max_size=int(maxconn)
        )
        # The holder alone owns a connection, or one that it lost would never return.
        self._held: WeakKeyDictionary[PooledConnection, Hashable]
        self._held = WeakKeyDictionary()
        self._keyed: WeakValueDictionary[Hashable, PooledConnection]
        self._keyed = WeakValueDictionary()

    @property
    def closed(self) -> bool:
        """Whether `closeall` was called."""
        return self.pool.closed

    def getconn(self, key: Hashable = None) -> PooledConnection:
        """Acquire a connection. Blocks for at most 5 s, the default of the pool.

        Args:
            key: the same connection is returned to who gives the same key, until it is
                put back.

        Raises:
            PoolError: there was none in time, or the pool is closed.
        """
        with self._lock:
            held = None if key is None else self._keyed.get(key)
        if held is not None:
            return held
        conn = self.pool.serve(Hold(monotonic(), _caller(1), None, False), None)
        with self._lock:
            first = conn if key is None else self._keyed.setdefault(key, conn)
            self._held[first] = key
        if first is not conn:  # somebody else with this key was quicker
            self.pool.putconn(conn)
        return first

    def putconn(
        self,
        conn: PooledConnection,
        key: Hashable = None,
        close: bool = False,  # noqa: FBT001, FBT002 - as in psycopg2.pool
    ) -> None:
        """Release a connection, rolled back.

        Args:
            conn: what `getconn` gave.
            key: the key it was given for; not needed.
            close: close it, and let another take its place.

        Raises:
            PoolError: it is of another pool, or was put back before.
        """
        with self._lock:
            if conn not in self._held:
                raise PoolError(f"{conn!r} is of another pool, or was put back before")
            key = self._held.pop(conn)
            self._keyed.pop(key, None)
        if close:
            conn.close()
        self.pool.putconn(conn)

    def closeall(self) -> None:
        """Close for good, and abort whoever holds a connection in another thread.

        What this thread holds is closed when it is put back.

        Raises:
            PoolError: it is closed already.
        """
        if self.closed:
            raise PoolError("connection pool is closed")
        self.pool.close(timeout=0.0)


class SimpleConnectionPool(ThreadedConnectionPool):
    """The same; psycopg2's cannot be shared between threads."""


def _forked() -> None:
    """Forget, in a child, what a thread of the parent has locked."""
    ThreadedConnectionPool._lock = threading.RLock()  # noqa: SLF001 - ours


forks.in_child(_forked)

"""The singleton `PostgresqlConnection`, on a `ConnectionPool`.

A ``with`` statement on a singleton says nothing of which of its connections it is
about. It is told by the frame that the statement stands in: that is the same when it is
left as when it was entered, also when a generator is resumed in another thread.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Mapping
from time import monotonic
from types import FrameType, TracebackType
from typing import ClassVar, Final

from pgdbpool import forks
from pgdbpool.block import Block
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Hold
from pgdbpool.environment import PREFIX, find
from pgdbpool.environment.variables import Variables
from pgdbpool.errors import PoolClosed, SettingsError
from pgdbpool.pool import ConnectionPool

NAME: Final = "PostgresqlConnection"
REQUIRED: Final = ("DB_HOST", "DB_USER", "DB_NAME")
OURS: Final = ("DB_", "IDENTITY_ENABLED", PREFIX)
# The variables say where the database is, and nothing else does.
NOT_OURS: Final = (f"{PREFIX}CONNINFO", f"{PREFIX}ENDPOINTS")
STATEMENT_TIMEOUT: Final = "-c statement_timeout=300000"  # milliseconds

_caller = sys._getframe  # noqa: SLF001 - the one way to learn which with it is
_log = logging.getLogger(__name__)


class PostgresqlConnection:
    """The one pool of the process: ``with PostgresqlConnection() as conn``.

    Every call returns the same object. It reads the environment and makes its pool when
    it is first used, and connects only then. The block commits when it ends, rolls back
    when it raises, and gives the connection back in either case.

    Raises:
        SettingsError: when it is first used: a variable is missing or wrong.
    """

    _instance: ClassVar["PostgresqlConnection | None"] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    _pool: ConnectionPool | None
    _is_closed: bool
    _open: list[tuple[FrameType, int, Block]]

    def __new__(cls) -> "PostgresqlConnection":
        """Return the one instance. Does not block; makes it if there is none."""
        with cls._lock:
            if cls._instance is None:
                made = super().__new__(cls)
                made._pool = None
                made._is_closed = False
                # Whose frame, which thread, what it holds; the newest last. The frame
                # itself, for the id of one that is gone can be another's. Without a
                # lock: the collector can run an exit at any moment, also within one.
                made._open = []
                cls._instance = made
            return cls._instance

    def __repr__(self) -> str:
        """Return the pool in one line, if there is one already."""
        return f"<PostgresqlConnection {self._pool or 'not used yet'!r}>"

    @property
    def pool(self) -> ConnectionPool:
        """The pool, made when this is first asked for.

        Raises:
            SettingsError: a variable is missing or wrong.
            PoolClosed: `close_all` was called.
        """
        pool = self._pool
        if pool is None:
            with self._lock:
                if self._is_closed:
                    raise PoolClosed(f"pool {NAME!r} is closed: close_all() was called")
                if self._pool is None:
                    self._pool = _pool_of_environment()
                pool = self._pool
        return pool

    def __enter__(self) -> PooledConnection:
        """Acquire. Blocks; raises what `ConnectionPool.getconn` raises."""
        frame = _caller(1)
        hold = Hold(monotonic(), frame, None, True)
        block = Block(self.pool, None, lambda *_: hold)
        conn = block.__enter__()
        self._open.append((frame, threading.get_ident(), block))
        return conn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit or roll back what the same ``with`` acquired, and release it.

        Raises:
            RuntimeError: several are open, and none is known to be the caller's.
        """
        block = self._left_by(_caller(1), threading.get_ident())
        block.__exit__(kind, error, trace)

    def _left_by(self, frame: FrameType, thread: int) -> Block:
        """Return which block is left: the frame's, or else the thread's newest."""
        entered = list(reversed(self._open))
        found = [one for one in entered if one[0] is frame]
        found += [one for one in entered if one[1] == thread]
        found += entered if len(entered) == 1 else []
        for one in found:
            with contextlib.suppress(ValueError):  # another thread was quicker
                self._open.remove(one)
                return one[2]
        raise RuntimeError(
            f"__exit__() was called where nothing was entered, and {len(entered)} "
            "blocks are open: leave a block in the function that entered it"
        )

    @classmethod
    def close_all(cls, timeout: float = 5.0) -> None:
        """Close for good. Waits for who holds a connection, then aborts them.

        Args:
            timeout: for how long, in seconds.
        """
        if cls._instance is not None:
            cls._instance._close(timeout)  # noqa: SLF001 - its own

    def _close(self, timeout: float) -> None:
        with self._lock:
            self._is_closed = True
            pool = self._pool
        if pool is not None:
            pool.close(timeout)

    def _refresh_pool(self) -> None:
        """Fetch the token anew and replace all connections: `ConnectionPool.rotate`."""
        self.pool.rotate()

    @classmethod
    def _forked(cls) -> None:
        """Forget, in a child, the threads of the parent and what they have locked."""
        cls._lock = threading.RLock()
        if cls._instance is not None:
            cls._instance._forget_threads()  # noqa: SLF001 - its own

    def _forget_threads(self) -> None:
        me = threading.get_ident()
        self._open[:] = [entered for entered in self._open if entered[1] == me]


forks.in_child(PostgresqlConnection._forked)  # noqa: SLF001 - ours


def _pool_of_environment() -> ConnectionPool:
    variables = Variables.of(os.environ, importlib.util.find_spec("dotenv") is not None)
    missing = [name for name in REQUIRED if not variables.text(name).strip()]
    if missing:
        raise SettingsError(f"Variables are missing: {', '.join(missing)}")
    named = {
        name: variables.text(name)
        for name in variables.names()
        if name.startswith(OURS) and name not in NOT_OURS
    }
    given = {"name": NAME, "kwargs": _params(variables)}
    if f"{PREFIX}NAME" in named:
        del given["name"]
    found = find(given=given, environ=named)
    found.warn()
    _log.info("pool %r is made from the variables DB_HOST and others", NAME)
    with found.explained():
        return ConnectionPool(**found.values)


def _params(variables: Variables) -> Mapping[str, str]:
    """Return the defaults of the original, under what libpq's variables say."""
    options = variables.text("PGOPTIONS").strip()
    return {
        "sslmode": variables.text("PGSSLMODE").strip() or "require",
        "connect_timeout": variables.text("PGCONNECT_TIMEOUT").strip() or "10",
        # The last of several counts.
        "options": f"{STATEMENT_TIMEOUT} {options}".strip(),
    }

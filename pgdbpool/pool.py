"""The pool's public API, around a hold's life and what keeps the pool going."""

import atexit
import itertools
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import psycopg2

from pgdbpool.block import Block
from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.state import Reason, State, move
from pgdbpool.holding import Holding
from pgdbpool.keeper import all_keepers
from pgdbpool.settings import Settings, SettingsDict, check_sizes, libpq_params
from pgdbpool.stats import Stats
from pgdbpool.watchdog import guarded, shut_down

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_caller = sys._getframe  # noqa: SLF001 - the one way to learn who acquires
_numbers = itertools.count(1)


class ConnectionPool(Holding):
    """A pool of psycopg2 connections, safe to share between threads and forks.

    The constructor never connects: the pool opens its first connection when it
    is first used, or when `open` or `wait` is called.

    Args:
        conninfo: a DSN or URL of libpq; empty for its ``PG*`` variables.
        **given: see `Settings`, which documents each.

    Attributes:
        name: for messages and logs.
        settings: what it was made with.

    Raises:
        SettingsError: a setting is unknown, wrong or contradictory.
    """

    def __init__(self, conninfo: str = "", **given: "Unpack[SettingsDict]") -> None:
        settings = Settings.of(conninfo, given)
        params, factories = libpq_params(conninfo, settings.kwargs)

        def endpoints() -> list[Endpoint]:
            return [Endpoint(params, factories, settings)]

        name = settings.name or f"pool-{next(_numbers)}"
        super().__init__(name, settings, endpoints)
        self._roster.is_open = settings.open
        for callback in tuple(_on_created):
            callback(self)

    def __repr__(self) -> str:
        """Return name, sizes and endpoints in one line."""
        roster = self._roster
        with self._lock:
            state = "open" if roster.is_open else "closed"
            endpoints = ", ".join(map(repr, roster.endpoints))
            return (
                f"<ConnectionPool {self.name!r} {state} {roster.min_size}-"
                f"{roster.max_size}, {len(roster.line)} waiting: {endpoints}>"
            )

    @property
    def min_size(self) -> int:
        """How many connections are kept open."""
        return self._roster.min_size

    @property
    def max_size(self) -> int:
        """How many connections there can be."""
        return self._roster.max_size

    @property
    def timeout(self) -> float | None:
        """How long an acquire may take, in seconds."""
        return self.settings.timeout

    @property
    def closed(self) -> bool:
        """Whether the pool refuses to serve: closed, or not open yet."""
        return not self._roster.is_open

    # Open.

    def open(self, wait: bool = False, timeout: float = 30.0) -> None:  # noqa: FBT001, FBT002 - as in psycopg_pool
        """Serve, and begin to open ``min_size`` connections. Does not block.

        Args:
            wait: block until they are open, see `wait`.
            timeout: for how long, in seconds.

        Raises:
            PoolClosed: the pool has been closed.
        """
        with self._lock:
            if self._roster.was_closed:
                raise self._report.closed()
            self._roster.is_open = True
            self._fill()
        self.act()
        if wait:
            self.wait(timeout)

    def _fill(self) -> None:
        self._roster.is_filling = True
        self._roster.plan(monotonic())

    def wait(self, timeout: float = 30.0) -> None:
        """Block until ``min_size`` connections are open, for ``timeout`` seconds.

        Raises:
            PoolTimeout: they are not, for the reason it says. The pool stays
                open and goes on trying.
            PoolClosed: the pool is closed.
        """
        roster = self._roster
        hold = Hold(monotonic(), _caller(1), None, False)
        with self._lock:
            if not roster.is_open:
                raise self._report.closed()
            self._fill()

        def is_full() -> bool:
            ready = roster.count(State.IDLE, State.IN_USE, State.RESERVED)
            return ready >= roster.min_size or not roster.is_open

        if self.wait_until(is_full, timeout) and roster.is_open:
            return
        with self._lock:
            error = self._report.no_connection(hold, hold.since, monotonic())
        raise error

    def __enter__(self) -> "Self":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Acquire.

    def connection(self, timeout: float | None = None) -> "Block":
        """Return a context manager that holds a connection for its block.

        It commits when the block ends, rolls back when it raises, and releases.

        Args:
            timeout: seconds; None for the pool's.
        """
        return Block(self, timeout)

    def getconn(self, timeout: float | None = None) -> PooledConnection:
        """Acquire a connection, which must be given to `putconn` afterwards.

        Blocks until there is one, at most ``timeout`` seconds (None: the
        pool's). May be called from any thread, and so may `putconn`.

        Raises:
            PoolTimeout: there was none in time; its subclass says why.
            PoolClosed, TooManyRequests: as their names say.
        """
        return self._acquire(timeout, _caller(1), None, False)

    def putconn(self, conn: PooledConnection) -> None:
        """Release what `getconn` gave: roll back, make clean, pass on.

        May block for a round trip or two, at most ``ping_timeout``. A second time
        is not told from the first of somebody who has it from `getconn` by then.

        Raises:
            ValueError: it is of another pool, released, or in a block or request;
                nothing is changed.
        """
        try:
            hold = conn.hold
        except AttributeError:  # not of any pool
            hold = None
        if (
            hold is None
            or hold.is_block
            or hold.entry.endpoint not in self._roster.endpoints
            or not self.release(conn, hold)
        ):
            if hold is not None and hold.entry.expires_as is Reason.ABANDONED:
                return  # the collector was quicker than the finalizer that calls this
            raise self._cannot_put(conn)

    def _cannot_put(self, conn: object) -> ValueError:
        entry = getattr(conn, "entry", None)
        if entry is None or entry.endpoint not in self._roster.endpoints:
            return ValueError(f"{conn!r} does not belong to pool {self.name!r}")
        hold = conn.hold if isinstance(conn, PooledConnection) else None
        if hold is not None and hold.is_block:
            return ValueError(f"{conn!r} is released by the block or request it is in")
        return ValueError(f"{conn!r} has already been released to {self.name!r}")

    # Care.

    def check(self) -> None:
        """Ping every idle connection and replace what does not answer. Blocks."""
        with self._lock:
            idle = [conn for p in self._roster.endpoints for conn in p.shelf]
        for conn in idle:
            if self._reserve(conn):
                self._check_reserved(conn.entry, conn)

    def _reserve(self, conn: PooledConnection) -> bool:
        entry = conn.entry
        with self._lock:
            if entry.state is not State.IDLE:
                return False
            entry.endpoint.shelf.remove(conn)
            move(entry, State.RESERVED)
            return True

    def _check_reserved(self, entry: Entry, conn: PooledConnection) -> None:
        try:
            with guarded(conn, self.settings.ping_timeout, "the ping"):
                session.ping(conn)
                session.undo_ping(conn)
        except psycopg2.Error as error:
            self._discard(entry, conn, error)
            return
        except BaseException:
            self._retire(entry, conn, Reason.DIRTY)
            raise
        with self._lock:
            entry.endpoint.health.succeeded()
            since = entry.since
            self._roster.give(entry, conn, monotonic())
            entry.since = since  # a check is no use of it
        self.act()

    @staticmethod
    def check_connection(conn: PooledConnection) -> None:
        """Send an empty round trip, as psycopg_pool's function of this name does.

        The pool pings by itself; this is for code that passes it as ``check``.
        """
        session.execute(conn, "SELECT 1")

    def drain(self) -> None:
        """Replace every connection: idle ones now, the others at their release."""
        with self._lock:
            for endpoint in self._roster.endpoints:
                self._roster.condemn(endpoint, Reason.DRAINED)
            self._roster.plan(monotonic())
        self.act()

    def retire_idle(self) -> None:
        """Close what is idle and open nothing before the next use.

        For a process that only forks others, such as gunicorn's arbiter.
        """
        with self._lock:
            self._roster.is_filling = False
            for endpoint in self._roster.endpoints:
                self._roster.condemn(endpoint, Reason.DRAINED)
        self.act()

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the sizes. What is too many is closed, when in use at its release.

        Args:
            min_size: how many connections to keep open.
            max_size: the limit; None for the same.

        Raises:
            SettingsError: the sizes make no sense; nothing is changed.
        """
        largest = min_size if max_size is None else max_size
        check_sizes(min_size, largest)
        with self._lock:
            self._roster.resize(min_size, largest, monotonic())
        self.act()

    def get_stats(self) -> dict[str, int]:
        """Return counters and sizes, by the names psycopg_pool has for them."""
        with self._lock:
            return self._stats()

    def pop_stats(self) -> dict[str, int]:
        """Return what `get_stats` does and begin to count from zero."""
        with self._lock:
            stats = self._stats()
            self._roster.stats = Stats()
        return stats

    def _stats(self) -> dict[str, int]:
        roster = self._roster
        return {
            "pool_min": roster.min_size * len(roster.endpoints),
            "pool_max": roster.max_size * len(roster.endpoints),
            "pool_size": roster.size(),
            "pool_available": roster.count(State.IDLE),
            "requests_waiting": len(roster.line),
            **roster.stats.as_dict(),
        }

    # Close.

    def close(self, timeout: float = 5.0) -> None:
        """Refuse callers, close what is idle, wait for holders, then abort them.

        Blocks until the other threads have released, at most ``timeout``
        seconds; a call that is blocked on a connection after that raises. What
        the calling thread holds itself is closed at its release.
        """
        roster = self._roster
        me = threading.get_ident()
        with self._lock:
            if roster.was_closed:
                return
            roster.close()
        self.act()

        def others() -> list[Entry]:
            return [
                entry
                for endpoint in roster.endpoints
                for entry in endpoint.entries
                if entry.state is State.IN_USE
                and (entry.hold is None or entry.hold.thread != me)
            ]

        if self.wait_until(lambda: not others(), timeout):
            return
        with self._lock:
            conns = [entry.conn for entry in others()]
        for conn in conns:
            if conn is not None:
                shut_down(conn)


def all_pools() -> list[ConnectionPool]:
    """Return the pools of this process that are alive."""
    return [keeper for keeper in all_keepers() if isinstance(keeper, ConnectionPool)]


_on_created: list[Callable[[ConnectionPool], object]] = []


def on_created(callback: Callable[[ConnectionPool], object]) -> None:
    """Call ``callback`` with each pool that this process makes from now on."""
    _on_created.append(callback)


@atexit.register
def _close_all() -> None:
    for pool in all_pools():
        pool.close(timeout=0.0)

"""The pool's public API, around a hold's life and what keeps the pool going."""

import atexit
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from pgdbpool.block import Block
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Entry, Hold, Reading, StrictReading
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.environment import PREFIX, Dotenv, Given, find
from pgdbpool.errors import SettingsError
from pgdbpool.keeper import all_keepers
from pgdbpool.looking import Looking
from pgdbpool.observed import Observed
from pgdbpool.reading import read
from pgdbpool.routing.servers import endpoints_of
from pgdbpool.settings import Settings, SettingsDict
from pgdbpool.threadless import Threadless
from pgdbpool.watchdog import shut_down

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_frame = sys._getframe  # noqa: SLF001 - the one way to learn who acquires
_numbers = itertools.count(1)
_T = TypeVar("_T")
_P = TypeVar("_P")


class ConnectionPool(Looking):
    """A pool of psycopg2 connections, safe to share between threads and forks.

    The constructor never connects: the pool opens its first connection when it
    is first used, or when `open` or `wait` is called.

    Args:
        conninfo: a DSN or URL of libpq, of one server or several, or a list of
            such; empty for its ``PG*`` variables.
        **given: see `Settings`, which documents each.

    Attributes:
        name: for messages and logs.
        settings: what it was made with.

    Raises:
        SettingsError: a setting is unknown, wrong or contradictory.
    """

    def __new__(cls, *_: object, **given: object) -> "Self":
        """Return one of the kind that the settings ask for."""
        made: Self = object.__new__(_kind(cls, _more(given)))
        return made

    def __init__(
        self, conninfo: str | Sequence[str] = "", **given: "Unpack[SettingsDict]"
    ) -> None:
        settings = Settings.of(conninfo, given)
        more = _more(vars(settings))
        if not all(isinstance(self, one) for one in more):
            # A subclass has settings of its own. Python looks up the attributes of an
            # object whose class was changed more slowly.
            self.__class__ = _kind(type(self), more)
        name = settings.name or f"pool-{next(_numbers)}"
        endpoints, need = endpoints_of(settings, name)
        super().__init__(name, settings, endpoints, need)
        self._roster.is_open = settings.open
        for callback in tuple(_on_created):
            callback(self)

    @classmethod
    def from_env(
        cls, prefix: str = PREFIX, *, dotenv: Dotenv = False, **given: "Unpack[Given]"
    ) -> "Self":
        """Make a pool as the environment says, which it does not change.

        For each setting the first counts that has it: an argument, the variable of
        the setting (``PGDBPOOL_MAX_SIZE``), ``DATABASE_URL``, the ``DB_*`` names of
        the singleton; last, what libpq knows by itself. The log is warned of what
        is set and does not count.

        Args:
            prefix: of the variables of the settings; another for each pool.
            dotenv: the path of a ``.env`` file, or True for the nearest one from
                the working directory upwards. The environment goes before it.
            **given: the arguments of a pool, ``conninfo`` too.

        Raises:
            SettingsError: a variable is unknown or wrong, which it names.
            ImportError: python-dotenv, or what a variable needs, is missing.
        """
        found = find(prefix, given, dotenv=dotenv)
        found.warn()
        with found.explained():
            return cls(**found.values)

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

        Of several servers those count that serve a plain `connection`.

        Raises:
            PoolTimeout: they are not, for the reason it says. The pool stays
                open and goes on trying.
            PoolClosed: the pool is closed.
        """
        roster = self._roster
        hold = Hold(monotonic(), _caller(), None, False)
        with self._lock:
            if not roster.is_open:
                raise self._report.closed()
            self._fill()

        def is_full() -> bool:
            return roster.is_ready_for(hold, monotonic()) or not roster.is_open

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

    def connection(
        self,
        timeout: float | None = None,
        *,
        read_only: bool = False,
        strict: bool = False,
    ) -> "Block":
        """Return a context manager that holds a connection for its block.

        It commits when the block ends, rolls back when it raises, and releases.

        Args:
            timeout: seconds; None for the pool's.
            read_only: from a standby within ``max_lag`` where there is one, else
                from the primary; its transactions are READ ONLY.
            strict: with ``read_only``: never from the primary.

        Raises:
            SettingsError: ``strict`` without ``read_only``.
        """
        kind = _reading(read_only, strict) if read_only or strict else Hold
        return Block(self, timeout, kind)

    def getconn(
        self,
        timeout: float | None = None,
        *,
        read_only: bool = False,
        strict: bool = False,
    ) -> PooledConnection:
        """Acquire a connection, which must be given to `putconn` afterwards.

        Blocks until there is one, at most ``timeout`` seconds (None: the
        pool's). May be called from any thread, and so may `putconn`. The other
        arguments are those of `connection`.

        Raises:
            PoolTimeout: there was none in time; its subclass says why.
            PoolClosed, TooManyRequests: as their names say.
        """
        kind = _reading(read_only, strict) if read_only or strict else Hold
        try:
            frame = _frame(1)
        except ValueError:  # a thread or greenlet was started with nothing but this
            frame = _frame(0)
        return self.serve(kind(monotonic(), frame, None, False), timeout)

    def read(
        self,
        function: Callable[[PooledConnection], _T],
        timeout: float | None = None,
        *,
        strict: bool = False,
    ) -> _T:
        """Return what a function reads, run again where its server fails it.

        It is called with a connection as of ``connection(read_only=True)``. When that
        is lost, or a standby cancels it because it is in the way of replaying, the
        function is called once more with one of another server, and if that fails it
        too with one of the primary. So it may be called three times, and must take
        what it needs from its cursors before it returns.

        Args:
            function: reads; every other error it raises is passed on.
            timeout: seconds for each acquire; None for the pool's.
            strict: never from the primary.

        Raises:
            PoolError: as `getconn`.
            psycopg2.Error: the last server failed it too.
        """
        return read(self, _caller(), function, timeout, strict=strict)

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
        for credentials in self._logins():
            credentials.rest()
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


def _more(settings: Mapping[str, object]) -> tuple[type, ...]:
    """Return what only pools with certain settings need."""
    more: tuple[type, ...] = ()
    if settings.get("observe") or settings.get("leak_warn_after") is not None:
        more += (Observed,)
    if not settings.get("threaded", True):
        more += (Threadless,)
    return more


@functools.cache
def _kind(cls: type[_P], more: tuple[type, ...]) -> type[_P]:
    """Return the class with what only some pools need before it."""
    more = tuple(one for one in more if not issubclass(cls, one))
    if not more:
        return cls
    return type(cls.__name__, (*more, cls), {"__module__": cls.__module__})


def _caller() -> FrameType:
    """Return who called the method that asks, or that method if nobody has."""
    try:
        return _frame(2)
    except ValueError:
        return _frame(1)


def _reading(read_only: object, strict: object) -> type[Hold]:
    if not read_only:
        raise SettingsError("strict: is for read_only=True only")
    return StrictReading if strict else Reading


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

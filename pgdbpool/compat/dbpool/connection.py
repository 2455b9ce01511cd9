"""`Connection`: the configuration in force, by class methods as in 1.x."""

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pgdbpool import forks
from pgdbpool.compat.dbpool.config import Plan, plan_of
from pgdbpool.compat.dbpool.errors import DBConnectionError, UnconfiguredGroupError
from pgdbpool.compat.dbpool.group import Group, Held, caller
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.errors import PoolExhausted
from pgdbpool.pool import ConnectionPool

# The group, and the number of a hold.
Place = tuple[str, int]
# Of a place: what is held there, and ``occupied`` or ``free``.
Container = tuple[PooledConnection | None, str]

_log = logging.getLogger(__name__)


class Connection:
    """The groups of the process, by name; never instantiated.

    A *connection* is here, as in 1.x, a pair of a group's name and a number. The number
    belongs to one hold, from its acquire to its release, and to no other ever after.
    """

    _plan: ClassVar[Plan | None] = None
    _groups: ClassVar[Mapping[str, Group]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def init(cls, config: Mapping[str, Any]) -> None:
        """Make a pool for each group; those of an earlier call are closed.

        Connects to nothing: the first use of a group does. The pools of an earlier call
        refuse callers from then on, and this blocks for up to 5 s each until the other
        threads have given back what they hold.

        Args:
            config: the dictionary of 1.x, which is not changed.

        Raises:
            SettingsError: it is wrong; what was in force before still is.
        """
        plan = plan_of(config)
        groups = {name: Group(name, one) for name, one in plan.groups.items()}
        for warning in plan.warnings:
            _log.warning("%s", warning)
        cls._replace(plan, groups)

    @classmethod
    def close(cls, timeout: float = 5.0) -> None:
        """Close all pools. 1.x had no such method.

        Args:
            timeout: how long to wait for those who hold a connection of a pool.
        """
        cls._replace(None, {}, timeout)

    @classmethod
    def _replace(
        cls, plan: Plan | None, groups: Mapping[str, Group], timeout: float = 5.0
    ) -> None:
        with cls._lock:
            outdated, cls._groups, cls._plan = cls._groups, groups, plan
        for group in outdated.values():
            group.pool.close(timeout)

    @classmethod
    def get_threading_model(cls) -> str:
        """Return ``threaded`` or ``non-threaded``."""
        plan = cls._plan
        if plan is None:
            raise UnconfiguredGroupError(_NOT_CALLED)
        return plan.threading_model

    @classmethod
    def get_pool(cls, group: str) -> ConnectionPool:
        """Return the pool of a group. 1.x had no such method."""
        return cls.get_group(group).pool

    @classmethod
    def get_group(cls, group: str) -> Group:
        """Return what is behind a name.

        Raises:
            UnconfiguredGroupError: nothing is.
        """
        found = cls._groups.get(group)
        if found is not None:
            return found
        if cls._plan is None:
            raise UnconfiguredGroupError(_NOT_CALLED)
        names = ", ".join(map(repr, cls._groups))
        raise UnconfiguredGroupError(f"no group {group!r} is configured, only {names}")

    @classmethod
    def get_max_pool_size(cls, group: str) -> int:
        """Return the ``connection_count`` of a group."""
        return cls.get_group(group).connection_count

    @classmethod
    def get_connection_iter_container(
        cls, group: str
    ) -> "Iterator[tuple[int, PooledConnection] | None]":
        """Return an iterator whose every step is a `get_next_connection`."""
        return conn_iter(group)

    @classmethod
    def get_connection_container(cls, connection: Place) -> Container:
        """Return what is held at a place, and ``occupied``; or None and ``free``.

        What is free belongs to the pool, and cannot be had without acquiring it.
        """
        held = cls._find(connection)
        return (None, "free") if held is None else (held.conn, "occupied")

    @classmethod
    def get_connection(cls, connection: Place) -> Container:
        """Return the same as `get_connection_container`."""
        return cls.get_connection_container(connection)

    @classmethod
    def get_connection_count(cls, connection: Place) -> int:
        """Return how many connections of the group are held; the number is ignored."""
        group, _ = connection
        return len(cls.get_group(group))

    @classmethod
    def set_connection_status(cls, connection: Place, status: str) -> None:
        """Give a connection back: ``free`` rolls back what is open and releases.

        Once: a second time is without effect, whoever holds the connection by then.
        ``occupied`` is without effect on a place that is held.

        Raises:
            ValueError: the status is neither of them.
            DBConnectionError: ``occupied``, and nothing is held there.
        """
        if status not in ("occupied", "free"):
            raise ValueError(f"status must be free or occupied, not {status!r}")
        held = cls._find(connection)
        if status == "free" and held is not None:
            held.drop()
        if status == "occupied" and held is None:
            raise DBConnectionError(
                "a connection cannot be occupied by its number; get_next_connection() "
                "acquires one and gives it a number"
            )

    @classmethod
    def get_next_connection(cls, group: str) -> tuple[int, PooledConnection] | None:
        """Acquire a connection, which is held until its status is set to ``free``.

        Blocks until there is one, at most for the pool's timeout.

        Returns:
            Its number and the connection; None if all were in use all the time.

        Raises:
            UnconfiguredGroupError: there is no such group.
            DBConnectionError: there is none for another reason.
        """
        found = cls.get_group(group)
        try:
            held = found.acquire(caller(1))
        except PoolExhausted:
            return None
        found.keep(held)
        return held.number, held.conn

    @classmethod
    def connect(cls, connection: Place) -> None:
        """Prove that a place can be served. Blocks.

        What is held there is pinged; it is never replaced under its holder, because
        that would lose what its transaction has done so far. Where nothing is held, a
        connection is acquired and given back.

        Raises:
            DBOfflineError: what is held there was lost.
            DBConnectionError: there is no connection.
        """
        held = cls._find(connection)
        if held is not None:
            held.check()
        else:
            cls.get_group(connection[0]).acquire(caller(1)).drop()

    @classmethod
    def reconnect(cls, connection: Place) -> None:
        """Do what `connect` does. Each acquire replaces what was lost by itself."""
        cls.connect(connection)

    @classmethod
    def _find(cls, connection: Place) -> Held | None:
        group, number = connection
        return cls.get_group(group).find(number)

    @classmethod
    def get_held(cls, connection: Place) -> Held:
        """Return what is held at a place.

        Raises:
            DBConnectionError: nothing is.
        """
        group, number = connection
        return cls.get_group(group).get(number)


def _forked() -> None:
    """Forget, in a child, what a thread of the parent has locked."""
    Connection._lock = threading.Lock()  # noqa: SLF001 - ours


forks.in_child(_forked)

_NOT_CALLED = "Connection.init(config) was not called"


def conn_iter(
    connection_group: str,
) -> "Iterator[tuple[int, PooledConnection] | None]":
    """Return an iterator over the connections of a group, which never ends.

    Each step is a `Connection.get_next_connection`; threads may share it.
    """
    return _Holds(connection_group)


class _Holds:
    def __init__(self, group: str) -> None:
        self._group = group

    def __iter__(self) -> "_Holds":
        return self

    def __next__(self) -> tuple[int, PooledConnection] | None:
        return Connection.get_next_connection(self._group)

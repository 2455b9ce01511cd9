"""The pools that metrics are about, which they do not keep alive."""

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from pgdbpool import forks
from pgdbpool.errors import SettingsError
from pgdbpool.looking import Observer
from pgdbpool.observed import Observed
from pgdbpool.pool import ConnectionPool


class Watcher(Observer, Protocol):
    """An observer of one pool."""

    def forget(self) -> None:
        """Begin anew, as a forked child must."""


T = TypeVar("T", bound=Watcher)


class Watched(Generic[T]):
    """Pools, each with an observer of its own.

    Args:
        make: makes the observer of a pool.
    """

    def __init__(self, make: Callable[[ConnectionPool], T]) -> None:
        self._make = make
        # Guards the list.
        self._lock = threading.Lock()
        self._pairs: list[tuple[weakref.ref[ConnectionPool], T]] = []
        _all.add(self)

    def add(self, pools: Iterable[ConnectionPool]) -> None:
        """Watch more pools.

        Raises:
            SettingsError: one is no pool, does not observe, or has the name of another
                that is not closed; then none of them is watched.
        """
        with self._lock:
            known = [pool for pool, _ in self._alive() if not _was_closed(pool)]
            new: list[ConnectionPool] = []
            for pool in pools:
                _check(pool, [*known, *new])
                new.append(pool)
            names = {pool.name for pool in new}
            self._pairs = [
                (weakref.ref(pool), observer)
                for pool, observer in self._alive()
                if pool.name not in names
            ]
            for pool in new:
                observer = self._make(pool)
                self._pairs.append((weakref.ref(pool), observer))
                _observed(pool).observers += (observer,)

    def pairs(self) -> list[tuple[ConnectionPool, T]]:
        """Return the pools that are alive, each with its observer."""
        with self._lock:
            return self._alive()

    def forget(self) -> None:
        """Begin anew in a forked child, as the pools do."""
        # A thread that is not in the child may hold the old one.
        self._lock = threading.Lock()
        for _, observer in self._pairs:
            observer.forget()

    def _alive(self) -> list[tuple[ConnectionPool, T]]:
        found = [(reference(), observer) for reference, observer in self._pairs]
        alive = [(pool, observer) for pool, observer in found if pool is not None]
        if len(alive) < len(found):
            self._pairs = [(weakref.ref(pool), observer) for pool, observer in alive]
        return alive


def _was_closed(pool: ConnectionPool) -> bool:
    """Whether it is over: then another may have its name."""
    return pool._roster.was_closed  # noqa: SLF001 - `closed` is also what opens yet


def _observed(pool: object) -> Observed:
    if not isinstance(pool, ConnectionPool):
        raise SettingsError(f"{pool!r} is not a ConnectionPool")
    if not isinstance(pool, Observed):
        raise SettingsError(
            f"pool {pool.name!r} measures nothing; make it with observe=True"
        )
    return pool


def _check(pool: object, others: list[ConnectionPool]) -> None:
    name = _observed(pool).name
    if any(pool is other for other in others):
        raise SettingsError(f"pool {name!r} is given twice")
    if any(name == other.name for other in others):
        raise SettingsError(
            f"two pools are named {name!r}, and their metrics would be mixed up; "
            "give each a name of its own: ConnectionPool(..., name=...)"
        )


_all: "weakref.WeakSet[Watched[Any]]" = weakref.WeakSet()


def _forget_all() -> None:
    for watched in list(_all):
        watched.forget()


forks.in_child(_forget_all)

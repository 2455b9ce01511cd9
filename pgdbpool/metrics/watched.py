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
        others: returns pools that are watched elsewhere, and must not be here.
    """

    def __init__(
        self,
        make: Callable[[ConnectionPool], T],
        others: Callable[[], list[ConnectionPool]] = list,
    ) -> None:
        self._make = make
        self._others = others
        # Replaced, never changed: it is read without a lock, for a finalizer that
        # releases while this thread is here may look for it.
        self._pairs: tuple[tuple[weakref.ref[ConnectionPool], T], ...] = ()
        _all.add(self)

    def add(self, pools: Iterable[ConnectionPool]) -> None:
        """Watch more pools.

        Raises:
            SettingsError: one is no pool, does not observe, or has the name of another
                that is not closed; then none of them is watched.
        """
        with _adding:
            known = [*self.unfinished(), *self._others()]
            new: list[ConnectionPool] = []
            for pool in pools:
                _check(pool, [*known, *new])
                new.append(pool)
            names = {pool.name for pool in new}
            kept = [
                (weakref.ref(pool), observer)
                for pool, observer in self.pairs()
                if pool.name not in names
            ]
            made = [(weakref.ref(pool), self._make(pool)) for pool in new]
            self._pairs = (*kept, *made)
            for pool, (_, observer) in zip(new, made, strict=True):
                _observed(pool).observers += (observer,)

    def pairs(self) -> list[tuple[ConnectionPool, T]]:
        """Return the pools that are alive, each with its observer. Does not block."""
        found = [(reference(), observer) for reference, observer in self._pairs]
        return [(pool, observer) for pool, observer in found if pool is not None]

    def unfinished(self) -> list[ConnectionPool]:
        """Return the pools whose names no other may have."""
        return [pool for pool, _ in self.pairs() if not _was_closed(pool)]

    def forget(self) -> None:
        """Begin anew in a forked child, as the pools do."""
        for _, observer in self._pairs:
            observer.forget()


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


# Held while pools are added, whoever watches them.
_adding = threading.Lock()

_all: "weakref.WeakSet[Watched[Any]]" = weakref.WeakSet()


def _forget_all() -> None:
    global _adding  # noqa: PLW0603 - a thread that is not in the child may hold it
    _adding = threading.Lock()
    for watched in list(_all):
        watched.forget()


forks.in_child(_forget_all)

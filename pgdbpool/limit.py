"""A limit that several pools share: all their connections together.

Each connection has a permit, from the decision to open it until its server has seen it
go. A pool that finds no permit free wants one. Who wants first is served first: with a
permit that came free, else with that of the connection which has been idle for longest,
in whichever pool; else with that of the next release.

The limit's own lock is taken inside a pool's, never around it. Nothing is allocated
under it between a look and what follows from it, so a finalizer that the collector runs
there finds everything in order.
"""

import contextlib
import math
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from pgdbpool import forks, greenlets
from pgdbpool.checks import check_int
from pgdbpool.errors import SettingsError


class Member(Protocol):
    """A pool that shares a limit."""

    def idle_since(self) -> float:
        """Return since when its oldest idle connection is so; infinity: none is."""

    def make_room(self) -> None:
        """Close that connection, if it still is."""

    def use_room(self, since: float) -> None:
        """Open what it wanted to, since then."""

    def is_at_work(self) -> bool:
        """Whether this thread is in the middle of its work, as a finalizer can be."""


# To a member that may be gone.
Reference = Callable[[], Member | None]


class Want:
    """That a pool wants a permit, and since when, monotonic seconds."""

    __slots__ = ("since",)

    def __init__(self, since: float) -> None:
        self.since = since


class SharedLimit:
    """How many connections all pools that are given it may have at a time, together.

    For a process with many pools, such as one for each tenant. A pool that needs a
    connection when there are as many takes the permit of the one that has been idle for
    longest, whosever it is; when none is idle, its callers wait for a release.

    Args:
        max_size: how many.

    Raises:
        SettingsError: it is no number, or less than one.
    """

    def __init__(self, max_size: int) -> None:
        check_int("SharedLimit", max_size, least=1)
        self.max_size = max_size
        self._members: dict[Reference, None] = {}
        self._is_threaded: bool | None = None
        self.forget()
        _limits.add(self)

    def __repr__(self) -> str:
        """Return how many there are of how many."""
        return f"<SharedLimit {self.size} of {self.max_size}>"

    @property
    def size(self) -> int:
        """How many connections are open, or being opened or closed."""
        return self.max_size - self._free

    def forget(self) -> None:
        """Begin anew, as a forked child must: nothing of what is open is its own."""
        self._lock = threading.RLock()
        # The lock guards these. Counted, and not derived from a set of permits: that
        # would allocate in between, where a finalizer could come.
        self._era = object()
        self._free = self.max_size
        self._going = 0
        self._wants: dict[Reference, Want] = {}
        self._settler: object = None  # whoever is settling
        self._is_unsettled = False

    def join(self, member: Member, *, is_threaded: bool) -> None:
        """Have a pool give way to others from now on.

        Raises:
            SettingsError: some of those that share it have threads, and others not.
        """
        if self._is_threaded not in (None, is_threaded):
            raise SettingsError(
                "shared_limit: is shared by pools with threaded=True and False"
            )
        self._is_threaded = is_threaded
        self._members[weakref.ref(member)] = None

    # With the lock of the pool in question held.

    def take(self, pool: Reference, since: float | None) -> "Permit | None":
        """Return a permit for one more connection, if it is this pool's turn.

        Args:
            pool: which.
            since: when who needs it asked; None: nobody does. Who needs it and gets
                none is noted, and served later.
        """
        permit = Permit(self, self._era)
        want = Want(math.inf if since is None else since)
        turn = self._turn_of_others(pool)
        with self._lock:
            if self._free > 0 and want.since <= turn:
                self._free -= 1
                permit.is_taken = True
                self._wants.pop(pool, None)
            elif since is not None:
                self._wants.setdefault(pool, want)
        return permit if permit.is_taken else None

    def _turn_of_others(self, pool: Reference) -> float:
        others = self._wants.copy()
        others.pop(pool, None)
        return min((want.since for want in others.values()), default=math.inf)

    def is_owed_since(self, pool: Reference) -> float:
        """Return since when another pool has wanted what one has; infinity: none.

        What is being closed is for who wanted first.
        """
        if len(self._wants) - (pool in self._wants) <= self._going:
            return math.inf
        return self._turn_of_others(pool)

    def forgo(self, pool: Reference) -> None:
        """Want no permit any more."""
        self._wants.pop(pool, None)

    def is_wanted_by(self, pool: Reference) -> bool:
        """Whether a pool wants a permit, and has to wait for it."""
        return pool in self._wants

    def is_wanted(self) -> bool:
        """Whether any pool does."""
        return bool(self._wants)

    # With no lock held.

    def settle(self) -> None:
        """Give permits to those who want them. Blocks while a connection is closed."""
        me = object()
        try:
            with self._lock:
                self._is_unsettled = True
                if self._settler is None:
                    self._settler = me
            # Else another thread does it, or this one further up.
            if self._settler is me:
                while not self._is_settled():
                    while self._settle_one():
                        pass
        except BaseException as error:
            if self._settler is me and not isinstance(error, Exception):
                self._settler = None  # it is from outside, and others relied on this
                self.settle_soon()
            raise
        finally:
            if self._settler is me:
                self._settler = None

    def spare_one(self) -> bool:
        """Close what has been idle for longest, unless a place is free.

        Blocks while it is closed. False: all are in use.
        """
        if self._free > 0:
            return True
        idlest = self._idlest()
        if idlest is None or idlest.is_at_work():
            return False
        idlest.make_room()
        return True

    def settle_soon(self) -> None:
        """Do so in a thread, if there are any."""
        if self._is_threaded and self._wants:
            with contextlib.suppress(RuntimeError):  # there can be no more
                greenlets.start(self.settle)

    def _is_settled(self) -> bool:
        """Whether nobody asked since the last look; then this work is over."""
        with self._lock:
            is_over = not self._is_unsettled
            self._is_unsettled = False
            if is_over:
                self._settler = None
            return is_over

    def _settle_one(self) -> bool:
        """Serve who wants first, or make room for it; False: it has to wait."""
        wants = self._wants.copy()
        first = min(wants, key=lambda pool: wants[pool].since, default=None)
        if first is None:
            return False
        is_free = self._free > 0
        if not is_free and len(wants) <= self._going:
            return False
        member = first() if is_free else self._idlest()
        if member is None:
            if is_free:
                self._drop(first, wants[first])
            return is_free
        if member.is_at_work():
            self.settle_soon()
            return False
        if is_free:
            member.use_room(wants[first].since)
            self._drop(first, wants[first])
        else:
            member.make_room()
        return True

    def _drop(self, pool: Reference, want: Want) -> None:
        """Forget a want that was served, unless there is a new one."""
        with self._lock:
            if self._wants.get(pool) is want:
                del self._wants[pool]

    def _idlest(self) -> Member | None:
        """Return whose connection has been idle for longest."""
        idlest, oldest = None, math.inf
        for reference in self._members.copy():
            member = reference()
            if member is None:
                self._members.pop(reference, None)
            elif (since := member.idle_since()) < oldest:
                idlest, oldest = member, since
        return idlest


class Permit:
    """What one connection has of a limit; it comes free with it, at the latest.

    Args:
        limit: the limit.
        era: of the limit; what was taken before a fork is the parent's.

    Attributes:
        is_taken: whether it counts.
        is_going: whether its connection is being closed for another's sake.
    """

    __slots__ = ("_era", "_limit", "is_going", "is_taken")

    def __init__(self, limit: SharedLimit, era: object) -> None:
        self._limit = limit
        self._era = era
        self.is_taken = self.is_going = False

    def vacate_soon(self) -> None:
        """Let nobody make more room for whom this is meant."""
        limit = self._limit
        with limit._lock:  # noqa: SLF001 - a part of it
            if self.is_taken and not self.is_going and self._era is limit._era:  # noqa: SLF001
                self.is_going = True
                limit._going += 1  # noqa: SLF001

    def leave(self) -> None:
        """Be free, once."""
        limit = self._limit
        with limit._lock:  # noqa: SLF001 - a part of it
            if self.is_taken and self._era is limit._era:  # noqa: SLF001
                limit._free += 1  # noqa: SLF001
                limit._going -= self.is_going  # noqa: SLF001
            self.is_taken = self.is_going = False

    def __del__(self) -> None:
        if self.is_taken:
            self.leave()
            self._limit.settle_soon()


_limits: weakref.WeakSet[SharedLimit] = weakref.WeakSet()


def _forget_all() -> None:
    for limit in list(_limits):
        limit.forget()


forks.in_child(_forget_all)

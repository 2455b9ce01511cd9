"""What a worker tells the reaper: where its sessions are, and how to log in there."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING

from pgdbpool.gunicorn.pipe import logins_of
from pgdbpool.gunicorn.reaper import login_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgdbpool.gunicorn.pipe import ReaperPipe
    from pgdbpool.gunicorn.reaper import Target
    from pgdbpool.gunicorn.server import Log
    from pgdbpool.pool import ConnectionPool

    Reference = weakref.ref[ConnectionPool]
    Login = frozenset[tuple[str, str]]


class Introduction:
    """Tells the reaper of a worker, and again whenever something is another.

    Any thread may call it; it never blocks. In a process that the worker forks in the
    middle of that it tells nothing more.

    Args:
        pipe: to the reaper.
        token: the worker's.
        log: gunicorn's.
    """

    def __init__(self, pipe: ReaperPipe, token: str, log: Log) -> None:
        self._pipe = pipe
        self._token = token
        self._log = log
        self._has_warned = False
        self._process = os.getpid()
        self._news: deque[Reference] = deque()
        # Whoever has it tells, and has all of these.
        self._turn = threading.Lock()
        self._told: dict[Reference, dict[Login, Target]] = {}
        self._users: Counter[Login] = Counter()
        self._late: set[Reference] = set()

    def tell_of(self, pools: Iterable[ConnectionPool]) -> None:
        """Tell of what is not known yet of some pools, now and from now on."""
        for pool in pools:
            reference = weakref.ref(pool, self._news.append)
            hash(reference)  # which it keeps when the pool has gone
            self._renew(reference)

    def _renew(self, reference: Reference) -> None:
        """Tell of what has changed of a pool."""
        self._news.append(reference)
        # Whoever has the turn tells what comes meanwhile, in its order.
        while self._news and self._turn.acquire(blocking=False):
            try:
                while self._news:
                    self._tell(self._news.popleft())
            finally:
                self._turn.release()

    def _tell(self, reference: Reference) -> None:
        pool = reference()
        if pool is not None and reference not in self._told:
            pool.on_login(functools.partial(self._renew, reference))
        before = self._told.pop(reference, {})
        logins = [] if pool is None else logins_of(pool, os.environ)
        if pool is not None and not logins:
            logins = [*before.values()]  # nobody can log in yet, or at this moment
        now = {login_at(target): target for target in logins}
        self._users.update(now.keys() - before.keys())
        if pool is not None:
            self._told[reference] = now
        is_late = reference in self._late
        news = [one for at, one in now.items() if is_late or before.get(at) != one]
        gone = {at: before[at] for at in before.keys() - now.keys()}
        if self._tell_all(news):
            self._late.discard(reference)
            self._leave(gone)
        else:  # next time it is news again; what was before is better than nothing
            self._late.add(reference)
            self._told[reference] = {**gone, **now}

    def _tell_all(self, targets: Sequence[Target]) -> bool:
        """Tell where the worker is; return whether there was room for all of it."""
        told = [self._pipe.tell(hello=self._token, target=one) for one in targets]
        if not (all(told) or self._has_warned):
            self._has_warned = True
            self._log.warning(
                "pgdbpool: the reaper cannot be told of worker %s; if the worker is "
                "killed, what it left running on the server goes on",
                self._token,
            )
        return all(told)

    def _leave(self, gone: Mapping[Login, Target]) -> None:
        """Tell where it is no more, unless another pool is."""
        for at, target in gone.items():
            self._users[at] -= 1
            if self._users[at] <= 0:
                del self._users[at]
                # What a fork of the worker leaves the worker may have still.
                if os.getpid() == self._process:
                    self._pipe.tell(left=self._token, target=target)

"""What a worker tells the reaper: where its sessions are, and how to log in there."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from pgdbpool.gunicorn.pipe import logins_of, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgdbpool.gunicorn.pipe import ReaperPipe
    from pgdbpool.gunicorn.reaper import Target
    from pgdbpool.gunicorn.server import Log
    from pgdbpool.pool import ConnectionPool

# A server, and who logs in there: all databases of it are one to the reaper.
Place = tuple[str | None, ...]


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
        self._turn = threading.Lock()
        self._news: deque[ConnectionPool] = deque()
        # Of each pool what was told, and of each place the last password.
        self._told: weakref.WeakKeyDictionary[ConnectionPool, list[Target]] = (
            weakref.WeakKeyDictionary()
        )
        self._known: dict[Place, str | None] = {}

    def tell_of(self, pools: Iterable[ConnectionPool]) -> None:
        """Tell of what is not known yet of some pools, now and from now on."""
        for pool in pools:
            if pool not in self._told:
                self._told[pool] = []
                pool.on_login(functools.partial(_again, self, weakref.ref(pool)))
            self.renew(pool)

    def renew(self, pool: ConnectionPool) -> None:
        """Tell of what is not known yet of a pool."""
        self._news.append(pool)
        # Whoever has the turn tells what has come meanwhile, in its order.
        while self._news and self._turn.acquire(blocking=False):
            try:
                while self._news:
                    self._tell(self._news.popleft())
            finally:
                self._turn.release()

    def _tell(self, pool: ConnectionPool) -> None:
        before, now = self._told.get(pool, []), logins_of(pool, os.environ)
        if now in (before, []):  # or nobody can log in yet, or at this moment
            return
        self._told[pool] = now
        places = set(map(_place, now))
        is_anew = any(_place(one) not in places for one in before)
        if is_anew:  # what has gone would be looked for in vain
            self._known.clear()
            now = [one for told in list(self._told.values()) for one in told]
        for one in now:
            secret = one["params"].get("password")
            if _place(one) in self._known and self._known[_place(one)] == secret:
                continue
            if self._pipe.tell(hello=self._token, target=one, anew=is_anew):
                self._known[_place(one)] = secret
                is_anew = False
            else:
                self._told[pool] = []  # next time it is news again
                self._warn()

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._log.warning(
                "pgdbpool: the reaper cannot be told of worker %s; if the worker is "
                "killed, what it left running on the server goes on",
                self._token,
            )


def _place(target: Target) -> Place:
    params, environ = target["params"], target["environ"]
    return (*place_of(target), params.get("user") or environ.get("PGUSER"))


def _again(told: Introduction, reference: weakref.ref[ConnectionPool]) -> None:
    pool = reference()
    if pool is not None:
        told.renew(pool)

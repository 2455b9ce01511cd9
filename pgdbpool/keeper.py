"""What keeps a pool going without its callers: the lock, the jobs, the timer.

`Keeper` owns the one lock of a pool, which guards the roster and all that hangs
on it: entries, the line, health, stats. Decisions are made under it, by the
roster; what was decided is carried out after it, by `Keeper.act`. No I/O,
callback or logging happens while it is held.
"""

import functools
import logging
import math
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg2

from pgdbpool import forks, greenlets
from pgdbpool.auth.cache import Credentials
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.need import Need
from pgdbpool.planning import Acts
from pgdbpool.report import Report
from pgdbpool.settings import Settings
from pgdbpool.sharing import SharingRoster
from pgdbpool.upkeep import TendedRoster
from pgdbpool.waiters import Waiter
from pgdbpool.watchdog import watchdog

logger = logging.getLogger(__name__)


class Keeper(ABC):
    """The lock of one pool, its roster, and who acts on what was decided.

    Args:
        name: the pool's.
        settings: the pool's.
        endpoints: makes the endpoints, anew in each forked child.
        need: what a plain ``connection()`` needs where there are several; None: a
            primary if there is one.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        endpoints: Callable[[], list[Endpoint]],
        need: Need | None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._make_endpoints = endpoints
        self._need = need
        self._on_move: list[Callable[[], object]] = []
        # What the settings come to, for the path of every hold. A check hook is
        # asked each time, whatever the ping.
        self._ping_idle = 0.0 if settings.check else settings.ping_idle
        self._is_rollback_enough = settings.reset == "rollback"
        self._is_ping_enough = self._is_rollback_enough and not settings.check
        self._start_anew()
        changed = functools.partial(_on_change, weakref.ref(self))
        for credentials in self._logins():
            credentials.on_change(changed)
        _keepers.add(self)

    def _start_anew(self) -> None:
        self._lock = self._new_lock()
        self._is_locked_by_me = _is_owned_by_me(self._lock)
        # The lock guards all of these.
        self._roster = self._new_roster()
        self._report = Report(self.name, self._roster)
        self._upkeep_at = math.inf
        self._upkeep_key = object()
        if self.settings.shared_limit is not None:
            self.settings.shared_limit.join(self, is_threaded=self.settings.threaded)

    def _new_roster(self) -> TendedRoster:
        made = (self._make_endpoints(), self.settings, self._need, self._acts())
        limit = self.settings.shared_limit
        if limit is None:
            return TendedRoster(*made)
        return SharingRoster(limit, weakref.ref(self), *made)

    def _new_lock(self) -> Any:  # noqa: ANN401 - typeshed hides its class
        # Reentrant only so that a finalizer, which the collector can run while this
        # very thread holds it, finds out that it is (`Holding.release`).
        return threading.RLock()

    @abstractmethod
    def _acts(self) -> Acts:
        """Return what makes jobs of the roster's decisions."""

    def act(self) -> None:
        """Carry out what was decided, also by others. Never with the lock held."""
        jobs = self._roster.jobs
        while jobs:
            try:
                job = jobs.popleft()
            except IndexError:  # another thread was quicker
                return
            job()

    def mend(self) -> None:
        """Take back what was lost, by a holder or to an exception from outside."""
        with self._lock:
            self._roster.salvage(monotonic())
        self.act()

    # Credentials.

    def _logins(self) -> set[Credentials]:
        """Return where the passwords are from, if not from libpq."""
        found = (endpoint.credentials for endpoint in self._roster.endpoints)
        return {credentials for credentials in found if credentials is not None}

    def login_params(self) -> list[dict[str, str]]:
        """Return with what each endpoint is connected to now, secrets included.

        For gunicorn's hooks, which need it when this process has gone. Does not block.
        """
        with self._lock:
            endpoints = self._roster.endpoints
            hosts = Counter(endpoint.host for endpoint in endpoints)
            found = (
                endpoint.login_params(has_siblings=hosts[endpoint.host] > 1)
                for endpoint in endpoints
            )
            return [params for params in found if params is not None]

    def on_login(self, callback: Callable[[], object]) -> None:
        """Have a function called when `login_params` may differ, without the lock."""
        self._on_move.append(callback)
        for credentials in self._logins():
            credentials.on_change(callback, also_first=True)

    def _tell_of_move(self) -> None:
        for callback in tuple(self._on_move):
            try:
                callback()
            except Exception:
                logger.exception("pool %r: on_login failed", self.name)

    def replace_all(self) -> None:
        """Replace all connections, one after the other: new logins are others."""
        with self._lock:
            self._roster.rotate()
            due = self._roster.upkeep(monotonic())
        self._come_by(due)
        self.act()

    # A limit that pools share: see `limit.Member`.

    def is_at_work(self) -> bool:
        """Whether this thread is in the middle of the pool's work."""
        return self._is_locked_by_me()

    def idle_since(self) -> float:
        """Return since when the oldest idle connection is so; infinity: none is."""
        return self._roster.idle_since()

    def make_room(self) -> None:
        """Close that connection, if it still is. Blocks meanwhile."""
        with self._lock:
            self._roster.give_way()
        self.act()

    def use_room(self, since: float) -> None:
        """Open what there was no room for, since then."""
        with self._lock:
            self._roster.use_room(monotonic(), since)
        self.act()

    # Upkeep.

    def _come_by(self, when: float) -> None:
        """See to it that upkeep runs at ``when``, or before."""
        if when >= self._upkeep_at:
            return
        with self._lock:  # or a later time could overwrite an earlier one
            if when < self._upkeep_at:
                self._upkeep_at = when
                self._set_alarm(when)

    def _set_alarm(self, when: float) -> None:
        watchdog.at(
            when, self._upkeep_key, functools.partial(_on_timer, weakref.ref(self))
        )

    def _keep_up(self) -> None:
        """Do what time brings; on the timer thread, so without I/O."""
        with self._lock:
            self._upkeep_at = math.inf
            due = self._roster.upkeep(monotonic())
        self._come_by(due)
        if self._roster.jobs:
            greenlets.start(self.act)

    def wait_until(self, has_come: Callable[[], bool], timeout: float | None) -> bool:
        """Block until a condition on the roster holds; False: it did not in time."""
        waiter = Waiter()
        watcher = (has_come, waiter)
        with self._lock:
            if has_come():
                return True
            self._roster.watchers.append(watcher)
        self.act()
        try:
            waiter.sleep(timeout)
        finally:
            with self._lock:
                if watcher in self._roster.watchers:
                    self._roster.watchers.remove(watcher)
        return waiter.is_awake

    # Fork.

    def forget(self) -> None:
        """Begin anew in a forked child, without a byte on the parent's sockets."""
        old = self._roster
        self._start_anew()
        self._roster.is_open = old.is_open
        self._roster.was_closed = old.was_closed
        self._roster.min_size, self._roster.max_size = old.min_size, old.max_size
        for endpoint in old.endpoints:
            for opening in endpoint.opening:
                _blind(opening)
            for entry in endpoint.entries:
                entry.hold = None
                conn = entry.conn
                entry.reference = None
                if conn is not None:
                    _blind(conn)


def _blind(conn: PooledConnection) -> None:
    """Put /dev/null in the place of an inherited socket.

    The child can then neither disturb the parent's session nor keep it open,
    whatever it does with the connection; closing it would end that session.
    """
    conn.hold = None
    try:
        fd = conn.fileno()
    except psycopg2.Error:  # closed before the fork: there is no socket
        return
    if fd >= 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)
        os.close(null)


def _is_owned_by_me(lock: Any) -> Callable[[], bool]:  # noqa: ANN401 - typeshed hides it
    """Return what tells whether this thread holds the lock, as Condition does."""
    owned: Callable[[], bool] = lock._is_owned  # noqa: SLF001 - there is no other
    return owned


def _on_timer(keeper: "weakref.ref[Keeper]") -> None:
    alive = keeper()
    if alive is not None:
        alive._keep_up()  # noqa: SLF001 - its own


def _on_change(keeper: "weakref.ref[Keeper]") -> None:
    alive = keeper()
    if alive is not None:
        alive.replace_all()


_keepers: "weakref.WeakSet[Keeper]" = weakref.WeakSet()


def all_keepers() -> list[Keeper]:
    """Return the pools of this process that are alive."""
    return list(_keepers)


def _forget_all() -> None:
    for keeper in all_keepers():
        keeper.forget()


forks.in_child(_forget_all)

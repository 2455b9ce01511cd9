"""A pool for a process with one thread that serves one request at a time.

No thread is started and no lock is taken. What threads do elsewhere is done on the
way: who finds nothing idle connects, and whoever acquires does what time brings. Who
finds everything in use is told so at once, for only itself could release anything.
"""

import functools
import math
import time
from collections.abc import Callable
from time import monotonic
from typing import Final

from pgdbpool.care import Caring
from pgdbpool.endpoint import cleaning
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.host import Host
from pgdbpool.endpoint.state import State, move
from pgdbpool.holding import UNPAUSED
from pgdbpool.routing.monitor import SHORT_INTERVAL

# Looking a member of an enum up costs as much as a call, twice a hold.
IDLE: Final = State.IDLE
IN_USE: Final = State.IN_USE

# Who was released less than this ago, seconds, is not looked at before it serves.
FRESH: Final = 0.01
# How often to try to meet a server that did not answer, and that nobody needs, seconds.
MEET_AGAIN: Final = 10.0
# How often a place of a shared limit is asked for: before others made room, and after.
MOST_DENIALS: Final = 2


class Inside:
    """Stands in the place of a lock: tells whether the pool is at work.

    A finalizer, which the collector can run in the middle of that, finds it so.
    """

    __slots__ = ("depth",)

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def _is_owned(self) -> bool:
        return self.depth > 0


class Threadless(Caring):
    """What differs where there are no threads."""

    def _start_anew(self) -> None:
        super()._start_anew()
        self._first = -1 if self.settings.order == "lifo" else 0

    def _new_lock(self) -> Inside:
        return Inside()

    # Acquire and release, on the shortest way.

    def serve(self, hold: Hold, timeout: float | None) -> PooledConnection:
        """Find a connection for a new hold. Blocks; raises as `acquire` does."""
        roster, now = self._roster, hold.since
        if self._lock.depth:
            return super().serve(hold, timeout)
        if now >= self._upkeep_at:
            self._keep_up()
        if not roster.is_single:
            return super().serve(hold, timeout)
        shelf = roster.endpoints[0].shelf
        if shelf:
            conn = shelf[self._first]
            entry = conn.entry
            idle = now - entry.since
            if (
                idle < self._ping_idle
                and now < entry.expires_at
                and conn.is_read_ping is hold.is_reading
                and (idle < FRESH or not conn.news())
            ):
                del shelf[self._first]
                move(entry, IN_USE)
                entry.hold = conn.hold = hold
                hold.entry = entry
                roster.stats.requests_num += 1
                return conn
        return super().serve(hold, timeout)

    def release(self, conn: PooledConnection, hold: Hold, *, keep: bool = True) -> bool:
        """End a hold, once: roll back what is open, make clean, pass on."""
        entry = hold.entry
        if entry.hold is not hold:
            return False
        if self._lock.depth:  # a finalizer, in the middle of the pool's own work
            later = functools.partial(self.release, conn, hold, keep=keep)
            self._roster.jobs.append(later)
            self._upkeep_at = 0.0
            return True
        endpoint, now = entry.endpoint, monotonic()
        if (
            keep
            and self._is_rollback_enough
            and self._roster.is_single
            and now < entry.expires_at
            and entry.generation == endpoint.generation
            and len(endpoint.entries) <= self._roster.max_size
            and cleaning.is_clean(conn)
        ):
            stats = self._roster.stats
            stats.usage += now - hold.since
            stats.requests_released += 1
            entry.hold = conn.hold = None
            entry.since = now
            conn.is_touched = False
            move(entry, IDLE)
            endpoint.shelf.append(conn)
            return True
        return super().release(conn, hold, keep=keep)

    def _clean_here_or_elsewhere(
        self,
        entry: Entry,
        conn: PooledConnection,
        keep: bool,  # noqa: FBT001 - as inherited
    ) -> None:
        self._clean(entry, conn, keep=keep)

    def _stand_in_line(
        self, hold: Hold, asked: float, deadline: float, *, again: bool
    ) -> PooledConnection:
        """Connect, for nobody else would. Blocks; see `Holding.serve`."""
        roster = self._roster
        denials = 0  # at the first one, another pool may make room
        while True:
            with self._lock:
                now = monotonic()
                conn = roster.take_late(hold, now)
                if conn is not None:
                    return conn
                vacant = self._vacant(hold, now) if denials < MOST_DENIALS else None
                if vacant is not None and roster.is_open and now < deadline:
                    denials += roster.open_at(vacant, now, hold.since) is None
                else:
                    error = self._objection(hold, asked, now, again=again)
                    if error is None and not self._has_hope(hold, now, deadline):
                        error = self._report.no_connection(hold, asked, now)
                    if error is not None:
                        raise error
            if roster.jobs:
                self.act()
            else:
                time.sleep(min(SHORT_INTERVAL, max(deadline - now, 0.0)))
                self._keep_up()

    def _seek(self, *, is_lost: bool) -> None:  # noqa: ARG002 - nobody else probes
        """Connect, for who asks whether it can be done. Blocks."""
        with self._lock:
            self._roster.meet(
                monotonic(), 0.0 if self._roster.is_single else MEET_AGAIN
            )
        self._keep_up()

    def _vacant(self, hold: Hold, now: float) -> Endpoint | None:
        """Return where to connect for a hold: to who may serve it, or may turn out.

        Of several those are first that have failed least: who is silent costs time.
        """
        roster = self._roster
        unknown = (
            endpoint
            for endpoint in roster.monitor.endpoints
            if not (roster.is_single or endpoint.standing.is_known)
        )
        may_be_tried = [
            endpoint
            for endpoint in (*roster.candidates(hold, now), *unknown)
            if len(endpoint.entries) < roster.max_size
            and (not endpoint.health.needs_pause or endpoint.health.retry_at <= now)
        ]
        return min(may_be_tried, key=lambda one: one.health.failures, default=None)

    def _has_hope(self, hold: Hold, now: float, deadline: float) -> bool:
        """Whether somebody may come to serve a hold without a release."""
        servers = list(self._roster.candidates(hold, now))
        is_full = all(len(e.entries) >= self._roster.max_size for e in servers)
        is_full |= self._roster.is_short()
        return now < deadline and not (servers and is_full)

    # What threads do elsewhere.

    def act(self) -> None:
        """Carry out what was decided."""
        if not self._lock.depth:
            super().act()

    def mend(self) -> None:
        """Take back what was lost, as soon as the pool is not at work."""
        self._roster.is_disturbed = True
        self._upkeep_at = 0.0

    def _keep_up(self) -> None:
        self.act()  # a finalizer's release comes before the search for what is lost
        with self._lock:
            self._upkeep_at = math.inf
            now = monotonic()
            due = self._roster.upkeep(now)
            if not self._roster.is_single and self._roster.is_open:
                due = min(due, self._meet(now))
        self._come_by(due)
        self.act()

    def _meet(self, now: float) -> float:
        """Connect to servers that are not known; return when to come again.

        Somebody's request pays for it, so to who did not answer it seldom happens.
        """
        due = math.inf
        for endpoint in self._roster.monitor.endpoints:
            health = endpoint.health
            if not (endpoint.standing.is_known or endpoint.entries):
                again = health.error_at + MEET_AGAIN if health.failures else now
                due = min(due, max(again, now + MEET_AGAIN))
                if again <= now:
                    self._roster.open_at(endpoint, now)
        return due

    def _come_by(self, when: float) -> None:
        self._upkeep_at = min(self._upkeep_at, when)

    def _begin_connect(self, entry: Entry) -> None:
        if entry.state is State.CONNECTING and not entry.has_begun:
            entry.has_begun = True
            self._connect(entry)

    def _connect_failed(self, entry: Entry, error: BaseException) -> None:
        super()._connect_failed(entry, error)
        if not isinstance(error, Exception):
            raise error  # from outside, for whoever called

    def _mend_soon(self) -> None:
        self.mend()

    def _begin_probe(self, entry: Entry, conn: PooledConnection) -> None:
        self._probe(entry, conn)

    def _begin_resolve(self, host: Host) -> None:
        """Leave it to libpq, at each connect: nobody is to wait for a resolver."""

    def _listen(self, entry: Entry, conn: PooledConnection) -> None:
        """Leave it to the look, or the ping, before each hold."""

    def _pause(self, tries: int, deadline: float) -> None:
        if tries > UNPAUSED:
            time.sleep(max(min(SHORT_INTERVAL, deadline - monotonic()), 0.0))

    def _fill(self) -> None:
        """Open ``min_size`` only for who waits for that: no request pays for it."""

    def wait_until(self, has_come: Callable[[], bool], timeout: float | None) -> bool:
        """Do what is to be done until a condition holds; False: it did not in time."""
        deadline = math.inf if timeout is None else monotonic() + timeout
        roster = self._roster
        roster.is_filling = True
        try:
            self._keep_up()
            while not has_come():
                if not roster.is_open or monotonic() >= deadline:
                    return False
                time.sleep(SHORT_INTERVAL)
                self._keep_up()
            return True
        finally:
            roster.is_filling = False

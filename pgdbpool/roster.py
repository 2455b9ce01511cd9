"""Who has which connection, who waits, what is to be done: all decisions.

A roster takes no lock and does no I/O. The pool calls it with its lock held
and afterwards, without the lock, carries out the jobs that were decided: a
connect to begin, a connection to close. A job that an exception kept from being
begun is begun by the next who comes by.

Whatever becomes available, by a release, a connect or a check, goes through one
funnel, `Roster.give`, which asks once: a waiter, or the shelf?
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Finding, Role
from pgdbpool.endpoint.state import Reason, State, move
from pgdbpool.planning import Acts, Job, Planner
from pgdbpool.routing.monitor import INTERVAL
from pgdbpool.settings import Settings
from pgdbpool.waiters import Waiter

# Looking a member of an enum up costs as much as a call, twice a hold.
IDLE: Final = State.IDLE
IN_USE: Final = State.IN_USE


class Roster(Planner):
    """The state of one pool, and every change to it; the pool's lock guards it.

    Args:
        endpoints: the servers.
        settings: the pool's.
        need: what a plain ``connection()`` needs where there are several; None: a
            primary if there is one.
        acts: make the jobs of what was decided.

    Attributes:
        watchers: who waits for something else, and for what.
        is_disturbed: something may have to be salvaged.
        was_closed: whether the pool has ended.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: Settings,
        need: Need | None,
        acts: Acts,
    ) -> None:
        super().__init__(endpoints, settings, need, acts)
        self.is_disturbed = False
        self.was_closed = False
        self.watchers: list[tuple[Callable[[], bool], Waiter]] = []
        self._from_shelf = deque.pop if settings.order == "lifo" else deque.popleft

    # Acquire.

    def take(self, hold: Hold, now: float) -> PooledConnection | None:
        """Give the hold an idle connection that may be served; None: there is none."""
        serving = self.endpoints if self.is_single else self.chooser.order(hold, now)
        best: Endpoint | None = None
        for endpoint in serving:
            shelf = endpoint.shelf
            while shelf:
                conn = self._from_shelf(shelf)
                entry = conn.entry
                if entry.expires_at > now:
                    move(entry, IN_USE)
                    entry.hold = conn.hold = hold
                    hold.entry = entry
                    if best is not None:
                        self.grow(best, now)
                    return conn
                self.retire(entry, conn, Reason.LIFETIME)
                self.plan(now)
            best = best or endpoint
        return None

    def take_late(self, hold: Hold, now: float) -> PooledConnection | None:
        """Give an idle connection to a hold that there was none for at first."""
        conn = self.take(hold, now)
        if conn is not None:
            self.stats.requests_unserved -= 1
        return conn

    def count_wait(self, hold: Hold, now: float) -> None:
        """Have a hold last from now on: until now it was a wait."""
        self.stats.requests_wait += now - hold.since
        hold.since = now

    def given_to(self, hold: Hold) -> PooledConnection | None:
        """Return what a hold has at this moment."""
        entry = getattr(hold, "entry", None)
        return entry.conn if entry is not None and entry.hold is hold else None

    def join(self, hold: Hold, now: float, *, again: bool) -> Waiter:
        """Stand in line, and see to it that there will be something to get."""
        self.is_filling = True
        if self.is_disturbed:
            self.salvage(now)
        waiter = Waiter(hold)
        self.line.join(waiter, again=again)
        if not again:
            self.stats.requests_queued += 1
        self.plan(now)
        return waiter

    def withdraw(self, hold: Hold) -> None:
        """Take a hold out of the line, if it is in it."""
        self.line.drop(hold)

    # Release, and whatever else makes a connection available.

    def end(
        self,
        hold: Hold,
        conn: PooledConnection,
        now: float,
        is_clean: bool,  # noqa: FBT001 - a keyword costs, on the path of every release
    ) -> Entry | None:
        """End a hold; a clean connection is passed on in the same step.

        Returns:
            The entry, whose connection is the caller's alone now unless it was
            clean. None when the hold had ended before: nothing may be touched.
        """
        entry = hold.entry
        if entry.hold is not hold:
            return None
        entry.hold = None
        stats = self.stats
        stats.usage += now - hold.since
        stats.requests_released += 1
        if is_clean:
            if conn.is_renewed:
                conn.is_renewed = False
                conn.pinged_for = self.next_for(entry.endpoint, now)
            self.give(entry, conn, now)
        else:
            entry.since = now  # from now on it is made clean
        return entry

    def give(self, entry: Entry, conn: PooledConnection, now: float) -> None:
        """Pass on what became available: the one funnel.

        What must go for a reason of its own is retired, the rest goes to the
        shelf, and from there at once to the first waiter, if there is one.
        """
        endpoint = entry.endpoint
        entry.since = now
        conn.hold = None
        conn.is_touched = False
        if (
            entry.expires_at <= now
            or entry.generation != endpoint.generation
            or len(endpoint.entries) > self.max_size
        ):
            self.retire(entry, conn, self._why_unfit(entry, now))
            self.plan(now)
            return
        move(entry, IDLE)
        endpoint.shelf.append(conn)
        if not self.is_single and endpoint.standing.probe_at <= now:
            self.probe(conn)
        elif self.line:
            self._serve_next(endpoint, now)
        if self.watchers:
            self.notify()

    def reserve(self, conn: PooledConnection) -> None:
        """Take an idle connection off the shelf, for the pool itself to look at."""
        conn.entry.endpoint.shelf.remove(conn)
        move(conn.entry, State.RESERVED)

    def give_back(self, entry: Entry, conn: PooledConnection, now: float) -> None:
        """Pass on what was reserved, as idle for as long as it has been."""
        since = entry.since
        self.give(entry, conn, now)
        entry.since = since

    def probe(self, conn: PooledConnection) -> None:
        """Have an idle connection's server asked who it is."""
        self.reserve(conn)
        conn.entry.endpoint.standing.probe_at = math.inf  # until it was
        self.jobs.append(self._acts.probe(conn.entry, conn))

    def probed(
        self, entry: Entry, conn: PooledConnection, finding: Finding, now: float
    ) -> None:
        """Take note of a probe, and give its connection back."""
        if entry.state is not State.RESERVED:  # it was given up for lost already
            return
        entry.endpoint.health.succeeded()
        self.monitor.found(entry.endpoint, finding, now)
        self.give_back(entry, conn, now)
        self.serve(now)
        self.plan(now)

    def probe_later(self, entry: Entry, conn: PooledConnection, now: float) -> None:
        """Give back what there was nobody to probe with."""
        entry.endpoint.standing.probe_at = now + INTERVAL
        self.give_back(entry, conn, now)

    def serve(self, now: float) -> None:
        """Give what is idle to who waits, after a change of roles or of luck."""
        for endpoint in self.endpoints:
            served = True
            while served and endpoint.shelf and self.line:
                served = self._serve_next(endpoint, now)

    def _serve_next(self, endpoint: Endpoint, now: float) -> bool:
        """Serve the first in line whom the endpoint may serve; False: nobody."""
        if self.is_single:
            self._serve(self.line[0], now)
            return True
        for waiter in self.line:
            hold = waiter.hold
            if hold is not None and self.chooser.serves(endpoint, hold, now):
                return self._serve(waiter, now)
        return False

    def _serve(self, waiter: Waiter, now: float) -> bool:
        # Out of the line only when served: whatever interrupts this, nobody is
        # forgotten, and `salvage` goes on from here.
        hold = waiter.hold
        assert hold is not None  # noqa: S101 - who waits for an event is a watcher
        if waiter.conn is None:
            waiter.conn = self.take_late(hold, now)
            if waiter.conn is not None:
                self.count_wait(hold, now)
        if waiter.conn is None:
            return False
        waiter.wake()
        self.line.leave(waiter)
        return True

    def salvage(self, now: float) -> None:
        """Put right what an exception, or a holder's loss, left behind."""
        self.is_disturbed = False
        for endpoint in self.endpoints:
            for entry in tuple(endpoint.entries):
                self._salvage(endpoint, entry)
        for waiter in tuple(self.line):
            if waiter.conn is not None:
                self._serve(waiter, now)
        self.serve(now)
        self.plan(now)

    def _salvage(self, endpoint: Endpoint, entry: Entry) -> None:
        conn = entry.conn
        if entry.state is State.CLOSED:
            endpoint.entries.discard(entry)
        elif entry.state is State.CONNECTING:
            if not entry.has_begun:
                self.jobs.append(self._acts.begin_connect(entry))
        elif conn is None or (entry.state is IDLE and conn not in endpoint.shelf):
            if entry.hold is not None:
                self.warn(
                    f"a connection was not released but lost ({entry.hold!r}); "
                    "it is closed"
                )
            self.retire(entry, conn, Reason.ABANDONED)
            endpoint.standing.probe_at = 0.0  # it may have been on its way to that

    def retire(
        self, entry: Entry, conn: PooledConnection | None, reason: Reason
    ) -> None:
        """Close an entry that is the caller's alone, or was taken from the shelf.

        One that is closed already was given up for lost, because a finalizer
        brought its connection back to life: then only that is left to close.
        """
        if entry.state is not State.CLOSED:
            entry.endpoint.close_entry(entry)
        if conn is not None:
            conn.hold = None
            self.jobs.append(self._closing(entry, conn, reason))
        if self.watchers:
            self.notify()

    def _closing(
        self,
        entry: Entry,  # noqa: ARG002 - for who has to share
        conn: PooledConnection,
        reason: Reason,
    ) -> Job:
        return self._acts.close(conn, reason)

    def retire_idle(self, entry: Entry, reason: Reason) -> None:
        """Close an entry that is idle."""
        conn = entry.conn
        if conn is not None and conn in entry.endpoint.shelf:
            entry.endpoint.shelf.remove(conn)
        self.retire(entry, conn, reason)

    def fail(
        self, entry: Entry, conn: PooledConnection, reason: Reason, now: float
    ) -> None:
        """Retire a connection found unfit; a lost one condemns its generation."""
        endpoint = entry.endpoint
        if entry.hold is not None:  # the ping before it failed
            self.stats.requests_unserved += 1
        if reason in (Reason.LOST, Reason.PING_FAILED):
            self.stats.connections_lost += 1
            self.monitor.lost(endpoint, now)
            is_of_it = endpoint.is_at(entry.address)
            if is_of_it and entry.generation == endpoint.generation:
                self.condemn(endpoint, Reason.LOST)
        else:
            self.stats.returns_bad += 1
        self.retire(entry, conn, reason)
        self.plan(now)

    def _why_unfit(self, entry: Entry, now: float) -> Reason:
        if self.was_closed:
            return Reason.POOL_CLOSED
        if entry.generation != entry.endpoint.generation:
            return entry.endpoint.outdated_as
        return entry.expires_as if entry.expires_at <= now else Reason.SHRUNK

    def hung_up(self, entry: Entry, conn: PooledConnection, now: float) -> None:
        """Take note that the server ended a session; an idle one is replaced."""
        entry.expire(Reason.LOST)
        if entry.state is IDLE and conn in entry.endpoint.shelf:
            entry.endpoint.shelf.remove(conn)
            error = ConnectionResetError("the server ended an idle session")
            entry.endpoint.health.note(error, now)
            self.fail(entry, conn, Reason.LOST, now)

    def condemn(self, endpoint: Endpoint, reason: Reason) -> None:
        """Make every connection of the endpoint go: idle now, busy at release."""
        endpoint.outdate(Reason.DRAINED)
        while endpoint.shelf:
            self.retire_idle(endpoint.shelf[-1].entry, reason)

    # Connects.

    def learned(
        self,
        endpoint: Endpoint,
        finding: Finding | None,
        role: Role | None,
        now: float,
    ) -> None:
        """Take note of what a new connection tells of its server."""
        if finding is not None:
            self.monitor.found(endpoint, finding, now)
        elif self.is_single and role is not None:
            endpoint.standing.heard(role, now)

    def connected(
        self, entry: Entry, conn: PooledConnection, seconds: float, now: float
    ) -> None:
        """Take in a finished connect, also one that nobody waits for any more."""
        endpoint = entry.endpoint
        self.stats.connections_time += seconds
        if entry.state is not State.CONNECTING or not self.is_open:
            self._come_too_late(entry, conn)
            return
        endpoint.health.connected()
        if not endpoint.is_at(entry.address):  # it was opened before that was known
            entry.expire(Reason.MOVED)
        self.give(entry, conn, now)
        if not self.is_single:
            self.serve(now)
        self.plan(now)

    def _come_too_late(self, entry: Entry, conn: PooledConnection) -> None:
        if entry.state is State.CONNECTING:
            self.retire(entry, conn, Reason.POOL_CLOSED)
        else:
            self.jobs.append(self._closing(entry, conn, Reason.CONNECT_FAILED))

    def notify(self) -> None:
        """Wake the watchers who waited for what is now so."""
        for watcher in list(self.watchers):
            has_come, waiter = watcher
            if has_come():
                self.watchers.remove(watcher)
                waiter.wake()

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
from typing import Final, NamedTuple

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.state import Reason, State, move
from pgdbpool.errors import EndpointDown, PoolError
from pgdbpool.settings import Settings
from pgdbpool.stats import Stats
from pgdbpool.waiters import Line, Waiter

# More connects at a time would mostly come too late: each release serves a
# waiter as well, and what is no longer wanted loads the server for nothing.
MOST_CONNECTING: Final = 4

# Looking a member of an enum up costs as much as a call, twice a hold.
IDLE: Final = State.IDLE
IN_USE: Final = State.IN_USE

Job = Callable[[], object]


class Acts(NamedTuple):
    """What a roster decides and others do: each makes a job of it."""

    begin_connect: Callable[[Entry], Job]
    close: Callable[[PooledConnection, Reason], Job]
    tell_lost: Callable[[Hold], Job]


class Roster:
    """The state of one pool; the pool's lock guards all of it.

    Args:
        endpoints: the servers.
        settings: the pool's.
        acts: make the jobs of what was decided.

    Attributes:
        line: who waits for a connection.
        watchers: who waits for something else, and for what.
        jobs: what was decided and is to be done without the lock.
        stats: what happened so far.
        min_size, max_size: the limits, for each endpoint.
        is_disturbed: something may have to be salvaged.
        is_open, is_filling, was_closed: whether the pool serves; keeps
            ``min_size`` open, which it does from its first use on; has ended.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: Settings,
        acts: Acts,
    ) -> None:
        self.endpoints = endpoints
        self.settings = settings
        self.min_size = settings.min_size
        self.max_size = settings.max_size
        self.is_disturbed = False
        self.is_open = False
        self.is_filling = False
        self.was_closed = False
        self.line = Line()
        self.watchers: list[tuple[Callable[[], bool], Waiter]] = []
        self.jobs: deque[Job] = deque()
        self.stats = Stats()
        self._acts = acts
        self._from_shelf = deque.pop if settings.order == "lifo" else deque.popleft

    # Acquire.

    def take(self, hold: Hold, now: float) -> PooledConnection | None:
        """Give the hold an idle connection that may be served; None: there is none."""
        for endpoint in self.endpoints:
            shelf = endpoint.shelf
            while shelf:
                conn = self._from_shelf(shelf)
                entry = conn.entry
                if entry.expires_at > now:
                    move(entry, IN_USE)
                    entry.hold = conn.hold = hold
                    hold.entry = entry
                    return conn
                self.retire(entry, conn, Reason.LIFETIME)
                self.plan(now)
        return None

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

    def refuses(self, now: float) -> type[PoolError] | None:
        """Return how callers are refused who found nothing idle, None: they wait."""
        for endpoint in self.endpoints:
            health = endpoint.health
            if health.has_lasted(self.settings.grace, now):
                return EndpointDown
            # What is in use comes back, and what is connecting may succeed yet.
            if health.refusal and not endpoint.entries:
                return health.refusal
        return None

    def refusal_due(self) -> float:
        """Return when those who wait will be refused, if nothing gets better."""
        grace = self.settings.grace
        if grace is None or not self.line:
            return math.inf
        unreachable = [
            endpoint.health.unreachable_since
            for endpoint in self.endpoints
            if endpoint.health.unreachable_since is not None
        ]
        return min(unreachable, default=math.inf) + grace

    def is_deadlocked(self, hold: Hold) -> bool:
        """Whether no holder could ever release once this one stands in line too."""
        entries = [entry for endpoint in self.endpoints for entry in endpoint.entries]
        if len(entries) < self.max_size * len(self.endpoints):
            return False
        # Only a holder closes the circle, and few who wait are one.
        if hold.thread not in {h.thread for h in self.holds()}:
            return False
        waiting = self.line.threads() | {hold.thread}
        return all(
            entry.hold is not None
            and entry.conn is not None
            and entry.hold.is_block
            and entry.hold.thread in waiting
            for entry in entries
        )

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
        self.stats.usage += now - hold.since
        if is_clean:
            if conn.is_renewed:
                conn.is_renewed = False
                conn.pinged_for = self.line[0].hold
            self.give(entry, conn, now)
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
        if self.line:
            self._serve_first(now)
        if self.watchers:
            self.notify()

    def _serve_first(self, now: float) -> None:
        # Out of the line only when served: whatever interrupts this, nobody is
        # forgotten, and `salvage` goes on from here.
        waiter = self.line[0]
        hold = waiter.hold
        assert hold is not None  # noqa: S101 - who waits for an event is a watcher
        if waiter.conn is None:
            waiter.conn = self.take(hold, now)
            self.stats.requests_wait += now - hold.since
            hold.since = now
        if waiter.conn is not None:
            waiter.wake()
            self.line.popleft()

    def salvage(self, now: float) -> None:
        """Put right what an exception, or a holder's loss, left behind."""
        self.is_disturbed = False
        for endpoint in self.endpoints:
            for entry in tuple(endpoint.entries):
                self._salvage(endpoint, entry)
            while endpoint.shelf and self.line:
                self._serve_first(now)
        while self.line and self.line[0].conn is not None:
            self._serve_first(now)
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
                self.jobs.append(self._acts.tell_lost(entry.hold))
            self.retire(entry, conn, Reason.ABANDONED)

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
            self.jobs.append(self._acts.close(conn, reason))
        if self.watchers:
            self.notify()

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
        if reason in (Reason.LOST, Reason.PING_FAILED):
            self.stats.connections_lost += 1
            if entry.generation == endpoint.generation:
                self.condemn(endpoint, Reason.LOST)
        else:
            self.stats.returns_bad += 1
        self.retire(entry, conn, reason)
        self.plan(now)

    def _why_unfit(self, entry: Entry, now: float) -> Reason:
        if self.was_closed:
            return Reason.POOL_CLOSED
        if entry.generation != entry.endpoint.generation:
            return Reason.DRAINED
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
        endpoint.generation += 1
        while endpoint.shelf:
            self.retire_idle(endpoint.shelf[-1].entry, reason)

    # Connects.

    def plan(self, now: float) -> None:
        """Decide which connects to begin: for waiters, for min_size, as a probe."""
        if not self.is_open:
            return
        for endpoint in self.endpoints:
            for _ in range(self._wanted(endpoint, now)):
                self.stats.connections_num += 1
                self.jobs.append(self._acts.begin_connect(endpoint.new_entry(now)))

    def _wanted(self, endpoint: Endpoint, now: float) -> int:
        size = len(endpoint.entries)
        room = self.max_size - size
        if room <= 0:
            return 0
        connecting = endpoint.count(State.CONNECTING)
        wanted = len(self.line) - connecting
        if self.is_filling:
            wanted = max(wanted, self.min_size - size)
        health = endpoint.health
        if health.is_down or health.failures:
            # One prober at a time, whoever waits; the first success opens the door.
            is_wanted = wanted > 0 or (health.is_down and self.is_filling)
            is_due = connecting == 0 and now >= health.retry_at
            return int(is_wanted and is_due)
        return max(0, min(wanted, room, MOST_CONNECTING - connecting))

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
        self.give(entry, conn, now)
        self.plan(now)

    def _come_too_late(self, entry: Entry, conn: PooledConnection) -> None:
        if entry.state is State.CONNECTING:
            self.retire(entry, conn, Reason.POOL_CLOSED)
        else:
            self.jobs.append(self._acts.close(conn, Reason.CONNECT_FAILED))

    # Opening, closing, changing size.

    def resize(self, min_size: int, max_size: int, now: float) -> None:
        """Change the limits; what is too many goes, when busy at its release."""
        self.min_size, self.max_size = min_size, max_size
        for endpoint in self.endpoints:
            while endpoint.shelf and len(endpoint.entries) > max_size:
                conn = endpoint.shelf.popleft()
                self.retire(conn.entry, conn, Reason.SHRUNK)
        self.plan(now)

    def close(self) -> None:
        """Refuse everyone from now on and retire all that is idle."""
        self.is_open = False
        self.was_closed = True
        self.line.dismiss()
        for endpoint in self.endpoints:
            self.condemn(endpoint, Reason.POOL_CLOSED)
        self.notify()

    def notify(self) -> None:
        """Wake the watchers who waited for what is now so."""
        for watcher in list(self.watchers):
            has_come, waiter = watcher
            if has_come():
                self.watchers.remove(watcher)
                waiter.wake()

    def count(self, *states: State) -> int:
        """Return how many entries are in one of the states."""
        return sum(endpoint.count(*states) for endpoint in self.endpoints)

    def size(self) -> int:
        """Return how many entries there are."""
        return sum(len(endpoint.entries) for endpoint in self.endpoints)

    def holds(self) -> list[Hold]:
        """Return the holds, oldest first."""
        found = [
            entry.hold
            for endpoint in self.endpoints
            for entry in endpoint.entries
            if entry.hold is not None
        ]
        return sorted(found, key=lambda hold: hold.since)

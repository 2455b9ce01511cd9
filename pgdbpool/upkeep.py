"""What is done to a roster from outside: by time, and by its owner.

Time brings lifetimes, idle times, probes and the end of grace.
"""

import contextlib
import math
from typing import Final

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.whereabouts import PlacedRoster

# Upkeep does not come more often, whatever is due.
SHORTEST_PAUSE: Final = 0.01


class TendedRoster(PlacedRoster):
    """A roster that is looked after; the pool's lock guards it."""

    def connect_failed(self, entry: Entry, error: BaseException, now: float) -> None:
        """Take note of a failed connect; callers may have to be refused."""
        self.stats.connections_errors += 1
        if entry.state is State.CONNECTING:  # else it was given up for this already
            entry.endpoint.health.connect_failed(error, now)
            if entry.endpoint.health.refusal is None:  # else it is there, as it was
                self.monitor.lost(entry.endpoint, now)
            self.retire(entry, None, Reason.CONNECT_FAILED)
        self.upkeep(now)

    def connected(
        self, entry: Entry, conn: PooledConnection, seconds: float, now: float
    ) -> None:
        """Take in a finished connect, in the place of what is outdated."""
        super().connected(entry, conn, seconds, now)
        outdated = entry.endpoint.outdated()
        if outdated is not None:
            self.retire_idle(outdated, entry.endpoint.outdated_as)

    def upkeep(self, now: float) -> float:
        """Retire what is due, probe, refuse; return when to come again."""
        self.salvage(now)
        due = [
            self._look_after(entry, now)
            for endpoint in self.endpoints
            for entry in tuple(endpoint.entries)
        ]
        self.plan(now)
        for endpoint in self.endpoints:
            self._renew(endpoint, now)
        self._refuse(now)
        due += [self._retry_due(endpoint, now) for endpoint in self.endpoints]
        due.append(self.refusal_due(now))
        if not self.is_single:
            due.append(self._probe(now))
        due.append(self.resolve(now))
        # What is due by now has been done, or is not to be had any sooner.
        return max(min(due), now + SHORTEST_PAUSE)

    def _renew(self, endpoint: Endpoint, now: float) -> None:
        """Replace what is outdated, one at a time, so that others serve meanwhile."""
        outdated = endpoint.outdated()
        if (
            outdated is None
            or not self.is_filling
            or endpoint.is_leaving
            or endpoint.health.is_down
            or endpoint.count(State.CONNECTING)
        ):
            return
        if len(endpoint.entries) >= self.max_size:
            self.retire_idle(outdated, endpoint.outdated_as)
        self.open_at(endpoint, now)

    def _refuse(self, now: float) -> None:
        """Wake who waits for what is not to be had."""
        for waiter in tuple(self.line):
            hold = waiter.hold
            if hold is not None and self.refuses(hold, now) is not None:
                self.line.leave(waiter)
                waiter.wake()

    def _probe(self, now: float) -> float:
        """Ask the servers that are due who they are; return when to come again."""
        if self.monitor.primary is None:
            self.monitor.hurry(now)
        for endpoint in self.endpoints:
            if endpoint.shelf and endpoint.standing.probe_at <= now:
                self.probe(endpoint.shelf[-1])
        return self.monitor.next_probe()

    def _look_after(self, entry: Entry, now: float) -> float:
        """Retire one entry if it is due, else return when it will be."""
        if entry.state is State.CONNECTING:
            return self._connect_due(entry, now)
        due = now + self._idle_limit()
        if entry.state is not State.IDLE:
            return min(max(entry.expires_at, now + 1.0), due)
        reason = self._why_too_old(entry, now)
        if reason is not None:
            self.retire_idle(entry, reason)
            return math.inf
        if entry.since + self._idle_limit() > now:
            due = entry.since + self._idle_limit()
        return min(entry.expires_at, due)

    def _connect_due(self, entry: Entry, now: float) -> float:
        if not (entry.has_begun or self.settings.threaded):
            return math.inf  # it waits for others, and not for its server
        due = entry.since + entry.endpoint.connect_limit
        if due > now:
            return due
        error = TimeoutError(f"no answer to a connect within {now - entry.since:.1f} s")
        entry.endpoint.health.connect_failed(error, now)
        self.monitor.lost(entry.endpoint, now)
        self.retire(entry, None, Reason.CONNECT_FAILED)
        return math.inf

    def _why_too_old(self, entry: Entry, now: float) -> Reason | None:
        if entry.expires_at <= now:
            return entry.expires_as
        is_spare = len(entry.endpoint.entries) > self.min_size
        is_idle_for_long = entry.since + self._idle_limit() <= now
        return Reason.IDLE_TIME if is_spare and is_idle_for_long else None

    def _idle_limit(self) -> float:
        # Not below a second: that is how often upkeep may come.
        limit = self.settings.max_idle
        return math.inf if limit is None else max(limit, 1.0)

    def _retry_due(self, endpoint: Endpoint, now: float) -> float:
        if (
            not self.is_open
            or not endpoint.health.needs_pause
            or not (self.is_filling or self.line)
            or len(endpoint.entries) >= self.max_size
            or endpoint.count(State.CONNECTING)
            or endpoint.health.retry_at <= now  # it was due, and nobody wanted it
        ):
            return math.inf
        return endpoint.health.retry_at

    # Opening, closing, changing size and credentials.

    def rotate(self) -> None:
        """Have all replaced, nobody waiting for it: new logins are other ones."""
        for endpoint in self.endpoints:
            endpoint.outdate(Reason.ROTATED)

    def resize(self, min_size: int, max_size: int, now: float) -> None:
        """Change the limits; what is too many goes, when busy at its release."""
        self.min_size, self.max_size = min_size, max_size
        for endpoint in self.endpoints:
            while endpoint.shelf and len(endpoint.entries) > max_size:
                conn = endpoint.shelf.popleft()
                self.retire(conn.entry, conn, Reason.SHRUNK)
        self.plan(now)

    def idle_since(self) -> float:
        """Return since when the oldest idle connection is so; infinity: none is.

        May be asked without the lock.
        """
        oldest = math.inf
        for endpoint in self.endpoints:
            with contextlib.suppress(IndexError):
                oldest = min(oldest, endpoint.shelf[0].entry.since)
        return oldest

    def give_way(self) -> None:
        """Close that one, for another pool's sake."""
        idle = [endpoint.shelf[0] for endpoint in self.endpoints if endpoint.shelf]
        if idle:
            oldest = min(idle, key=lambda conn: conn.entry.since)
            self.retire_idle(oldest.entry, Reason.GAVE_WAY)

    def use_room(self, now: float, since: float) -> None:
        """Open what there was no room for, since then."""
        self.plan(now, since)

    def close(self) -> None:
        """Refuse everyone from now on and retire all that is idle."""
        self.is_open = False
        self.was_closed = True
        self.line.dismiss()
        for endpoint in self.endpoints:
            self.condemn(endpoint, Reason.POOL_CLOSED)
        self.notify()

"""A roster whose pool shares a limit with others.

It opens a connection when it has a permit for it, gives the permit back when the server
has seen the connection go, and lets go of what another pool has wanted for longer than
anyone of its own.
"""

import contextlib
import functools
import logging
import math
import os
import socket
from collections.abc import Sequence
from time import monotonic
from typing import Final

import psycopg2

from pgdbpool import greenlets
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.limit import Reference, SharedLimit
from pgdbpool.planning import Acts, Job
from pgdbpool.settings import Settings
from pgdbpool.upkeep import TendedRoster

logger = logging.getLogger(__name__)

# How long a server may take to see that a session is over, seconds, and for how much
# of that a thread waits that has other things to do.
FAREWELL: Final = 1.0
SHORT_FAREWELL: Final = 0.02
# So much longer than others wait callers of a pool that has connections, whose next
# release may serve them: else busy pools would take permits from each other for ever.
PATIENCE: Final = 0.05
# How often one who only asks whether a server can be reached may have the place of an
# idle connection, seconds; and how soon it is looked for again where none was idle.
SEEK_AGAIN: Final = 10.0
SEEK_SOON: Final = 0.2


class SharingRoster(TendedRoster):
    """A roster with a limit above it; the pool's lock guards it.

    Args:
        limit: what is shared.
        pool: whose it is.
        endpoints, settings, need, acts: as of `Roster`.
    """

    def __init__(  # noqa: PLR0917 - four are inherited
        self,
        limit: SharedLimit,
        pool: Reference,
        endpoints: Sequence[Endpoint],
        settings: Settings,
        need: Need | None,
        acts: Acts,
    ) -> None:
        super().__init__(endpoints, settings, need, acts)
        self._limit = limit
        self._pool = pool
        self._has_place = False
        self._seek_at = -math.inf

    # Questions.

    def is_short(self) -> bool:
        """Whether somebody waits here for a permit that other pools have."""
        return self._limit.is_wanted_by(self._pool)

    def room(self) -> str:
        """Return how full the limit is, for messages."""
        return f"{self._limit.size} of {self._limit.max_size} of the shared limit open"

    # Permits are taken.

    def open_at(
        self, endpoint: Endpoint, now: float, since: float | None = None
    ) -> Entry | None:
        """Begin a connect if there is a permit for it; else it is begun later."""
        if since is None and endpoint.health.is_down:
            return None  # no permit is for finding out whether it is back
        if since is not None and self.size():
            since += PATIENCE
        return self._open(endpoint, now, since)

    def _open(
        self, endpoint: Endpoint, now: float, since: float | None
    ) -> Entry | None:
        permit = self._limit.take(self._pool, since)
        if permit is None:
            if since is not None:
                self.jobs.append(self._limit.settle)
            return None
        entry = super().open_at(endpoint, now, since)
        if entry is not None:
            entry.permit = permit
        return entry

    def meet(self, now: float, pause: float = 0.0) -> None:
        """Begin a connect to each server that has none and may be tried.

        In places that are free. Where there is none, now and then in that of a
        connection which has been idle for longest, in whichever pool.
        """
        if self._meet_where_free(now, pause) or now < self._seek_at:
            return
        self._seek_at = now + SEEK_SOON
        self.jobs.append(self._make_place)

    def _meet_where_free(self, now: float, pause: float) -> bool:
        """Begin what there are free places for; return whether there were."""
        unmet = [one for one in self.endpoints if self._may_meet(one, now, pause)]
        # In turn, for the one in whose place the next is opened may be its own.
        unmet.sort(key=lambda endpoint: endpoint.met_at)
        for endpoint in unmet:
            if self._open(endpoint, now, None) is None:
                return False
            endpoint.met_at = now
        return True

    def _make_place(self) -> None:
        """Have a connection closed for a look; a job. Blocks meanwhile."""
        self._has_place = self._limit.spare_one()
        member = self._pool()
        if member is not None and not member.is_at_work():
            member.use_room(math.inf)

    def use_room(self, now: float, since: float) -> None:
        """Open what there was no room for, since then; infinity: for a look."""
        if since < math.inf:
            super().use_room(now, since)
        elif self._has_place:
            self._has_place = False
            self._seek_at = now + SEEK_AGAIN
            self._meet_where_free(now, 0.0)

    def withdraw(self, hold: Hold) -> None:
        """Take a hold out of the line; nobody in line wants no permit."""
        super().withdraw(hold)
        self._forgo()

    def _forgo(self) -> None:
        # Who is refused because a server is down wants to know when it is back.
        if not self.line and not any(e.health.is_down for e in self.endpoints):
            self._limit.forgo(self._pool)

    def _renew(self, endpoint: Endpoint, now: float) -> None:  # noqa: ARG002 - inherited
        """Close what is outdated: nothing is kept open here for its own sake."""
        while (outdated := endpoint.outdated()) is not None:
            self.retire_idle(outdated, endpoint.outdated_as)

    def _retry_due(self, endpoint: Endpoint, now: float) -> float:
        # A permit is not for finding out whether a server is back that nobody asks for.
        return super()._retry_due(endpoint, now) if self.line else math.inf

    # Permits come free.

    def give(self, entry: Entry, conn: PooledConnection, now: float) -> None:
        """Pass on what became available, to another pool if it is its turn."""
        if not self._limit.is_wanted():
            super().give(entry, conn, now)
            return
        if self._limit.is_owed_since(self._pool) < self._asked_since():
            entry.expire(Reason.GAVE_WAY)
        super().give(entry, conn, now)
        self._forgo()
        if entry.state is State.IDLE:
            self.jobs.append(self._limit.settle)

    def _asked_since(self) -> float:
        """Return since when the first in line waits; infinity: there is none."""
        hold = self.line[0].hold if self.line else None
        return math.inf if hold is None else hold.since

    def retire(
        self, entry: Entry, conn: PooledConnection | None, reason: Reason
    ) -> None:
        """Close an entry; its permit comes free with its connection."""
        is_connecting = entry.state is State.CONNECTING and entry.has_begun
        super().retire(entry, conn, reason)
        if conn is not None and entry.permit is not None:
            entry.permit.vacate_soon()
        elif not is_connecting:  # else its thread will tell
            self._vacate(entry)

    def connect_failed(self, entry: Entry, error: BaseException, now: float) -> None:
        """Take note of a failed connect, whose permit is free."""
        super().connect_failed(entry, error, now)
        self._vacate(entry)

    def _vacate(self, entry: Entry) -> None:
        if entry.permit is not None:
            entry.permit.leave()
            self.jobs.append(self._limit.settle)

    def _closing(self, entry: Entry, conn: PooledConnection, reason: Reason) -> Job:
        close = super()._closing(entry, conn, reason)
        return functools.partial(self._see_off, close, conn, entry)

    def _see_off(self, close: Job, conn: PooledConnection, entry: Entry) -> None:
        """Close a connection, whose permit is free once its server knows.

        Blocks until then, but not long: where that takes longer, a thread waits.
        """
        line = _line_of(conn)
        is_over = True  # also if an exception comes
        try:
            close()
            if line is not None and not self.settings.threaded:
                _is_heard_out(line, FAREWELL)
            elif line is not None:
                is_over = _is_heard_out(line, SHORT_FAREWELL)
                is_over = is_over or not self._waits_elsewhere(entry, line)
        finally:
            if is_over:
                self._leave(entry, line)

    def _waits_elsewhere(self, entry: Entry, line: socket.socket) -> bool:
        try:
            greenlets.start(self._leave_later, entry, line)
        except RuntimeError:  # the process can have no more threads
            return False
        return True

    def _leave_later(self, entry: Entry, line: socket.socket) -> None:
        try:
            _is_heard_out(line, FAREWELL)
        finally:
            self._leave(entry, line)

    def _leave(self, entry: Entry, line: socket.socket | None) -> None:
        if line is not None:
            line.close()
        if entry.permit is not None:
            entry.permit.leave()
        self._limit.settle()


def _line_of(conn: PooledConnection) -> socket.socket | None:
    """Return a second handle of the connection's socket."""
    with contextlib.suppress(OSError, psycopg2.Error):
        return socket.socket(fileno=os.dup(conn.fileno()))
    return None


def _is_heard_out(line: socket.socket, patience: float) -> bool:
    """Read until the server closes its side, which it does when the session is over.

    Returns:
        Whether it did within so many seconds.
    """
    deadline = monotonic() + patience
    try:
        line.settimeout(patience)
        while line.recv(4096):
            left = deadline - monotonic()
            if left <= 0:  # one that always has more would never time out
                return False
            line.settimeout(left)
    except TimeoutError:
        return False
    except OSError as error:
        logger.debug("a session ended by itself: %s", error)
    return True

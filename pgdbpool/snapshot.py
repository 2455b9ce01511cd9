"""How a pool is doing at one moment: its holders, sessions, line, servers, counts.

All is plain data, which `dataclasses.asdict` makes JSON of, made without I/O. With the
pool's lock held it is only copied who is there; the words for them come after.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg2

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.health import in_public
from pgdbpool.endpoint.snapshot import EndpointState, has_answered
from pgdbpool.endpoint.stack import NO_STACK, outside
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import State
from pgdbpool.histograms import route_in
from pgdbpool.roster import Roster

if TYPE_CHECKING:
    from typing_extensions import Self

# By libpq's PQtransactionStatus.
TRANSACTIONS = {0: "idle", 1: "active", 2: "open", 3: "failed"}

# So many of those who wait are told, for they may be thousands.
MOST_WAITING: Final = 100


class Seen(NamedTuple):
    """What `SessionState` tells of an entry, and `Holder` of a hold, without words."""

    endpoint: str
    state: State
    seconds: float
    backend_pid: int | None
    transaction: str
    hold: Hold | None

    @classmethod
    def of(cls, entry: Entry, now: float) -> "Self":
        """Return what an entry is like; the pool's lock is held.

        So the pool closes no connection meanwhile, of which libpq must not be asked.
        """
        hold, since = entry.hold, entry.since
        if hold is not None:
            since = getattr(hold, "began", hold.since)
        # Its thread writes that without the lock, so it may be of later than now.
        seconds = max(0.0, now - since)
        name, state = entry.endpoint.name, entry.state
        return cls(name, state, seconds, *session_of(entry), hold)


class Sight(NamedTuple):
    """The connections at one moment, and who waits for how long; without words."""

    entries: list[Seen]
    line: list[tuple[Hold, float]]

    @classmethod
    def of(cls, roster: Roster, now: float) -> "Self":
        """Return who is there; the pool's lock is held."""
        first = islice(roster.line, MOST_WAITING)
        entries = (entry for one in roster.endpoints for entry in one.entries)
        return cls(
            [Seen.of(entry, now) for entry in entries],
            [(w.hold, now - w.hold.since) for w in first if w.hold is not None],
        )

    def holders(self) -> "list[Holder]":
        """Return who has a connection, the longest first."""
        held = [(seen, seen.hold) for seen in self.entries if seen.hold is not None]
        held.sort(key=lambda pair: -pair[0].seconds)
        return [Holder.of(seen, hold) for seen, hold in held]


@dataclass(frozen=True)
class Holder:
    """Who has a connection.

    Attributes:
        request: what it is for, such as ``GET /report/17``; None if unknown.
        route: what that has in common with others: ``GET /report/*``; None if unknown.
        place: where it was acquired, such as ``shop/report.py:41``.
        seconds: for how long it has been held.
        thread: the name of the thread that acquired, or its number if it is gone.
        backend_pid: the session's process on the server; None if there is none.
        endpoint: the server.
        transaction: ``idle``, ``active``, ``open``, ``failed`` or ``unknown``.
        stack: who acquired, the innermost first, as ``file:line function``; empty
            without ``leak_warn_after``.
    """

    request: str | None
    route: str | None
    place: str
    seconds: float
    thread: str
    backend_pid: int | None
    endpoint: str
    transaction: str
    stack: tuple[str, ...]

    @classmethod
    def of(cls, seen: Seen, hold: Hold) -> "Self":
        """Return in words who holds what was seen."""
        return cls(
            request=hold.request,
            route=route_in(hold),
            place=hold.place,
            seconds=seen.seconds,
            thread=thread_name(hold.thread),
            backend_pid=seen.backend_pid,
            endpoint=seen.endpoint,
            transaction=seen.transaction,
            stack=tuple(
                f"{code.co_filename}:{line} {code.co_name}"
                for code, line in outside(getattr(hold, "stack", NO_STACK))
            ),
        )


@dataclass(frozen=True)
class SessionState:
    """One connection of a pool, or one on its way.

    Attributes:
        endpoint: the server.
        state: ``connecting``, ``idle``, ``in_use`` or ``reserved``.
        seconds: for how long it has been so.
        backend_pid: its process on the server; None: not yet, or no more.
        holder: who has it, when it is in use.
    """

    endpoint: str
    state: str
    seconds: float
    backend_pid: int | None
    holder: Holder | None

    @classmethod
    def of(cls, seen: Seen) -> "Self":
        """Return in words what was seen."""
        return cls(
            endpoint=seen.endpoint,
            state=seen.state.name.lower(),
            seconds=seen.seconds,
            backend_pid=seen.backend_pid,
            holder=None if seen.hold is None else Holder.of(seen, seen.hold),
        )


@dataclass(frozen=True)
class Waiting:
    """Who waits for a connection.

    Attributes:
        request, route, place, thread: as of `Holder`.
        seconds: for how long.
    """

    request: str | None
    route: str | None
    place: str
    thread: str
    seconds: float

    @classmethod
    def of(cls, hold: Hold, seconds: float) -> "Self":
        """Return in words who has waited for so long."""
        thread = thread_name(hold.thread)
        return cls(hold.request, route_in(hold), hold.place, thread, seconds)


@dataclass(frozen=True)
class Timings:
    """How long something took.

    Attributes:
        bounds: of the buckets, seconds.
        counts: how many took up to each bound, but longer than the one before; last,
            how many took longer.
        total: the sum, seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True)
class RouteTimings:
    """The waits and holds of one route."""

    waits: Timings
    holds: Timings


# By route, and of connects.
Measured = tuple[dict[str, RouteTimings], Timings | None]


@dataclass(frozen=True)
class PoolState:
    """One pool of one process.

    Attributes:
        name: the pool's.
        process: the id of the process.
        taken_at: when, seconds since 1970.
        is_open: whether it serves.
        min_size, max_size: the limits, for each endpoint.
        endpoints: the servers.
        sessions: the connections.
        waiting: the line, the first first, up to `MOST_WAITING`; how many there are
            is among the counts.
        counts: as of `ConnectionPool.get_stats`.
        routes: the timings by route; empty without ``observe``.
        connects: those of connects; None without ``observe``.
    """

    name: str
    process: int
    taken_at: float
    is_open: bool
    min_size: int
    max_size: int
    endpoints: tuple[EndpointState, ...]
    sessions: tuple[SessionState, ...]
    waiting: tuple[Waiting, ...]
    counts: dict[str, int]
    routes: dict[str, RouteTimings]
    connects: Timings | None

    @classmethod
    def outline(
        cls, name: str, roster: Roster, counts: dict[str, int], measured: Measured
    ) -> "Self":
        """Return the state without connections and line; the pool's lock is held."""
        return cls(
            name=name,
            process=os.getpid(),
            taken_at=time.time(),
            is_open=roster.is_open,
            min_size=roster.min_size,
            max_size=roster.max_size,
            endpoints=tuple(
                EndpointState.of(endpoint, roster.max_size)
                for endpoint in roster.endpoints
            ),
            sessions=(),
            waiting=(),
            counts=counts,
            routes=measured[0],
            connects=measured[1],
        )

    def filled(self, sight: Sight) -> "Self":
        """Return it with the connections and the line that were seen."""
        return replace(
            self,
            sessions=tuple(map(SessionState.of, sight.entries)),
            waiting=tuple(Waiting.of(*waiting) for waiting in sight.line),
        )


@dataclass(frozen=True)
class PoolHealth:
    """Whether a pool can serve, as far as it knows.

    Attributes:
        write_ready: a server that takes writes can be reached.
        read_ready: a server can be reached.
        saturated: all that may be open is in use, at the servers that a plain acquire
            may use, or those that the first who waits may use.
        reasons: what is not as it should be, in words; without secrets.
    """

    write_ready: bool
    read_ready: bool
    saturated: bool
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, roster: Roster, now: float) -> "Self":
        """Return the health of a pool."""
        if not roster.is_open:
            return cls(
                write_ready=False,
                read_ready=False,
                saturated=False,
                reasons=("the pool is not open",),
            )
        up = [endpoint for endpoint in roster.endpoints if _is_up(endpoint)]
        writers = [endpoint for endpoint in up if _takes_writes(endpoint, roster)]
        saturated = _saturated(up, roster, now)
        reasons = [
            f"{endpoint.name} {endpoint.health.describe(now, in_public)}"
            for endpoint in roster.endpoints
            if endpoint.health.is_down
        ]
        reasons += [
            f"{endpoint.name} has not been reached yet"
            for endpoint in roster.endpoints
            if endpoint not in up and not endpoint.health.is_down
        ]
        if up and not writers:
            reasons.append("none of the servers takes writes")
        if saturated:
            number = sum(endpoint.count(State.IN_USE) for endpoint in saturated)
            reasons.append(f"{number} connections are all in use")
        return cls(
            write_ready=bool(writers),
            read_ready=bool(up),
            saturated=bool(saturated),
            reasons=tuple(reasons),
        )


def _is_up(endpoint: Endpoint) -> bool:
    """Whether the last that was heard of a server is that it serves."""
    return has_answered(endpoint) and not endpoint.health.is_down


def _saturated(
    up: Sequence[Endpoint], roster: Roster, now: float
) -> Sequence[Endpoint]:
    """Return the servers for whose connections callers wait, or would."""
    if roster.is_short():
        return up
    for hold in _asking(roster, now):
        serving = [e for e in up if _serves(e, hold, roster, now)]
        if serving and all(e.count(State.IN_USE) >= roster.max_size for e in serving):
            return serving
    return ()


def _asking(roster: Roster, now: float) -> Iterator[Hold]:
    """Yield whom it would concern: the next plain acquire, and the first who waits."""
    yield Hold(now, sys._getframe(), None, False)  # noqa: SLF001 - who holds nothing
    if roster.line and roster.line[0].hold is not None:
        yield roster.line[0].hold


def _serves(endpoint: Endpoint, hold: Hold, roster: Roster, now: float) -> bool:
    return roster.is_single or roster.chooser.serves(endpoint, hold, now)


def _takes_writes(endpoint: Endpoint, roster: Roster) -> bool:
    if roster.is_single:
        # Before PostgreSQL 14 nobody tells; what is alone is taken for a primary.
        return endpoint.standing.role is not Role.STANDBY
    return endpoint is roster.monitor.primary


def session_of(entry: Entry) -> tuple[int | None, str]:
    """Return an entry's backend, if there is one, and what its transaction is."""
    conn = entry.conn
    try:
        if conn is not None and not conn.closed:
            status = TRANSACTIONS.get(conn.info.transaction_status, "unknown")
            return conn.info.backend_pid, status
    except psycopg2.Error:  # it was closed meanwhile
        pass
    return None, "unknown"


def thread_name(number: int) -> str:
    """Return the name of a thread, or its number if it is gone."""
    thread = threading._active.get(number)  # type: ignore[attr-defined] # noqa: SLF001 - no copy of all
    return str(number) if thread is None else str(thread.name)

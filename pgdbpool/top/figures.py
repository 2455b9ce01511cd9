"""What is shown, from what the status page tells: of all workers together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from pgdbpool.top.past import Past
from pgdbpool.top.routes import Route
from pgdbpool.top.sessions import Seen, seen_of
from pgdbpool.top.told import count, seconds, words
from pgdbpool.top.verdict import Health, Verdict, verdict_of

State = dict[str, Any]
# What a worker may say of a server; and of those, that it cannot use it.
STATES: Final = ("up", "unknown", "astray", "down")
AWAY: Final = {"astray", "down"}


@dataclass
class Server:
    """One endpoint of one pool, over all workers.

    Attributes:
        pool, name: which.
        roles: all that a worker has it in.
        states: all that a worker has it in, and how many have.
        lag, round_trip: seconds, the longest; None: unknown.
        in_use, idle, connecting, most: connections.
        long: how many of those in use are held for long.
        last_error: of a connect or ping, where it is not up.
    """

    pool: str
    name: str
    roles: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    lag: float | None = None
    round_trip: float | None = None
    in_use: int = 0
    idle: int = 0
    connecting: int = 0
    most: int = 0
    long: int = 0
    last_error: str | None = None

    @property
    def role(self) -> str:
        """Its role, or its roles, in the page's words (`endpointsOf`)."""
        return " and ".join(self.roles) or "unknown"

    @property
    def state(self) -> str:
        """Its state, or how many have it in which, in the page's words."""
        several = (f"{state} ({number})" for state, number in self.states.items())
        return ", ".join(several if len(self.states) > 1 else self.states)

    @property
    def is_well(self) -> bool:
        """Whether every worker has it up."""
        return {*self.states} == {"up"}

    @property
    def is_away(self) -> bool:
        """Whether a worker cannot use it."""
        return not AWAY.isdisjoint(self.states)

    def add(self, endpoint: State) -> None:
        """Take in what a worker knows of it."""
        role = words(endpoint["role"])
        if role and role not in self.roles:
            self.roles.append(role)
        if endpoint["state"] not in STATES:
            raise ValueError(f"{endpoint['state']!r} is no state of a server")
        self.states[endpoint["state"]] += 1
        self.lag = _longest(self.lag, endpoint["lag"])
        self.round_trip = _longest(self.round_trip, endpoint["round_trip"])
        self.in_use += count(endpoint["in_use"])
        self.idle += count(endpoint["idle"])
        self.connecting += count(endpoint["connecting"])
        self.most += count(endpoint["max_size"])
        if endpoint["state"] != "up":
            self.last_error = self.last_error or words(endpoint["last_error"])


@dataclass(frozen=True)
class Holder:
    """Who has a connection.

    Attributes:
        pool, worker: whose; the worker's process.
        server, backend: which session; None: there is none.
        request: None: unknown.
        place: where it was acquired.
        seconds: for how long.
        transaction: what is open in it.
        is_long: by the measure of its pool.
    """

    pool: str
    worker: int
    server: str
    backend: int | None
    request: str | None
    place: str
    seconds: float
    transaction: str
    is_long: bool


@dataclass(frozen=True)
class Waiter:
    """Who waits for a connection.

    Attributes:
        pool, worker, request, place, seconds: as of `Holder`.
    """

    pool: str
    worker: int
    request: str | None
    place: str
    seconds: float


@dataclass
class Pool:
    """One pool, over all workers that answer and have it.

    Attributes:
        name: its.
        health: as each of them has it.
        verdict: in words.
    """

    name: str
    health: list[Health] = field(default_factory=list)
    verdict: Verdict = field(default=Verdict("busy", ""))


@dataclass(frozen=True)
class Figures:
    """All that is shown.

    Attributes:
        host, version: of the service.
        workers, silent: how many there are, and how many of them do not answer.
        past: the last minutes.
        pools: by name.
        servers: the endpoints, those first that are not well.
        holders: of connections, the longest first.
        waiting: the line, the longest first; not all of a long one.
        line: how many wait.
        routes: those first that keep connections busy for longest.
        seen: the sessions, as the servers see them.
    """

    host: str
    version: str
    workers: int
    silent: int
    past: Past
    pools: list[Pool]
    servers: list[Server]
    holders: list[Holder]
    waiting: list[Waiter]
    line: int
    routes: list[Route]
    seen: Seen


def figures_of(state: State, past: Past | None = None) -> Figures:
    """Return what is to be shown of what the status page tells.

    Args:
        state: what it tells.
        past: what it has told before; this is added.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError, AttributeError: another
            version tells it, or something else.
    """
    past = past or Past()
    past.add(state)
    found = _Found()
    for worker in state["workers"]:
        for pool in worker["pools"]:
            found.add(pool, count(worker["pid"]))
    holders = sorted(found.holders, key=lambda one: -one.seconds)
    pools = [found.pools[name] for name in sorted(found.pools)]
    servers = sorted(
        found.servers.values(), key=lambda one: (one.is_well, one.pool, one.name)
    )
    for one in pools:
        one.verdict = verdict_of(
            one.health,
            [holder for holder in holders if holder.pool == one.name],
            [server for server in found.servers.values() if server.pool == one.name],
        )
    return Figures(
        host=str(state["service"]["host"]),
        version=str(state["service"]["version"]),
        workers=len(state["workers"]),
        silent=sum(not worker["answers"] for worker in state["workers"]),
        past=past,
        pools=pools,
        servers=servers,
        holders=holders,
        waiting=sorted(found.waiting, key=lambda one: -one.seconds),
        line=found.line,
        routes=sorted(
            (one for one in found.routes.values() if one.number),
            key=lambda one: -one.held,
        ),
        seen=seen_of(state, holders),
    )


class _Found:
    """What has been found in the workers looked at."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.servers: dict[tuple[str, str], Server] = {}
        self.holders: list[Holder] = []
        self.waiting: list[Waiter] = []
        self.line = 0
        self.routes: dict[tuple[str, str], Route] = {}

    def add(self, pool: State, worker: int) -> None:
        """Take in what a worker has of a pool."""
        name = str(pool["name"])
        mine = self.pools.setdefault(name, Pool(name))
        mine.health.append(_health(pool["health"]))
        for endpoint in pool["endpoints"]:
            key = name, str(endpoint["name"])
            self.servers.setdefault(key, Server(*key)).add(endpoint)
        for session in pool["sessions"]:
            if session["holder"]:
                measure = seconds(pool["long_hold"])
                one = _holder(session["holder"], name, worker, measure)
                self.holders.append(one)
                self.servers[name, one.server].long += one.is_long
        for route, told in pool["routes"].items():
            key = name, str(route)
            self.routes.setdefault(key, Route(*key)).add(told)
        self.line += count(pool["counts"]["requests_waiting"])
        self.waiting += [_waiter(one, name, worker) for one in pool["waiting"]]


def _health(told: State) -> Health:
    return Health(
        write_ready=bool(told["write_ready"]),
        read_ready=bool(told["read_ready"]),
        saturated=bool(told["saturated"]),
        reasons=tuple(map(str, told["reasons"])),
    )


def _holder(told: State, pool: str, worker: int, measure: float) -> Holder:
    backend = told["backend_pid"]
    return Holder(
        pool=pool,
        worker=worker,
        server=str(told["endpoint"]),
        backend=None if backend is None else count(backend),
        request=words(told["request"]),
        place=str(told["place"]),
        seconds=seconds(told["seconds"]),
        transaction=str(told["transaction"]),
        is_long=seconds(told["seconds"]) >= measure,
    )


def _waiter(told: State, pool: str, worker: int) -> Waiter:
    return Waiter(
        pool=pool,
        worker=worker,
        request=words(told["request"]),
        place=str(told["place"]),
        seconds=seconds(told["seconds"]),
    )


def _longest(known: float | None, told: object) -> float | None:
    if told is None:
        return known
    return max(known or 0.0, seconds(told))

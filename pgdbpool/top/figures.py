"""What is shown, from what the status page tells: sums over workers, rates, holders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

State = dict[str, Any]


@dataclass
class Server:
    """One endpoint of one pool, over all workers.

    Attributes:
        pool, name: which.
        role, state: as a worker has it that knows, the worst counting.
        lag: seconds; None: unknown.
        in_use, idle, connecting, most: connections.
        sessions: since when each is what, and whether that is long: for the cells.
        last_error: of a connect or ping.
    """

    pool: str
    name: str
    role: str | None = None
    state: str = "unknown"
    lag: float | None = None
    in_use: int = 0
    idle: int = 0
    connecting: int = 0
    most: int = 0
    long: int = 0
    last_error: str | None = None

    def add(self, endpoint: State) -> None:
        """Take in what a worker knows of it."""
        self.role = endpoint["role"] or self.role
        if WORSE.index(endpoint["state"]) >= WORSE.index(self.state):
            self.state = endpoint["state"]
        if endpoint["lag"] is not None:
            self.lag = max(self.lag or 0.0, endpoint["lag"])
        self.in_use += endpoint["in_use"]
        self.idle += endpoint["idle"]
        self.connecting += endpoint["connecting"]
        self.most += endpoint["max_size"]
        if endpoint["state"] != "up":
            self.last_error = endpoint["last_error"] or self.last_error


# From what says least to what an operator has to know.
WORSE = ("unknown", "up", "astray", "down")


@dataclass(frozen=True)
class Rate:
    """What a pool did of late.

    Attributes:
        acquires: in each of the last seconds.
        wait, hold: the mean of the last `RECENT` seconds, in seconds; None: nothing.
        errors, lost: in the last minute.
    """

    acquires: tuple[int, ...] = ()
    wait: float | None = None
    hold: float | None = None
    errors: int = 0
    lost: int = 0


# Seconds that a rate is made of.
RECENT = 5


@dataclass(frozen=True)
class Figures:
    """All that is shown.

    Attributes:
        host, version: of the service.
        workers, silent: how many there are, and how many of them do not answer.
        servers: the endpoints.
        rates: by pool.
        holders: of connections, the longest first, each with its worker.
        waiting: the line, the longest first, each with its worker.
    """

    host: str
    version: str
    workers: int
    silent: int
    servers: list[Server]
    rates: dict[str, Rate]
    holders: list[State] = field(default_factory=list)
    waiting: list[State] = field(default_factory=list)


def figures_of(state: State) -> Figures:
    """Return what is to be shown of what the status page tells."""
    servers: dict[tuple[str, str], Server] = {}
    holders: list[State] = []
    waiting: list[State] = []
    for worker in state["workers"]:
        for pool in worker["pools"]:
            _add(servers, pool)
            mine = {"pool": pool["name"], "worker": worker["pid"]}
            held = [one["holder"] for one in pool["sessions"] if one["holder"]]
            for one in held:
                is_long = one["seconds"] >= pool["long_hold"]
                holders.append({**one, **mine, "is_long": is_long})
                servers[pool["name"], one["endpoint"]].long += is_long
            waiting += [{**one, **mine} for one in pool["waiting"]]
    columns = state["history"]["columns"]
    return Figures(
        host=state["service"]["host"],
        version=state["service"]["version"],
        workers=len(state["workers"]),
        silent=sum(not worker["answers"] for worker in state["workers"]),
        servers=[servers[key] for key in sorted(servers)],
        rates={
            name: _rate([dict(zip(columns, row, strict=True)) for row in rows])
            for name, rows in state["history"]["pools"].items()
        },
        holders=sorted(holders, key=lambda one: -float(one["seconds"])),
        waiting=sorted(waiting, key=lambda one: -float(one["seconds"])),
    )


def _add(servers: dict[tuple[str, str], Server], pool: State) -> None:
    for endpoint in pool["endpoints"]:
        key = pool["name"], endpoint["name"]
        servers.setdefault(key, Server(*key)).add(endpoint)


def _rate(rows: list[State]) -> Rate:
    recent = rows[-RECENT:]
    acquires = sum(row["acquires"] for row in recent)

    def mean(name: str) -> float | None:
        total: int = sum(row[name] for row in recent)
        return total / acquires / 1000.0 if acquires else None

    return Rate(
        acquires=tuple(row["acquires"] for row in rows),
        wait=mean("waited_ms"),
        hold=mean("held_ms"),
        errors=sum(row["errors"] for row in rows),
        lost=sum(row["lost"] for row in rows),
    )

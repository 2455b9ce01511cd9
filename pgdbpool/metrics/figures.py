"""Which figures there are, and how they are read from a pool."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pgdbpool.endpoint.snapshot import EndpointState
from pgdbpool.endpoint.standing import Role
from pgdbpool.metrics.tally import Tally
from pgdbpool.pool import ConnectionPool
from pgdbpool.snapshot import PoolState, Timings

Value = float | Timings


@dataclass(frozen=True, eq=False)  # one of each: told apart by identity, fast
class Metric:
    """One figure of Prometheus.

    Attributes:
        name: without the namespace.
        kind: by Prometheus' words.
        help: what it is.
        labels: the names of its labels.
        across: what becomes of the gauges of several processes, by the words of
            prometheus_client.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    across: Literal["livesum", "livemax"] = "livesum"


_ENDPOINT = ("pool", "endpoint")

CONNECTIONS = Metric(
    "connections",
    "gauge",
    "Connections: connecting, idle or in_use.",
    (*_ENDPOINT, "role", "state"),
)
MAX_CONNECTIONS = Metric(
    "max_connections", "gauge", "Connections there can be.", ("pool",)
)
MIN_CONNECTIONS = Metric(
    "min_connections", "gauge", "Connections that are kept open.", ("pool",)
)
WAITING = Metric("waiting", "gauge", "Callers that wait for a connection.", ("pool",))
ROLE = Metric(
    "endpoint_role",
    "gauge",
    "How many processes take an endpoint for a primary, standby or unknown.",
    (*_ENDPOINT, "role"),
)
STATE = Metric(
    "endpoint_state",
    "gauge",
    "How many processes find an endpoint up, down, unknown or astray.",
    (*_ENDPOINT, "state"),
)
LAG = Metric(
    "endpoint_lag_seconds",
    "gauge",
    "How far a standby is behind; below zero: not known any more.",
    _ENDPOINT,
    "livemax",
)
ROUND_TRIP = Metric(
    "endpoint_round_trip_seconds",
    "gauge",
    "Of the last probe, or of a single server the last ping; below zero: not known any "
    "more.",
    _ENDPOINT,
    "livemax",
)
ACQUIRES = Metric("acquires", "counter", "Connections asked for.", ("pool",))
QUEUED = Metric(
    "acquires_queued", "counter", "Callers that had to wait in the line.", ("pool",)
)
ERRORS = Metric(
    "acquire_errors",
    "counter",
    "Callers that got no connection, by the error they got.",
    ("pool", "kind"),
)
BAD_RETURNS = Metric(
    "connections_returned_bad",
    "counter",
    "Connections that could not be used any more after their release.",
    ("pool",),
)
OPENED = Metric("connections_opened", "counter", "Connections opened.", _ENDPOINT)
FAILED = Metric("connections_failed", "counter", "Connects that failed.", _ENDPOINT)
LOST = Metric(
    "connections_lost", "counter", "Open connections that were lost.", ("pool",)
)
WAITS = Metric(
    "wait_seconds",
    "histogram",
    "How long holds that ended had waited for their connection.",
    ("pool", "route"),
)
HOLDS = Metric(
    "hold_seconds",
    "histogram",
    "How long connections were held.",
    ("pool", "route"),
)
CONNECTS = Metric(
    "connect_seconds", "histogram", "How long successful connects took.", _ENDPOINT
)

METRICS = (
    CONNECTIONS,
    MAX_CONNECTIONS,
    MIN_CONNECTIONS,
    WAITING,
    ROLE,
    STATE,
    LAG,
    ROUND_TRIP,
    ACQUIRES,
    QUEUED,
    ERRORS,
    BAD_RETURNS,
    OPENED,
    FAILED,
    LOST,
    WAITS,
    HOLDS,
    CONNECTS,
)
ROLES = (*(role.value for role in Role), "unknown")
STATES = ("up", "down", "unknown", "astray")
Figure = tuple[Metric, tuple[str, ...], Value]

# A metric, and the values of its labels.
Key = tuple[Metric, tuple[str, ...]]


def read(pairs: Iterable[tuple[ConnectionPool, Tally]]) -> list[Figure]:
    """Return the figures of all pools at this moment, each once. Does not block."""
    found: list[Figure] = []
    for pool, tally in pairs:
        state = pool.outline()
        found += _of_pool(state)
        for endpoint in state.endpoints:
            found += _of_endpoint(state.name, endpoint)
        found += _of_tally(state.name, tally)
    # Two endpoints may have one name: one leaves, and its address has come back.
    return [(*key, value) for key, value in by_series(found).items()]


def by_series(figures: Iterable[Figure]) -> dict[Key, Value]:
    """Return figures by their series; what is of one series is put together."""
    found: dict[Key, Value] = {}
    for metric, labels, value in figures:
        key = metric, labels
        found[key] = _together(metric, found[key], value) if key in found else value
    return found


def _together(metric: Metric, one: Value, other: Value) -> Value:
    if isinstance(one, Timings) and isinstance(other, Timings):
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Timings(one.bounds, counts, one.total + other.total)
    assert not isinstance(one, Timings)  # noqa: S101 - of one metric both are alike
    assert not isinstance(other, Timings)  # noqa: S101 - as above
    return max(one, other) if metric.across == "livemax" else one + other


def _of_pool(state: PoolState) -> Iterator[Figure]:
    counts, name = state.counts, (state.name,)
    is_open = state.is_open
    yield MAX_CONNECTIONS, name, counts["pool_max"] if is_open else 0
    yield MIN_CONNECTIONS, name, counts["pool_min"] if is_open else 0
    yield WAITING, name, counts["requests_waiting"]
    yield ACQUIRES, name, counts["requests_num"]
    yield QUEUED, name, counts["requests_queued"]
    yield BAD_RETURNS, name, counts["returns_bad"]
    yield LOST, name, counts["connections_lost"]
    for route, timings in state.routes.items():
        yield WAITS, (state.name, route), timings.waits
        yield HOLDS, (state.name, route), timings.holds


def _of_endpoint(pool: str, endpoint: EndpointState) -> Iterator[Figure]:
    labels = (pool, endpoint.name)
    role = "unknown" if endpoint.role is None else endpoint.role.value
    yield CONNECTIONS, (*labels, role, "connecting"), endpoint.connecting
    yield CONNECTIONS, (*labels, role, "idle"), endpoint.idle
    yield CONNECTIONS, (*labels, role, "in_use"), endpoint.in_use
    for one in ROLES:
        yield ROLE, (*labels, one), one == role
    for one in STATES:
        yield STATE, (*labels, one), one == endpoint.state
    if endpoint.lag is not None:
        yield LAG, labels, endpoint.lag
    if endpoint.round_trip is not None:
        yield ROUND_TRIP, labels, endpoint.round_trip


def _of_tally(pool: str, tally: Tally) -> Iterator[Figure]:
    for kind, count in tally.refused().items():
        yield ERRORS, (pool, kind), count
    for endpoint, (timings, failed) in tally.connects().items():
        labels = (pool, endpoint)
        yield OPENED, labels, sum(timings.counts)
        yield FAILED, labels, failed
        yield CONNECTS, labels, timings

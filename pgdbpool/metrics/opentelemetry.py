"""Metrics and spans of pools for OpenTelemetry.

The instruments are those of its semantic conventions ("Semantic conventions for
database client metrics", section "Connection pools").
"""

import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any, Final

from pgdbpool.auth.sdk import missing
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import PoolError, PoolTimeout, SettingsError
from pgdbpool.histograms import BOUNDS
from pgdbpool.metrics.watched import Watched
from pgdbpool.pool import ConnectionPool

try:
    from opentelemetry import metrics, trace
except ImportError:
    raise ImportError(
        missing("pgdbpool.metrics.opentelemetry", "opentelemetry-api", "otel")
    ) from None

PREFIX: Final = "db.client.connection."
POOL: Final = "db.client.connection.pool.name"
STATE: Final = "db.client.connection.state"
SYSTEM: Final = {"db.system.name": "postgresql"}

# What a pool tells when it is asked: the instrument, its unit, what it is, and by which
# state the pool counts it.
OBSERVED: Final[dict[str, tuple[str, str, dict[str | None, str]]]] = {
    "count": (
        "{connection}",
        "The number of connections that are in the state described by the attribute.",
        {"idle": "idle", "used": "in_use"},
    ),
    "idle.max": (
        "{connection}",
        "The maximum number of idle open connections allowed.",
        {None: "pool_max"},
    ),
    "idle.min": (
        "{connection}",
        "The minimum number of idle open connections allowed.",
        {None: "pool_min"},
    ),
    "max": (
        "{connection}",
        "The maximum number of open connections allowed.",
        {None: "pool_max"},
    ),
    "pending_requests": (
        "{request}",
        "The number of pending requests for an open connection.",
        {None: "requests_waiting"},
    ),
}
TIMED: Final = {
    "create_time": "The time it took to create a new connection.",
    "wait_time": "The time it took to obtain an open connection from the pool.",
    "use_time": "The time between borrowing a connection and returning it to the pool.",
}


class OpenTelemetryMetrics:
    """Tells the instruments of OpenTelemetry of pools, and makes spans.

    A wait becomes a span of the trace that waits; a connect one without a parent, for
    it runs in a thread of its own.

    Args:
        *pools: made with ``observe=True``, each with a name of its own. They are not
            kept alive.
        meter_provider: None for the global one.
        tracer_provider: None for the global one.
        spans_from: seconds; a shorter wait that found a connection makes no span.

    Raises:
        SettingsError: a pool does not observe, two have one name, or `spans_from` is
            no duration.
    """

    def __init__(
        self,
        *pools: ConnectionPool,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        spans_from: float = 0.01,
    ) -> None:
        _check(spans_from)
        name, version = "pgdbpool", _version()
        meter = metrics.get_meter(name, version, meter_provider)
        tracer = trace.get_tracer(name, version, tracer_provider)
        instruments = Instruments(meter)
        self._pools = Watched(
            lambda pool: Telling(pool.name, instruments, tracer, spans_from)
        )
        self._pools.add(pools)
        for what, (unit, description, states) in OBSERVED.items():
            meter.create_observable_up_down_counter(
                PREFIX + what,
                callbacks=[self._callback(states)],
                unit=unit,
                description=description,
            )

    def add(self, *pools: ConnectionPool) -> None:
        """Tell of more pools.

        Raises:
            SettingsError: as the constructor.
        """
        self._pools.add(pools)

    def _callback(
        self, states: dict[str | None, str]
    ) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        def observe(
            _options: metrics.CallbackOptions,
        ) -> Iterator[metrics.Observation]:
            for pool, _ in self._pools.pairs():
                counts = _counts(pool)
                for state, count in states.items():
                    attributes = {POOL: pool.name}
                    if state is not None:
                        attributes[STATE] = state
                    yield metrics.Observation(counts[count], attributes)

        return observe


def _version() -> str | None:
    try:
        return metadata.version("pgdbpool")
    except metadata.PackageNotFoundError:  # copied, not installed
        return None


def _check(spans_from: object) -> None:
    if not isinstance(spans_from, int | float) or not spans_from >= 0:
        raise SettingsError(f"spans_from: {spans_from!r} is no number of seconds")


def _counts(pool: ConnectionPool) -> dict[str, int]:
    counts, endpoints = pool.get_stats(), pool.endpoints
    if pool.closed:
        counts["pool_max"] = counts["pool_min"] = 0
    counts["idle"] = sum(endpoint.idle for endpoint in endpoints)
    counts["in_use"] = sum(endpoint.in_use for endpoint in endpoints)
    return counts


class Instruments:
    """What is told of each event.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: metrics.Meter) -> None:
        made = [
            meter.create_histogram(
                PREFIX + name,
                unit="s",
                description=description,
                explicit_bucket_boundaries_advisory=list(BOUNDS),
            )
            for name, description in TIMED.items()
        ]
        self.create_time, self.wait_time, self.use_time = made
        self.timeouts = meter.create_counter(
            PREFIX + "timeouts",
            unit="{timeout}",
            description=(
                "The number of connection timeouts that have occurred trying to obtain "
                "a connection from the pool."
            ),
        )


class Telling:
    """Tells of the events of one pool.

    Args:
        name: the pool's.
        instruments: whom to tell.
        tracer: makes the spans.
        spans_from: seconds that a wait must last to become one.
    """

    def __init__(
        self,
        name: str,
        instruments: Instruments,
        tracer: trace.Tracer,
        spans_from: float,
    ) -> None:
        self._instruments = instruments
        self._tracer = tracer
        self._spans_from = spans_from
        self._attributes = {POOL: name}

    def forget(self) -> None:
        """Have nothing to forget: the instruments are OpenTelemetry's."""

    def acquired(self, hold: Hold, waited: float, error: PoolError | None) -> None:  # noqa: ARG002 - an `Observer`
        """Tell of a hold that was served, or refused."""
        if error is None:
            self._instruments.wait_time.record(waited, self._attributes)
        elif isinstance(error, PoolTimeout):
            self._instruments.timeouts.add(1, self._attributes)
        if error is not None or waited >= self._spans_from:
            self._span("pgdbpool wait", trace.SpanKind.INTERNAL, waited, error, {})

    def released(self, hold: Hold, held: float) -> None:  # noqa: ARG002 - as above
        """Tell of a hold that has ended."""
        self._instruments.use_time.record(held, self._attributes)

    def connected(
        self, endpoint: Endpoint, seconds: float, error: BaseException | None
    ) -> None:
        """Tell of a connect that has succeeded, or failed."""
        if error is None:
            self._instruments.create_time.record(seconds, self._attributes)
        attributes = _address(endpoint.name)
        self._span(
            "pgdbpool connect", trace.SpanKind.CLIENT, seconds, error, attributes
        )

    def _span(
        self,
        name: str,
        kind: trace.SpanKind,
        seconds: float,
        error: BaseException | None,
        attributes: dict[str, Any],
    ) -> None:
        """Make a span of what has just ended."""
        ended = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=kind,
            attributes={**SYSTEM, **self._attributes, **attributes},
            start_time=ended - int(seconds * 1e9),
        )
        if error is not None:
            span.set_attribute("error.type", type(error).__qualname__)
            span.record_exception(error, timestamp=ended)
            text = str(error).strip()
            span.set_status(trace.Status(trace.StatusCode.ERROR, text))
        span.end(ended)


def _address(endpoint: str) -> dict[str, Any]:
    host, _, port = endpoint.rpartition(":")
    found: dict[str, Any] = {"server.address": host}
    if port.isdecimal():
        found["server.port"] = int(port)
    return found

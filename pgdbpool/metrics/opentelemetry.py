"""Metrics and spans of pools for OpenTelemetry.

The instruments are those of its semantic conventions ("Semantic conventions for
database client metrics", section "Connection pools").
"""

import re
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any, Final

from pgdbpool import forks
from pgdbpool.auth.sdk import missing
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import PoolError, PoolTimeout, SettingsError
from pgdbpool.histograms import BOUNDS, route_in, route_of
from pgdbpool.metrics.watched import Watched
from pgdbpool.pool import ConnectionPool

try:
    from opentelemetry import metrics, trace
except ImportError:
    raise ImportError(
        missing("pgdbpool.metrics.opentelemetry", "opentelemetry-api", "otel")
    ) from None

NAME: Final = "pgdbpool"
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


# What Python writes between a cause and its error (`traceback`).
CAUSED: Final = (
    "\nThe above exception was the direct cause of the following exception:\n\n"
)

# Who holds, as `Hold.__repr__` has it in the messages of errors.
HOLDER: Final = re.compile(r"(?<=hold by ).*(?=, acquired at )", re.DOTALL)


class OpenTelemetryMetrics:
    """Tells the instruments of OpenTelemetry of pools, and makes spans.

    A wait becomes a span of the trace that waits; a connect one without a parent, for
    it runs in a thread of its own, or where there are no threads one of the trace that
    it is made for. Any number of these may share a meter provider.

    Args:
        *pools: made with ``observe=True``, each with a name of its own. They are not
            kept alive.
        meter_provider: None for the global one.
        tracer_provider: None for the global one.
        spans_from: seconds; a shorter wait that found a connection makes no span.

    Raises:
        SettingsError: a pool does not observe, is given twice, two have one name, or
            `spans_from` is no duration.
    """

    def __init__(
        self,
        *pools: ConnectionPool,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        spans_from: float = 0.01,
    ) -> None:
        _check(spans_from)
        instruments = _instruments_of(meter_provider)
        tracer = trace.get_tracer(NAME, _version(), tracer_provider)

        def make(pool: ConnectionPool) -> Telling:
            return Telling(pool.name, instruments, tracer, spans_from)

        def others() -> list[ConnectionPool]:
            return instruments.unfinished(self._pools)

        self._pools = Watched(make, others)
        instruments.watched.append(self._pools)
        self._pools.add(pools)

    def add(self, *pools: ConnectionPool) -> None:
        """Tell of more pools.

        Raises:
            SettingsError: as the constructor.
        """
        self._pools.add(pools)


def _version() -> str | None:
    try:
        return metadata.version(NAME)
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
    """All instruments of one meter, which takes each of them once.

    Args:
        meter: makes them.

    Attributes:
        watched: the pools that they tell of.
    """

    def __init__(self, meter: metrics.Meter) -> None:
        self.watched: list[Watched[Telling]] = []
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
        for what, (unit, description, states) in OBSERVED.items():
            meter.create_observable_up_down_counter(
                PREFIX + what,
                callbacks=[self._callback(states)],
                unit=unit,
                description=description,
            )

    def unfinished(self, but: "Watched[Telling]") -> list[ConnectionPool]:
        """Return the pools that are told of already, without some."""
        others = [watched for watched in self.watched if watched is not but]
        return [pool for watched in others for pool in watched.unfinished()]

    def _callback(
        self, states: dict[str | None, str]
    ) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        def observe(
            _options: metrics.CallbackOptions,
        ) -> Iterator[metrics.Observation]:
            for pool in self._pools():
                counts = _counts(pool)
                for state, count in states.items():
                    attributes = {POOL: pool.name}
                    if state is not None:
                        attributes[STATE] = state
                    yield metrics.Observation(counts[count], attributes)

        return observe

    def _pools(self) -> Iterable[ConnectionPool]:
        """Return the pools, of two with one name that which is not closed."""
        found: dict[str, ConnectionPool] = {}
        for watched in self.watched:
            for pool, _ in watched.pairs():
                if pool.name not in found or found[pool.name].closed:
                    found[pool.name] = pool
        return found.values()


# By their meter providers; the lock guards both.
_made: "weakref.WeakKeyDictionary[metrics.MeterProvider, Instruments]"
_made = weakref.WeakKeyDictionary()
_global: list[Instruments] = []
_making = threading.Lock()


def _instruments_of(provider: metrics.MeterProvider | None) -> Instruments:
    """Return the instruments of a meter provider; None: of the global one."""
    current = metrics.get_meter_provider()
    provider = current if provider is None else provider
    with _making:
        found = _made.get(provider)
        if found is None and provider is current and _global:
            # The API makes instruments before there is a provider, and the first that
            # becomes the global one takes them on.
            found = _global[0]
        if found is None:
            found = Instruments(provider.get_meter(NAME, _version()))
        if provider is current and not _global:
            _global.append(found)
        _made[provider] = found
    return found


def _forget() -> None:
    global _making  # noqa: PLW0603 - a thread that is not in the child may hold it
    _making = threading.Lock()


forks.in_child(_forget)


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
        # What each hold needs is looked up once.
        self._record_wait = instruments.wait_time.record
        self._record_use = instruments.use_time.record
        self._instruments = instruments
        self._tracer = tracer
        self._spans_from = spans_from
        self._attributes = {POOL: name}

    def forget(self) -> None:
        """Have nothing to forget: the instruments are OpenTelemetry's."""

    def acquired(self, hold: Hold, waited: float, error: PoolError | None) -> None:
        """Tell of a hold that was served, or refused."""
        if error is None:
            self._record_wait(waited, self._attributes)
            if waited < self._spans_from:
                return
        elif isinstance(error, PoolTimeout):
            self._instruments.timeouts.add(1, self._attributes)
        span = self._span("wait", trace.SpanKind.INTERNAL, waited, {})
        self._end(span, error, _hider(hold))

    def released(self, hold: Hold, held: float) -> None:  # noqa: ARG002 - an `Observer`
        """Tell of a hold that has ended."""
        self._record_use(held, self._attributes)

    def connected(
        self, endpoint: Endpoint, seconds: float, error: BaseException | None
    ) -> None:
        """Tell of a connect that has succeeded, or failed."""
        if error is None:
            self._instruments.create_time.record(seconds, self._attributes)
        kind = trace.SpanKind.CLIENT
        self._end(self._span("connect", kind, seconds, _server(endpoint)), error)

    def _span(
        self, name: str, kind: trace.SpanKind, seconds: float, more: dict[str, Any]
    ) -> trace.Span:
        """Return the span of what has just ended."""
        return self._tracer.start_span(
            f"{NAME} {name}",
            kind=kind,
            attributes={**SYSTEM, **self._attributes, **more},
            start_time=time.time_ns() - int(seconds * 1e9),
        )

    @staticmethod
    def _end(
        span: trace.Span,
        error: BaseException | None,
        hidden: Callable[[str], str] = str,
    ) -> None:
        """End a span, with what went wrong, if something did."""
        if error is not None and span.is_recording():
            kind, text = _kind(error), hidden(str(error).strip())
            stack = "".join(_traced(error))
            span.set_attribute("error.type", kind)
            event = {"type": kind, "message": text, "stacktrace": hidden(stack)}
            told = {f"exception.{name}": value for name, value in event.items()}
            span.add_event("exception", told)
            span.set_status(trace.Status(trace.StatusCode.ERROR, text))
        span.end()


def _traced(error: BaseException) -> Iterator[str]:
    """Yield an error's traceback, after those of what it was raised from.

    Not of what the application was handling meanwhile, which can tell of its data.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    for one in reversed(chain):
        kind, frames = type(one), one.__traceback__
        yield from traceback.format_exception(kind, one, frames, chain=False)
        if one is not error:
            yield CAUSED


def _kind(error: BaseException) -> str:
    """Return the name of an error's class, with its module."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _hider(hold: Hold) -> Callable[[str], str]:
    """Return what puts routes in the place of paths, which may have secrets in them.

    A message names at most two requests: who asked, and who has held for longest.
    """

    def hidden(text: str) -> str:
        if hold.request:
            text = text.replace(hold.request, route_in(hold) or "")
        return HOLDER.sub(lambda found: route_of(found[0]), text)

    return hidden


def _server(endpoint: Endpoint) -> dict[str, Any]:
    """Return where a server is, as far as that is known."""
    if endpoint.site is None:
        return {}
    host, port = endpoint.site
    if host.startswith(("/", "@")):  # the directory of a socket
        return {
            "server.address": f"{host}/.s.PGSQL.{port}",
            "network.transport": "unix",
        }
    found: dict[str, Any] = {"server.address": host}
    if port.isdecimal():
        found["server.port"] = int(port)
    if len(endpoint.addresses) == 1:
        found["network.peer.address"] = min(endpoint.addresses)
    return found

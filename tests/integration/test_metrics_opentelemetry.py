"""OpenTelemetry is told exactly the figures of what has happened."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from psycopg2.errors import InvalidTextRepresentation
from psycopg2.extensions import connection, parse_dsn

from pgdbpool import (
    ConnectionPool,
    EndpointDown,
    NestedCheckout,
    PoolClosed,
    PoolError,
    PoolExhausted,
    TooManyRequests,
)
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, free_port
from pgdbpool.histograms import BOUNDS
from pgdbpool.metrics.opentelemetry import OpenTelemetryMetrics
from tests.metering import (
    EXHAUSTED,
    NAME,
    OPENED,
    SERVED,
    TURNED_AWAY,
    WAITED,
    hold,
    metered,
    one_waits,
    play,
)
from tests.waiting import until

pytestmark = pytest.mark.direct("it counts the sessions of the server itself")

PREFIX = "db.client.connection."
# Of the semantic conventions, "Connection pools".
UNITS = {
    "count": "{connection}",
    "idle.max": "{connection}",
    "idle.min": "{connection}",
    "max": "{connection}",
    "pending_requests": "{request}",
    "timeouts": "{timeout}",
    "create_time": "s",
    "wait_time": "s",
    "use_time": "s",
}
STATE = f"{PREFIX}state"


class Telemetry:
    """Exporters that keep what they are told."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self.meters = MeterProvider([self._reader])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))

    def watch(self, pool: ConnectionPool, **given: float) -> None:
        """Tell of a pool."""
        self.metrics = OpenTelemetryMetrics(
            pool, meter_provider=self.meters, tracer_provider=self.tracers, **given
        )

    def instruments(self) -> dict[str, Any]:
        """Return what there is by now, by the last part of its name."""
        data = self._reader.get_metrics_data()
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.scope.name == "pgdbpool"
        return {one.name.removeprefix(PREFIX): one for one in scope.metrics}

    def points(self, name: str) -> list[Any]:
        """Return the points of an instrument, all of the one pool."""
        points = list(self.instruments()[name].data.data_points)
        for point in points:
            assert point.attributes[f"{PREFIX}pool.name"] == NAME
        return points

    def value(self, name: str, state: str | None = None) -> float:
        """Return the value of an instrument."""
        (found,) = [
            point.value
            for point in self.points(name)
            if point.attributes.get(STATE) == state
        ]
        return float(found)

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the finished spans of that name."""
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.name == f"pgdbpool {name}"
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Give exporters to look at."""
    telemetry = Telemetry()
    yield telemetry
    telemetry.meters.shutdown()
    telemetry.tracers.shutdown()


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give the pool of the scenario."""
    with contextlib.closing(metered(dsn)) as pool:  # opened when it is first used
        yield pool


def test_the_instruments_give_the_figures_of_the_scenario(
    telemetry: Telemetry, pool: ConnectionPool, admin: connection
) -> None:
    """All nine, each exactly, by the names and units of the conventions."""
    telemetry.watch(pool)
    play(pool, admin)

    units = {name: one.unit for name, one in telemetry.instruments().items()}
    assert units == UNITS
    # Who waits for a connect may be served before it is told of.
    until(lambda: telemetry.points("create_time")[0].count == OPENED)
    (waited,) = telemetry.points("wait_time")
    (used,) = telemetry.points("use_time")
    assert (waited.count, used.count) == (SERVED, SERVED)
    assert waited.sum >= WAITED
    assert used.sum >= WAITED  # for so long it was held that another waited for
    (created,) = telemetry.points("create_time")
    assert 0.0 < created.sum == pool.snapshot().connects.total  # type: ignore[union-attr]
    assert waited.explicit_bounds == BOUNDS
    assert telemetry.value("timeouts") == EXHAUSTED
    assert telemetry.value("count", "idle") == 1
    assert telemetry.value("count", "used") == 0
    assert telemetry.value("max") == telemetry.value("idle.max") == 1
    assert telemetry.value("idle.min") == 1
    assert telemetry.value("pending_requests") == 0


def test_states_are_told_as_they_are_when_asked(
    telemetry: Telemetry, pool: ConnectionPool
) -> None:
    """Who holds and who waits; and a closed pool has nothing."""
    telemetry.watch(pool)
    with one_waits(pool):
        assert telemetry.value("count", "used") == 1
        assert telemetry.value("count", "idle") == 0
        assert telemetry.value("pending_requests") == 1
    pool.close()
    assert telemetry.value("count", "idle") == 0
    assert telemetry.value("max") == 0


def test_a_wait_is_a_span_of_the_trace_that_waits(
    telemetry: Telemetry, pool: ConnectionPool
) -> None:
    """As long as the wait, which a time-out ended, and with the error."""
    telemetry.watch(pool)
    conn = pool.getconn()
    tracer = telemetry.tracers.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        with pytest.raises(PoolExhausted) as raised:
            pool.getconn(timeout=WAITED)
        parent = request.get_span_context()
    pool.putconn(conn)

    *_, span = telemetry.spans("wait")
    assert span.parent is not None
    assert span.parent.span_id == parent.span_id
    assert span.kind is SpanKind.INTERNAL
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time >= WAITED * 1e9
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "pgdbpool.errors.PoolExhausted"
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "pgdbpool.errors.PoolExhausted"
    assert event.attributes["exception.message"] == str(raised.value)
    assert "in serve" in str(event.attributes["exception.stacktrace"])


def test_a_span_tells_no_more_of_a_request_than_its_route(
    telemetry: Telemetry, pool: ConnectionPool
) -> None:
    """Neither of who holds nor of who asked: a path can have a secret in it."""
    telemetry.watch(pool)
    conn = pool.acquire(request="GET /reset/c4k3xn-5d1f6a0b9c8e?key=s3cret")
    asked = {"request": "GET /hold by/a1b2c3d4e5f6g7h8?key=hidden"}
    with pytest.raises(NestedCheckout, match="s3cret"):
        pool.acquire(WAITED, **asked)
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(PoolExhausted, match="s3cret"),
    ):
        executor.submit(pool.acquire, WAITED, **asked).result(10.0)
    pool.release(conn, conn.hold)

    *_, nested, exhausted = telemetry.spans("wait")
    for span in (nested, exhausted):
        (event,) = span.events
        told = f"{span.status.description} {span.attributes} {event.attributes}"
        assert "hold by GET /reset/*, acquired at " in str(span.status.description)
        for secret in ("c4k3xn", "s3cret", "a1b2c3d4", "hidden"):
            assert secret not in told
    assert " for GET /hold by/* (" in str(exhausted.status.description)


SECRET = "secret@example.org"


def refused_in_an_error(pool: ConnectionPool, conn: connection) -> PoolError:
    """Acquire while the application handles an error that tells of its data."""
    with conn.cursor() as cur:
        try:
            cur.execute("SELECT CAST(%s AS integer)", (SECRET,))
        except InvalidTextRepresentation:
            with pytest.raises(PoolError) as raised:
                pool.acquire(WAITED)
    conn.rollback()
    return raised.value


def stack_in(span: ReadableSpan) -> str:
    """Return the traceback in a span."""
    (event,) = span.events
    assert event.attributes is not None
    return str(event.attributes["exception.stacktrace"])


def test_a_span_tells_nothing_of_what_the_application_was_handling(
    telemetry: Telemetry, pool: ConnectionPool, admin: connection
) -> None:
    """Whichever way it is refused: an error of the driver has values of its SQL."""
    telemetry.watch(pool)
    conn = pool.acquire()
    refused = [refused_in_an_error(pool, conn)]
    pool.release(conn, conn.hold)
    with one_waits(pool):
        refused.append(refused_in_an_error(pool, admin))
    pool.close()
    refused.append(refused_in_an_error(pool, admin))

    assert [type(e) for e in refused] == [NestedCheckout, TooManyRequests, PoolClosed]
    spans = [span for span in telemetry.spans("wait") if span.events]
    for error, span in zip(refused, spans, strict=True):
        assert SECRET in str(error.__context__)
        assert f"{type(error).__name__}: pool 'metered'" in stack_in(span)
        assert SECRET not in stack_in(span)


def test_a_span_tells_why_a_server_cannot_be_reached(
    telemetry: Telemetry, admin: connection
) -> None:
    """As libpq said it; and nothing of what was handled while it connected."""
    nowhere = f"host={HOST} port={free_port()}"
    with contextlib.closing(metered(nowhere, grace=0.0, threaded=False)) as pool:
        telemetry.watch(pool)
        error = refused_in_an_error(pool, admin)

    assert isinstance(error, EndpointDown)
    assert error.__cause__ is not None
    assert SECRET in str(error.__cause__.__context__)
    connected, waited = telemetry.spans("connect")[0], telemetry.spans("wait")[0]
    for span in (connected, waited):
        assert "psycopg2.OperationalError: connection to server" in stack_in(span)
        assert SECRET not in stack_in(span)
    cause, _, effect = stack_in(waited).partition("the direct cause of the following")
    assert str(error.__cause__) in cause
    assert f"pgdbpool.errors.EndpointDown: {error}" in effect


def test_only_waits_that_last_are_spans(
    telemetry: Telemetry, pool: ConnectionPool
) -> None:
    """The first waits for its connect; who finds one idle makes none."""
    telemetry.watch(pool, spans_from=10.0)
    hold(pool)
    hold(pool)
    assert telemetry.spans("wait") == []


def test_each_wait_is_a_span_where_that_is_asked_for(
    telemetry: Telemetry, pool: ConnectionPool
) -> None:
    """With zero."""
    telemetry.watch(pool, spans_from=0.0)
    hold(pool)
    hold(pool)
    assert len(telemetry.spans("wait")) == 2


def test_a_connect_is_a_span_with_its_server(
    telemetry: Telemetry, pool: ConnectionPool
) -> None:
    """Without a parent, because it runs in a thread of its own."""
    telemetry.watch(pool)
    with telemetry.tracers.get_tracer("test").start_as_current_span("request"):
        hold(pool)
    (span,) = until(lambda: telemetry.spans("connect"))
    host, _, port = pool.endpoints[0].name.rpartition(":")
    assert span.parent is None
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes == {
        "db.system.name": "postgresql",
        f"{PREFIX}pool.name": NAME,
        "server.address": host,
        "server.port": int(port),
    }


def test_without_threads_a_connect_is_a_span_of_the_trace_that_it_is_for(
    telemetry: Telemetry, dsn: str
) -> None:
    """There is no other thread, and whoever asks waits for it."""
    with contextlib.closing(metered(dsn, threaded=False)) as pool:
        telemetry.watch(pool, spans_from=0.0)
        with telemetry.tracers.get_tracer("test").start_as_current_span("request"):
            hold(pool)
    (span,), (waiting,) = telemetry.spans("connect"), telemetry.spans("wait")
    assert span.parent == waiting.parent is not None


def test_the_server_of_a_service_is_known_from_its_first_connection(
    telemetry: Telemetry,
    embedded: EmbeddedPostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before, only libpq knows where it is."""
    params = parse_dsn(embedded.dsn())
    lines = "\n".join(f"{key}={value}" for key, value in params.items())
    (tmp_path / "services").write_text(f"[shop]\n{lines}\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with contextlib.closing(metered("service=shop")) as pool:
        telemetry.watch(pool)
        assert pool._roster.endpoints[0].site is None
        hold(pool)
        (span,) = until(lambda: telemetry.spans("connect"))
    assert span.attributes is not None
    assert span.attributes["server.address"] == params["host"]
    assert span.attributes["server.port"] == int(params["port"])


def test_a_connect_that_fails_is_a_span_with_its_error(telemetry: Telemetry) -> None:
    """And no time of a connection; the refused acquire counts as one more time-out."""
    nowhere = f"host={HOST} port={free_port()}"
    with contextlib.closing(metered(nowhere, grace=0.0)) as pool:
        telemetry.watch(pool)
        with pytest.raises(EndpointDown):
            pool.getconn(timeout=5.0)
    span = until(lambda: telemetry.spans("connect"))[0]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "psycopg2.OperationalError"
    assert "create_time" not in telemetry.instruments()
    assert telemetry.value("timeouts") == 1


def test_what_is_turned_away_is_no_timeout(
    telemetry: Telemetry, pool: ConnectionPool, admin: connection
) -> None:
    """Its span has the error all the same."""
    telemetry.watch(pool)
    play(pool, admin)
    errors = [
        span.attributes["error.type"]
        for span in telemetry.spans("wait")
        if span.attributes is not None and "error.type" in span.attributes
    ]
    assert errors.count("pgdbpool.errors.TooManyRequests") == TURNED_AWAY
    assert errors.count("pgdbpool.errors.PoolExhausted") == EXHAUSTED

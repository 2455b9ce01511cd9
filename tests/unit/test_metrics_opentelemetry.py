"""What OpenTelemetry is given, and how many may give it, without a server."""

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.metrics.opentelemetry import OpenTelemetryMetrics

MAX = "db.client.connection.max"
SIZES = {"a": 3, "b": 5}


def make_pool(name: str, conninfo: str = "host=127.0.0.1") -> ConnectionPool:
    """Return a pool that connects to nothing."""
    return ConnectionPool(conninfo, name=name, observe=True, max_size=SIZES[name])


class Meters:
    """A meter provider, and what it was told of the sizes of pools."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def sizes(self) -> dict[str, int]:
        """Return the sizes by the names of the pools."""
        (resource,) = self._reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        (metric,) = [one for one in scope.metrics if one.name == MAX]
        points: Any = metric.data.data_points
        return {
            point.attributes["db.client.connection.pool.name"]: point.value
            for point in points
        }


@pytest.fixture
def meters() -> Meters:
    """Give a meter provider of the test's own."""
    return Meters()


def test_pools_of_several_objects_have_all_instruments(meters: Meters) -> None:
    """A meter takes each instrument once; the next object adds to it."""
    a, b = make_pool("a"), make_pool("b")
    first = OpenTelemetryMetrics(a, meter_provider=meters.provider)
    OpenTelemetryMetrics(b, meter_provider=meters.provider)
    assert meters.sizes() == SIZES
    del b
    gc.collect()
    again = make_pool("b")
    first.add(again)
    assert meters.sizes() == SIZES


def test_a_pool_is_in_one_of_several_objects(meters: Meters) -> None:
    """Else it would be counted twice; and so is a name."""
    pool, other = make_pool("a"), make_pool("a")
    OpenTelemetryMetrics(pool, meter_provider=meters.provider)
    with pytest.raises(SettingsError, match="'a' is given twice"):
        OpenTelemetryMetrics(pool, meter_provider=meters.provider)
    with pytest.raises(SettingsError, match="two pools are named 'a'"):
        OpenTelemetryMetrics(other, meter_provider=meters.provider)
    assert len(pool.observers) == 1


def test_one_pool_may_be_told_of_to_several_providers(meters: Meters) -> None:
    """Each is told all."""
    pool, others = make_pool("a"), Meters()
    for each in (meters, others):
        OpenTelemetryMetrics(pool, meter_provider=each.provider)
    assert meters.sizes() == others.sizes() == {"a": SIZES["a"]}


def test_the_name_of_a_closed_pool_is_free_for_another_object(meters: Meters) -> None:
    """What is told is of the one that is open."""
    old, new = make_pool("a"), make_pool("a")
    OpenTelemetryMetrics(old, meter_provider=meters.provider)
    old.close()
    OpenTelemetryMetrics(new, meter_provider=meters.provider)
    assert meters.sizes() == {"a": SIZES["a"]}


def test_a_provider_is_not_kept_alive(meters: Meters) -> None:
    """It goes with whoever made it."""
    pool = make_pool("a")
    OpenTelemetryMetrics(pool, meter_provider=meters.provider)
    reference = weakref.ref(meters.provider)
    del meters.provider
    gc.collect()
    assert reference() is None


GLOBAL = """
from opentelemetry import metrics
from tests.unit.test_metrics_opentelemetry import *

a, b, meters = make_pool("a"), make_pool("b"), Meters()
if sys.argv[1] == "late":
    OpenTelemetryMetrics(a)
metrics.set_meter_provider(meters.provider)
if sys.argv[1] == "early":
    OpenTelemetryMetrics(a, meter_provider=meters.provider)
OpenTelemetryMetrics(b)
print(meters.sizes())
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_the_global_provider_may_be_set_before_or_after(when: str) -> None:
    """What was made before is told to it as well."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", GLOBAL, when],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (ended.stdout, ended.stderr) == (f"{SIZES}\n", "")


@pytest.mark.parametrize(
    ("conninfo", "told"),
    [
        ("host=db port=5433", {"server.address": "db", "server.port": 5433}),
        ("hostaddr=10.0.0.1", {"server.address": "10.0.0.1", "server.port": 5432}),
        (
            "host=db hostaddr=10.0.0.1",
            {"server.address": "db", "server.port": 5432},
        ),
        (
            "host=/run/postgresql port=5433",
            {
                "server.address": "/run/postgresql/.s.PGSQL.5433",
                "network.transport": "unix",
            },
        ),
        ("dbname=shop", {}),
    ],
)
def test_a_server_is_told_by_its_address(
    conninfo: str, told: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the conventions have it; where only libpq knows it, by nothing."""
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    assert connect_span_of(make_pool("a", conninfo)) == told


def test_a_server_of_a_name_with_several_is_told_by_its_own_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the name, which all of them share."""
    monkeypatch.delenv("PGSERVICE", raising=False)
    pool = make_pool("a", "host=db")
    pool._roster.endpoints[0].settle(frozenset({"10.0.0.1"}), is_only=False)
    assert connect_span_of(pool) == {
        "server.address": "db",
        "server.port": 5432,
        "network.peer.address": "10.0.0.1",
    }


def connect_span_of(pool: ConnectionPool) -> dict[str, object]:
    """Return what the span of a connect tells of its server."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    OpenTelemetryMetrics(
        pool, meter_provider=Meters().provider, tracer_provider=tracers
    )
    (observer,), (endpoint,) = pool.observers, pool._roster.endpoints
    observer.connected(endpoint, 0.25, TimeoutError("no answer"))
    (span,) = exporter.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time >= 250_000_000
    assert attributes.pop("db.system.name") == "postgresql"
    assert attributes.pop("db.client.connection.pool.name") == pool.name
    assert attributes.pop("error.type") == "TimeoutError"
    return attributes

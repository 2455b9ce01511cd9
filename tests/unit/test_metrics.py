"""What metrics take and refuse, and what they need, without a server."""

import dataclasses
import gc
import os
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.endpoint.host import ANSWERS
from pgdbpool.endpoint.standing import Role
from pgdbpool.metrics import figures
from pgdbpool.metrics import prometheus as exporter
from pgdbpool.metrics import tally as tallies
from pgdbpool.metrics.figures import METRICS
from pgdbpool.metrics.opentelemetry import OpenTelemetryMetrics
from pgdbpool.metrics.prometheus import PrometheusMetrics
from pgdbpool.metrics.tally import Tally
from tests.documentation import ROOT, table
from tests.fresh import python, run
from tests.unit.scripted_cluster import endpoint_of
from tests.unit.scripted_name import PRIMARY, STANDBY, A, B, Named

LIBRARIES = {
    "prometheus": ("prometheus_client", "prometheus-client", "prometheus"),
    "opentelemetry": ("opentelemetry", "opentelemetry-api", "otel"),
}
Make = Callable[..., Any]


def make_pool(name: str, **given: Any) -> ConnectionPool:  # noqa: ANN401 - settings
    """Return a pool that connects to nothing."""
    return ConnectionPool("host=127.0.0.1", name=name, **{"observe": True, **given})


def with_prometheus(*pools: object, **given: Any) -> PrometheusMetrics:  # noqa: ANN401 - whatever is tried
    """Return metrics in a registry of their own."""
    return PrometheusMetrics(*pools, **{"registry": CollectorRegistry(), **given})


def with_opentelemetry(*pools: Any) -> OpenTelemetryMetrics:  # noqa: ANN401 - whatever is tried
    """Return metrics of a meter provider of their own."""
    return OpenTelemetryMetrics(*pools, meter_provider=NoOpMeterProvider())


@pytest.fixture(params=[with_prometheus, with_opentelemetry])
def make(request: pytest.FixtureRequest) -> Make:
    """Give what makes metrics, of the one kind and of the other."""
    made: Make = request.param
    return made


def test_a_pool_that_does_not_observe_is_refused(make: Make) -> None:
    """The error names the pool and the setting."""
    with pytest.raises(SettingsError, match=r"'blind' measures .* observe=True"):
        make(make_pool("blind", observe=False))


def test_a_pool_that_warns_of_leaks_observes_too(make: Make) -> None:
    """It has all that is needed."""
    pool = make_pool("leaky", observe=False, leak_warn_after=5.0)
    make(pool)
    assert len(pool.observers) == 1


def test_what_is_no_pool_is_refused(make: Make) -> None:
    """Also something that looks like one."""
    with pytest.raises(SettingsError, match="'x' is not a ConnectionPool"):
        make("x")


def test_two_pools_of_one_name_are_refused(make: Make) -> None:
    """At once or later; then none of those given is watched."""
    first, second, third = make_pool("a"), make_pool("a"), make_pool("b")
    with pytest.raises(SettingsError, match="two pools are named 'a'"):
        make(third, first, second)
    assert [pool.observers for pool in (first, second, third)] == [()] * 3
    metrics = make(first)
    with pytest.raises(SettingsError, match="two pools are named 'a'"):
        metrics.add(third, second)
    assert third.observers == ()
    metrics.add(third)
    assert len(third.observers) == 1


def test_a_pool_that_is_given_twice_is_refused(make: Make) -> None:
    """It would be counted twice."""
    pool = make_pool("a")
    with pytest.raises(SettingsError, match="'a' is given twice"):
        make(pool, pool)


def test_a_name_is_free_again_when_its_pool_is_gone(make: Make) -> None:
    """Metrics do not keep a pool alive."""
    pool = make_pool("tenant")
    metrics = make(pool)
    del pool
    gc.collect()
    again = make_pool("tenant")
    metrics.add(again)
    assert len(again.observers) == 1


def test_a_name_is_free_again_when_its_pool_is_closed() -> None:
    """The new pool takes the place of the old one in a scrape."""
    old, new = make_pool("tenant", max_size=3), make_pool("tenant", max_size=5)
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(old, registry=registry)
    old.close()
    assert 'pgdbpool_max_connections{pool="tenant"} 0.0' in scraped(registry)
    metrics.add(new)
    assert 'pgdbpool_max_connections{pool="tenant"} 5.0' in scraped(registry)


def scraped(registry: CollectorRegistry) -> list[str]:
    """Return the lines of a scrape, of which no two tell of the same."""
    lines = generate_latest(registry).decode().splitlines()
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(set(series)) == len(series)
    return lines


@pytest.mark.parametrize("namespace", ["", "1st", "a-b", "a b", None, "pool\n"])
def test_a_namespace_must_be_the_beginning_of_a_name(namespace: object) -> None:
    """Prometheus would refuse the whole scrape."""
    with pytest.raises(SettingsError, match="namespace: "):
        with_prometheus(namespace=namespace)


def test_a_registry_must_be_one() -> None:
    """It is said at once."""
    with pytest.raises(SettingsError, match="registry: 5 is not"):
        PrometheusMetrics(registry=5)  # type: ignore[arg-type, unused-ignore]


def test_a_registry_has_the_metrics_once() -> None:
    """Unless they have another namespace."""
    registry = CollectorRegistry()
    PrometheusMetrics(make_pool("a"), registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        PrometheusMetrics(make_pool("b"), registry=registry)
    pool = make_pool("c")
    PrometheusMetrics(pool, registry=registry, namespace="other")
    assert 'other_waiting{pool="c"} 0.0' in generate_latest(registry).decode()


def test_metrics_that_could_not_be_made_leave_nothing_behind() -> None:
    """No observer on the pool, for which each acquire would pay; no figures."""
    registry, pool = CollectorRegistry(), make_pool("a")
    metrics = PrometheusMetrics(make_pool("b"), registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        PrometheusMetrics(pool, registry=registry)
    assert pool.observers == ()
    with pytest.raises(SettingsError, match="measures nothing"):
        PrometheusMetrics(
            make_pool("c", observe=False), registry=registry, namespace="other"
        )
    PrometheusMetrics(pool, registry=registry, namespace="other")
    assert 'other_waiting{pool="a"} 0.0' in scraped(registry)
    assert metrics.registry is registry


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
def test_spans_begin_at_a_number_of_seconds(seconds: object) -> None:
    """Zero or more."""
    with pytest.raises(SettingsError, match="spans_from: "):
        OpenTelemetryMetrics(spans_from=seconds)  # type: ignore[arg-type, unused-ignore]


def test_the_directory_must_be_set_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """prometheus_client looks at it when it is imported, and never again."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    with pytest.raises(SettingsError, match="was set after prometheus_client"):
        with_prometheus()


@pytest.mark.parametrize("directory", ["", "/nowhere"])
def test_the_directory_must_be_there(directory: str) -> None:
    """prometheus_client takes an empty variable for one that is set."""
    program = "from pgdbpool.metrics.prometheus import PrometheusMetrics as M; M()"
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory}
    ended = python("-c", program, environ=environ)
    assert ended.stderr.splitlines()[-1] == (
        "pgdbpool.errors.SettingsError: PROMETHEUS_MULTIPROC_DIR names no directory"
    )


def test_an_empty_variable_is_not_set_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Empty is as good as not set."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    with_prometheus(make_pool("a"))


def test_a_scrape_of_one_process_among_several_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server tells that there are others (PEP 3333, "environ Variables")."""
    monkeypatch.setattr(exporter, "_has_warned", False)
    app = with_prometheus(make_pool("a")).app()
    told = []
    for is_one_of_many in (False, True, True):
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ["wsgi.multiprocess"] = is_one_of_many
        assert list(app(environ, lambda *_: None))  # type: ignore[arg-type, return-value, unused-ignore]
        told.append([record.getMessage() for record in caplog.records])
    assert told[0] == []
    assert told[1] == told[2]
    (message,) = told[2]
    assert "set PROMETHEUS_MULTIPROC_DIR" in message


def test_what_a_pool_counts_is_told_by_its_own_name() -> None:
    """No figure stands for another."""
    names = {
        figures.MAX_CONNECTIONS: "pool_max",
        figures.MIN_CONNECTIONS: "pool_min",
        figures.WAITING: "requests_waiting",
        figures.ACQUIRES: "requests_num",
        figures.QUEUED: "requests_queued",
        figures.BAD_RETURNS: "returns_bad",
        figures.LOST: "connections_lost",
    }
    state = make_pool("a").snapshot()
    counts = {name: number for number, name in enumerate(state.counts, 1)}
    state = dataclasses.replace(state, counts=counts, is_open=True)
    told = {metric: value for metric, _, value in figures._of_pool(state)}
    assert told == {metric: counts[name] for metric, name in names.items()}


def test_what_a_server_is_like_is_told_by_its_own_name() -> None:
    """How far it is behind is not how long it takes to answer."""
    state = dataclasses.replace(
        make_pool("a").snapshot().endpoints[0],
        role=Role.STANDBY,
        lag=7.0,
        round_trip=0.25,
    )
    labels = ("a", state.name)
    told = {
        (metric, had): value for metric, had, value in figures._of_endpoint("a", state)
    }
    assert told[figures.LAG, labels] == 7.0
    assert told[figures.ROUND_TRIP, labels] == 0.25
    assert told[figures.ROLE, (*labels, "standby")] == 1


def test_endpoints_without_end_have_series_with_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that come too late share one."""
    monkeypatch.setattr(tallies, "MOST_ENDPOINTS", 2)
    tally, (endpoint,) = Tally(), make_pool("a")._roster.endpoints
    for number in range(5):
        endpoint.name = f"db{number}:5432"
        tally.connected(endpoint, 0.5, None)
        tally.connected(endpoint, 0.5, OSError())
    found = {
        name: (sum(timings.counts), failed)
        for name, (timings, failed) in tally.connects().items()
    }
    assert found == {"db0:5432": (1, 1), "db1:5432": (1, 1), "(other)": (3, 3)}


def test_two_endpoints_of_one_name_are_one_series() -> None:
    """One leaves with its last connection, and its address has come back."""
    roster = Named({A: PRIMARY, B: STANDBY})
    held = roster.hold(A)
    roster.look_up()
    for addresses in ({B}, {A, B}):
        roster.leads_to = frozenset(addresses)
        roster.look_up(2 * ANSWERS)
    old = endpoint_of(held)
    (new,) = (e for e in roster.endpoints if e.name == old.name and e is not old)
    for endpoint, trip in ((old, 0.5), (new, 0.25)):
        endpoint.standing.role, endpoint.standing.round_trip = Role.PRIMARY, trip
    roster.hold(A)
    pool, registry = make_pool("a"), CollectorRegistry()
    pool._roster = roster
    PrometheusMetrics(pool, registry=registry)

    lines = scraped(registry)

    labels = f'endpoint="{old.name}",pool="a"'
    assert f"pgdbpool_endpoint_round_trip_seconds{{{labels}}} 0.5" in lines
    labels += ',role="primary",state="in_use"'
    assert f"pgdbpool_connections{{{labels}}} 2.0" in lines


@pytest.mark.parametrize("name", LIBRARIES)
def test_without_the_library_it_is_said_what_to_install(name: str) -> None:
    """In one line; and pgdbpool itself does without."""
    module, library, extra = LIBRARIES[name]
    program = f"import pgdbpool; print('ok'); import pgdbpool.metrics.{name}"
    ended = run(program, without=[module])
    assert ended.stdout == "ok\n"
    assert ended.stderr.splitlines()[-1] == (
        f"ImportError: pgdbpool.metrics.{name} needs {library}: "
        f"pip install 'pgdbpool[{extra}]'"
    )


def test_pgdbpool_alone_imports_neither_library() -> None:
    """They are imported where they are used."""
    program = (
        "import pgdbpool; "
        "print({'prometheus_client', 'opentelemetry'} & sys.modules.keys())"
    )
    ended = run(program)
    assert ended.stdout == "set()\n"


def test_the_hooks_of_gunicorn_are_those_with_all_that_others_have() -> None:
    """Whoever takes them in the place of the others misses none."""
    program = (
        "from pgdbpool import gunicorn; import pgdbpool.gunicorn.metrics as ours; "
        "print(sorted(set(gunicorn.__all__) - set(ours.__all__)))"
    )
    ended = run(program)
    assert ended.stdout == "[]\n"


def test_every_metric_is_told_with_its_labels() -> None:
    """In the manual, by the name that it has in a scrape."""
    told = {
        row[0].strip("`"): tuple(row[1].split(", "))
        for row in table(ROOT / "doc" / "metrics.md", "metric")
    }
    assert told == {
        f"pgdbpool_{metric.name}{'_total' * (metric.kind == 'counter')}": metric.labels
        for metric in METRICS
    }

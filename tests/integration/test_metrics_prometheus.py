"""A scrape gives exactly the figures of what has happened."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, EndpointDown
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST, free_port
from pgdbpool.metrics.prometheus import PrometheusMetrics
from tests.fresh import python
from tests.metering import (
    EXHAUSTED,
    LOST,
    NAME,
    OPENED,
    QUEUED_AND_SERVED,
    ROUTE,
    SERVED,
    TURNED_AWAY,
    WAITED,
    hold,
    metered,
    one_waits,
    play,
)
from tests.scripting import ROOT
from tests.waiting import until
from tests.webtesting import TestApp

pytestmark = pytest.mark.direct("it counts the sessions of the server itself")


class Scraped:
    """The metrics of one pool, in a registry of their own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool
        self.registry = CollectorRegistry()
        self.metrics = PrometheusMetrics(pool, registry=self.registry)

    @property
    def counts(self) -> dict[str, int]:
        """What the pool itself counts."""
        return self.pool.get_stats()

    def value(self, name: str, **labels: str) -> float | None:
        """Return one figure of a scrape, None where there is none."""
        found: float | None = self.registry.get_sample_value(
            f"pgdbpool_{name}", {"pool": self.pool.name, **labels}
        )
        return found

    def at_endpoint(self, name: str, **labels: str) -> float | None:
        """Return one figure of the only endpoint."""
        return self.value(name, endpoint=self.pool.endpoints[0].name, **labels)


@pytest.fixture
def scraped(dsn: str) -> Iterator[Scraped]:
    """Give the pool of the scenario with its metrics."""
    with contextlib.closing(metered(dsn)) as pool:  # opened when it is first used
        yield Scraped(pool)


def test_a_scrape_gives_the_figures_of_the_scenario(
    scraped: Scraped, admin: connection
) -> None:
    """All counters and histograms, each exactly."""
    play(scraped.pool, admin)

    # Who waits for a connect may be served before it is counted.
    until(lambda: scraped.at_endpoint("connections_opened_total") == OPENED)
    refused = EXHAUSTED + TURNED_AWAY
    assert scraped.value("acquires_total") == SERVED + refused
    assert scraped.value("acquires_queued_total") == scraped.counts["requests_queued"]
    assert scraped.counts["requests_queued"] >= QUEUED_AND_SERVED + EXHAUSTED
    assert scraped.value("acquire_errors_total", kind="PoolExhausted") == EXHAUSTED
    assert scraped.value("acquire_errors_total", kind="TooManyRequests") == TURNED_AWAY
    assert scraped.at_endpoint("connect_seconds_count") == OPENED
    assert scraped.at_endpoint("connections_failed_total") == 0
    assert scraped.value("connections_lost_total") == LOST
    assert scraped.value("wait_seconds_count", route=ROUTE) == SERVED
    assert scraped.value("hold_seconds_count", route=ROUTE) == SERVED
    assert (scraped.value("wait_seconds_sum", route=ROUTE) or 0.0) >= WAITED
    assert (scraped.value("hold_seconds_sum", route=ROUTE) or 0.0) >= WAITED
    assert (scraped.at_endpoint("connect_seconds_sum") or 0.0) > 0.0


def test_the_buckets_of_waits_hold_each_other(
    scraped: Scraped, admin: connection
) -> None:
    """As Prometheus wants them; the one that waited long is not in the short ones."""
    play(scraped.pool, admin)

    bounds = ("0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1.0", "5.0", "10.0")
    counts = [
        scraped.value("wait_seconds_bucket", route=ROUTE, le=bound) or 0
        for bound in (*bounds, "+Inf")
    ]
    assert counts == sorted(counts)
    assert counts[3] <= SERVED - QUEUED_AND_SERVED
    assert counts[-1] == SERVED


def test_gauges_tell_of_the_moment_of_the_scrape(scraped: Scraped) -> None:
    """Who holds, who waits; then nobody; then the pool is closed."""

    def connections(state: str) -> float | None:
        return scraped.at_endpoint("connections", role="primary", state=state)

    with one_waits(scraped.pool):
        assert (connections("in_use"), connections("idle")) == (1, 0)
        assert scraped.value("waiting") == 1
        assert scraped.value("max_connections") == 1
    assert (connections("in_use"), connections("idle")) == (0, 1)
    assert scraped.value("waiting") == 0
    assert scraped.at_endpoint("endpoint_state", state="up") == 1
    assert scraped.at_endpoint("endpoint_role", role="standby") == 0

    scraped.pool.close()

    assert (connections("in_use"), connections("idle")) == (0, 0)
    assert scraped.value("max_connections") == 0
    assert scraped.value("acquires_total") == 2


def test_connects_that_fail_are_counted() -> None:
    """Each, as the pool itself counts them, and not among the times."""
    nowhere = f"host={HOST} port={free_port()}"
    with contextlib.closing(metered(nowhere, grace=0.0)) as pool:
        scraped = Scraped(pool)
        with pytest.raises(EndpointDown):
            pool.getconn(timeout=5.0)
        pool.close()
        failed = until(lambda: scraped.at_endpoint("connections_failed_total"))
        assert failed == pool.get_stats()["connections_errors"]
        assert scraped.at_endpoint("connect_seconds_count") == 0
        kind = scraped.value("acquire_errors_total", kind="EndpointDown")
        assert kind == 1
        assert scraped.at_endpoint("endpoint_state", state="down") == 1


def test_each_server_of_a_cluster_has_its_role_and_its_lag(
    module_cluster: Cluster,
) -> None:
    """One primary; the standbys tell how far they are behind."""
    with metered(module_cluster.dsn()) as pool:
        hold(pool)
        scraped = Scraped(pool)

        def roles(role: str) -> list[float | None]:
            names = [endpoint.name for endpoint in pool.endpoints]
            return [
                scraped.value("endpoint_role", endpoint=name, role=role)
                for name in names
            ]

        until(lambda: sorted(roles("standby")) == [0, 1, 1])  # type: ignore[type-var, unused-ignore]
        assert roles("primary") == [1 - (one or 0) for one in roles("standby")]
        for endpoint in pool.endpoints:
            if endpoint.role is not None and endpoint.role.value == "standby":
                until(
                    lambda name=endpoint.name: (  # type: ignore[misc, unused-ignore]
                        scraped.value("endpoint_lag_seconds", endpoint=name) is not None
                    )
                )


def test_the_application_answers_a_scrape(scraped: Scraped) -> None:
    """As text that Prometheus reads."""
    hold(scraped.pool)
    answer = TestApp(scraped.metrics.app()).get("/metrics")
    assert answer.content_type.startswith("text/plain")
    assert f'pgdbpool_acquires_total{{pool="{NAME}"}} 1.0' in answer.text


def script(scenario: str, dsn: str, directory: Path | None = None) -> dict[str, object]:
    """Run a scenario of `tests.metered_app` and return what it told."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "APP_DSN": dsn}
    if directory is not None:
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    ended = python(
        "-m", "tests.metered_app", scenario, cwd=ROOT, environ=environ, timeout=50.0
    )
    assert ended.stderr == ""
    told: dict[str, object] = json.loads(ended.stdout)
    return told


def test_a_forked_child_begins_to_count_anew(dsn: str) -> None:
    """And the parent's figures stay."""
    assert script("fork", dsn) == {"parent": 3.0, "child": 1.0, "refused": [1.0, None]}


def test_processes_that_share_a_directory_are_one_scrape(
    dsn: str, tmp_path: Path
) -> None:
    """A child that has ended leaves its counters, and no gauges."""
    assert script("fork", dsn, tmp_path) == {
        "parent": 4.0,
        "child": 4.0,
        "refused": [1.0, 1.0],
    }


def test_a_pool_without_threads_publishes_on_its_way(dsn: str, tmp_path: Path) -> None:
    """Once its last connection is released it is seen to hold none."""
    assert script("threadless", dsn, tmp_path) == {
        "released": 0.0,
        "threads": 0,
        "missing": 0.0,
    }

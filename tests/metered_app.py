"""What the tests of metrics run in processes of its own: an application, and scripts.

It finds its database in APP_DSN and the settings of its pool in APP_POOL.
"""

from __future__ import annotations

import _thread
import json
import os
import sys
from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pgdbpool import ConnectionPool, PoolExhausted, PoolMiddleware
from pgdbpool.metrics.prometheus import PrometheusMetrics
from tests.gunicorn_app import answer
from tests.metering import NAME, hold, metered
from tests.waiting import until

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def make_pool() -> ConnectionPool:
    """Return the pool, which gunicorn's hooks give its size."""
    settings = json.loads(os.environ.get("APP_POOL", "{}"))
    dsn = os.environ["APP_DSN"]
    return ConnectionPool(dsn, **{"name": NAME, "observe": True, **settings})


def eager() -> WSGIApplication:
    """Return the application of `tests.gunicorn_app` with metrics at ``/metrics``."""
    pool = make_pool()
    metrics = PrometheusMetrics(pool)
    app = PoolMiddleware(answer, pool)
    return DispatcherMiddleware(app, {"/metrics": metrics.app()})


def opened() -> WSGIApplication:
    """Return it with a pool that is open already, with --preload in the arbiter."""
    pool = make_pool()
    metrics = PrometheusMetrics(pool)
    pool.open(wait=True)
    _published(metrics)
    app = PoolMiddleware(answer, pool)
    return DispatcherMiddleware(app, {"/metrics": metrics.app()})


def value(metrics: PrometheusMetrics, name: str, **labels: str) -> float | None:
    """Return one figure of a scrape."""
    found: float | None = metrics.registry.get_sample_value(
        f"pgdbpool_{name}", {"pool": NAME, **labels}
    )
    return found


def in_use(metrics: PrometheusMetrics) -> float:
    """Return how many connections are in use."""
    found = 0.0
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.labels.get("state") == "in_use":
                found += sample.value
    return found


def fork() -> dict[str, object]:
    """Acquire three times, once more in a child, and ask both."""
    pool = metered(os.environ["APP_DSN"])
    metrics = PrometheusMetrics(pool)
    held = pool.getconn()
    try:
        pool.getconn(timeout=0.01)
    except PoolExhausted:
        pool.putconn(held)
    hold(pool)
    _published(metrics)
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        hold(pool)
        os.write(writes, json.dumps(_told(metrics)).encode())
        sys.exit()
    os.waitpid(child, 0)
    its, mine = json.loads(os.read(reads, 1000)), _told(metrics)
    return {"parent": mine[0], "child": its[0], "refused": [mine[1], its[1]]}


def _told(metrics: PrometheusMetrics) -> list[float | None]:
    _published(metrics)
    refused = value(metrics, "acquire_errors_total", kind="PoolExhausted")
    return [value(metrics, "acquires_total"), refused]


def _published(metrics: PrometheusMetrics) -> None:
    """Scrape, as Prometheus does."""
    list(metrics.app()({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, _start))


def _start(*_: object) -> None:  # type: ignore[misc, unused-ignore]
    """Take note of nothing."""


def threadless() -> dict[str, object]:
    """Hold until that is seen, release, look at once; scrape after two more."""
    pool = metered(os.environ["APP_DSN"], threaded=False)
    metrics = PrometheusMetrics(pool)
    released: list[float] = []

    def is_seen() -> bool:
        conn = pool.getconn()
        held = in_use(metrics)
        pool.putconn(conn)
        released.append(in_use(metrics))
        return held == 1.0

    until(is_seen)
    _published(metrics)
    acquires = pool.get_stats()["requests_num"]
    return {
        "released": sum(released),
        "threads": _thread._count(),
        "missing": acquires - (value(metrics, "acquires_total") or 0.0),
    }


if __name__ == "__main__":
    scenario = {"fork": fork, "threadless": threadless}[sys.argv[1]]
    sys.stdout.write(json.dumps(scenario()))
    sys.stdout.flush()

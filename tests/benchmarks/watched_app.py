"""The application of the ``watched`` benchmark: the same, seen by nobody or by all.

gunicorn loads ``application``; PGDBPOOL_BENCHMARK_SEEN says who looks on and
PGDBPOOL_BENCHMARK_DSN where the database is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import pgdbpool
from pgdbpool.metrics.opentelemetry import OpenTelemetryMetrics
from pgdbpool.metrics.prometheus import PrometheusMetrics
from pgdbpool.status import HealthApp, StatusApp
from pgdbpool.wsgi import PoolMiddleware
from tests.benchmarks.served_app import THREADS, answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.benchmarks.served_app import App, StartResponse

NOBODY = "nobody looks on"
AGAIN = "nobody, again"
ALL = "all but OpenTelemetry"
OTEL = "OpenTelemetry"
STATUS = "/_pgdbpool"
SEEN = {"observe": True, "leak_warn_after": 60.0, "sql_comments": True}


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Make one query and answer."""
    return answer(environ["pgdbpool.conn"], start_response)


def behind(dsn: str, **settings: Any) -> tuple[App, pgdbpool.ConnectionPool]:  # noqa: ANN401 - of a pool
    """Return the application inside our middleware, and its pool."""
    size = {"min_size": THREADS, "max_size": THREADS}
    pool = pgdbpool.ConnectionPool(dsn, name="watched", **size, **settings)
    return PoolMiddleware(app, pool), pool


def unseen(dsn: str) -> App:
    """Return the application as it is without a setting."""
    return behind(dsn)[0]


def seen(dsn: str) -> App:
    """Return it with the page, the probes, Prometheus, leaks and comments."""
    served, pool = behind(dsn, **SEEN)
    apps = {
        STATUS: StatusApp(pool),
        "/health": HealthApp(pool),
        "/metrics": PrometheusMetrics(pool).app(),
    }
    return DispatcherMiddleware(served, apps)


def traced(dsn: str) -> App:
    """Return it with the metrics and spans of the OpenTelemetry SDK, kept in memory."""
    served, pool = behind(dsn, observe=True)
    OpenTelemetryMetrics(
        pool,
        meter_provider=MeterProvider([InMemoryMetricReader()]),
        tracer_provider=TracerProvider(),
    )
    return served


VARIANTS = {NOBODY: unseen, AGAIN: unseen, ALL: seen, OTEL: traced}

if "PGDBPOOL_BENCHMARK_SEEN" in os.environ:
    application = VARIANTS[os.environ["PGDBPOOL_BENCHMARK_SEEN"]](
        os.environ["PGDBPOOL_BENCHMARK_DSN"]
    )

"""Requests per second under gunicorn, with all that can be seen of a pool and without.

As ``served``. With all of it on there are the hooks that make one scrape the whole
service, histograms by route, warnings of leaks, comments in each statement, the probes,
and a status page that somebody looks at, which asks the service once a second. Two of
the servers are the same, and show what chance does.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from typing import TYPE_CHECKING

from tests.benchmarks import driving, watched_app
from tests.benchmarks.measure import (
    Check,
    Report,
    interleave,
    joined,
    median_ratio,
    ratio_check,
)
from tests.benchmarks.watched_app import AGAIN, ALL, NOBODY, OTEL, STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.measure import Series
    from tests.benchmarks.server import Setup

NAME = "watched"
APP = "tests.benchmarks.watched_app:application"
HOOKS = ("--config", "python:pgdbpool.gunicorn.metrics")
LEAST_LEFT = 0.95
LOOKS_EVERY = 1.0  # seconds


def run(setup: Setup) -> Report:
    """Measure each of them under gunicorn. Blocks for a minute or two."""
    runs = []
    for _ in range(1 if setup.quick else 3):
        with contextlib.ExitStack() as stack:
            batches = {
                name: _batch(name, stack.enter_context(_serving(name, setup.dsn)))
                for name in watched_app.VARIANTS
            }
            runs.append(interleave(batches, setup.rounds(8, 6)))
    series = joined(runs)
    return Report(
        NAME,
        f"gunicorn gthread, 1 worker, {driving.CLIENTS} keep-alive clients, one query a"
        " request, by who looks on",
        "requests/s",
        series,
        reference=dict.fromkeys(watched_app.VARIANTS, NOBODY),
        checks=_checks(series),
        notes=[f"chance alone: {median_ratio(series, AGAIN, NOBODY):.3f}"],
    )


def _checks(series: Series) -> list[Check]:
    return [
        ratio_check(series, name, NOBODY, LEAST_LEFT, at_most=False)
        for name in (ALL, OTEL)
    ]


@contextlib.contextmanager
def _serving(name: str, dsn: str) -> Iterator[int]:
    environ = {"PGDBPOOL_BENCHMARK_SEEN": name, "PGDBPOOL_BENCHMARK_DSN": dsn}
    options = HOOKS if name == ALL else ()
    with driving.serving(APP, environ, options) as port:
        yield port


def _batch(name: str, port: int) -> Callable[[], float]:
    def batch() -> float:
        with contextlib.ExitStack() as stack:
            if name == ALL:
                stack.enter_context(_looking_on(port))
            return float(driving.driven(port)["per_second"])

    return batch


@contextlib.contextmanager
def _looking_on(port: int) -> Iterator[None]:
    """Ask for what the page shows, as an open page does."""
    is_over = threading.Event()
    found: list[int] = []

    def look() -> None:
        while not is_over.is_set():
            conn = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
            with contextlib.closing(conn):
                conn.request("GET", f"{STATUS}/status.json")
                found.append(conn.getresponse().status)
            is_over.wait(LOOKS_EVERY)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if set(found) != {http.HTTPStatus.OK}:
        raise RuntimeError(f"the status page answered {found}")

"""Requests per second under gunicorn: gthread, 1 worker, 8 threads, 16 clients.

One query a request, HTTP keep-alive, the clients in a process of their own. The same
application for every pool (``served_app``). A server of every variant runs, the
clients drive one after the other for a short while, round after round; an idle
server costs the others nothing. Then all are started afresh, because a server keeps
the luck of its sessions for life.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.benchmarks import peers, served_app
from tests.benchmarks.driving import CLIENTS, driven, serving
from tests.benchmarks.measure import Report, interleave, joined, ratio_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.measure import Series
    from tests.benchmarks.server import Setup

NAME = "served"
APP = "tests.benchmarks.served_app:application"
QUICK_VARIANTS = (
    served_app.FLOOR,
    peers.OURS,
    "psycopg2.pool",
    *served_app.PINGING,
)


def run(setup: Setup) -> Report:
    """Measure every variant under gunicorn. Blocks for a minute or two."""
    names = QUICK_VARIANTS if setup.quick else tuple(served_app.VARIANTS)
    rounds = setup.rounds(6, 5)
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    runs = []
    for _ in range(1 if setup.quick else 2):
        with contextlib.ExitStack() as stack:
            ports = {
                name: stack.enter_context(serving(APP, _told_to(name, setup)))
                for name in names
            }
            batches = {name: _batch(ports[name], seen[name]) for name in names}
            runs.append(interleave(batches, rounds))
    series = joined(runs)
    return Report(
        NAME,
        f"gunicorn gthread, 1 worker, {served_app.THREADS} threads,"
        f" {CLIENTS} keep-alive clients, one query a request",
        "requests/s",
        series,
        reference=dict.fromkeys(names, served_app.FLOOR),
        checks=_checks(series),
        notes=[_told(name, found) for name, found in seen.items()],
    )


def _checks(series: Series) -> list[Any]:
    checks = [ratio_check(series, peers.OURS, served_app.FLOOR, 0.95, at_most=False)]
    return checks + [
        ratio_check(series, peers.OURS, name, 1.0, at_most=False)
        for name in served_app.PINGING
    ]


def _told_to(name: str, setup: Setup) -> dict[str, str]:
    return {"PGDBPOOL_BENCHMARK_POOL": name, "PGDBPOOL_BENCHMARK_DSN": setup.dsn}


def _told(name: str, runs: list[dict[str, Any]]) -> str:
    slowest = max(run["longest_ms"] for run in runs)
    p99 = sorted(run["p99_ms"] for run in runs)[len(runs) // 2]
    errors = sum(run["errors"] for run in runs)
    return f"{name}: p99 {p99:.1f} ms, longest {slowest:.0f} ms, {errors} errors"


def _batch(port: int, seen: list[dict[str, Any]]) -> Callable[[], float]:
    def batch() -> float:
        found = driven(port)
        seen.append(found)
        return float(found["per_second"])

    return batch

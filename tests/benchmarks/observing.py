"""What an acquire and release cost more on a pool that is observed, ping skipped.

The acquire is twenty calls deep, as the handler of a framework is, for a warning of a
leak tells who called. What Prometheus costs is what it takes note of meanwhile.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pgdbpool
from pgdbpool.metrics.prometheus import PrometheusMetrics
from tests.benchmarks.measure import (
    Check,
    Report,
    interleave,
    median_difference,
    microseconds,
    one_core,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.measure import Batch
    from tests.benchmarks.server import Setup

NAME = "observing"
OFF = "off"
SETTINGS = {
    OFF: {},
    "observe": {"observe": True},
    "leak_warn_after": {"leak_warn_after": 60.0},
    "Prometheus": {"observe": True},
}
MOST_ADDED = 2.0  # microseconds
DEPTH = 20
PING_IDLE = 3600.0


def run(setup: Setup) -> Report:
    """Measure acquire and release by what is observed. Blocks."""
    number = 500 if setup.quick else 2000
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_core(*setup.pids))
        batches = {}
        for name, settings in SETTINGS.items():
            pool = pgdbpool.ConnectionPool(
                setup.dsn, name=name, ping_idle=PING_IDLE, **settings
            )
            stack.callback(pool.close)
            if name == "Prometheus":
                PrometheusMetrics(pool)
            batches[name] = _batch(pool, number)
        series = interleave(batches, setup.rounds(100, 30))
    return Report(
        NAME,
        f"acquire + release by what is observed, {DEPTH} calls deep, one core",
        "µs",
        series,
        reference=dict.fromkeys(SETTINGS, OFF),
        checks=[
            Check(
                f"{name} - {OFF}",
                median_difference(series, name, OFF),
                MOST_ADDED,
                unit="µs",
            )
            for name in SETTINGS
            if name != OFF
        ],
    )


def _batch(pool: pgdbpool.ConnectionPool, number: int) -> Batch:
    acquire, release = pool.getconn, pool.putconn
    release(acquire())
    batch = microseconds(lambda: release(acquire()), number)
    return lambda: _deep(DEPTH, batch)


def _deep(levels: int, batch: Callable[[], float]) -> float:
    return _deep(levels - 1, batch) if levels else batch()

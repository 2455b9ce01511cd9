"""Acquire and release on pools of 1, 3 and 50 servers, ping skipped, one core.

What it costs to decide, at each acquire, which server serves: a write goes to the
primary, a read to the better of two standbys that chance drew. A pool of one server
decides nothing and is what the others are compared with. Each pool keeps one idle
connection to each server, and probes it once a second, which is in the figures.

There are two servers, a primary and a standby, which has many names: libpq goes by
``hostaddr``, the pool by ``host``. They are the benchmark's own.
"""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING

from psycopg2.extensions import make_dsn

import pgdbpool
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST
from tests.benchmarks.measure import (
    Check,
    Report,
    interleave,
    median_difference,
    microseconds,
    one_core,
    ratio_check,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.measure import Series
    from tests.benchmarks.server import Setup

NAME = "routing"
SIZES = (1, 3, 50)
KINDS = ("write", "read")
MOST_TO_DECIDE = 2.0  # microseconds
MOST_GROWTH = 1.2
LONGEST_START = 30.0
PING_IDLE = 3600.0


def run(setup: Setup) -> Report:
    """Measure acquire and release at every number of servers. Blocks."""
    number = 500 if setup.quick else 2000
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(1))
        stack.enter_context(one_core(*(one.pids[0] for one in cluster.servers)))
        calls: dict[str, Callable[[], object]] = {}
        for size in SIZES:
            pool = _pool(cluster, size)
            stack.callback(pool.close)
            calls[f"write x {size}"] = _cycle(pool, pool.getconn)
            reading = functools.partial(pool.getconn, read_only=True)
            calls[f"read x {size}"] = _cycle(pool, reading)
        for call in calls.values():
            _warm(call)
        series = interleave(
            {name: microseconds(call, number) for name, call in calls.items()},
            setup.rounds(60, 15),
        )
    return Report(
        NAME,
        "acquire + release by the number of servers, ping skipped, one core",
        "µs",
        series,
        reference={name: f"{name.split(' x ')[0]} x 1" for name in series},
        checks=[check for kind in KINDS for check in _checks(series, kind)],
        notes=["a read of the one-server pool is served by its primary"],
    )


def _checks(series: Series, kind: str) -> list[Check]:
    one, few, many = (f"{kind} x {size}" for size in SIZES)
    cost = median_difference(series, few, one)
    return [
        Check(f"{few} - {one}", cost, MOST_TO_DECIDE, unit="µs"),
        ratio_check(series, many, few, MOST_GROWTH),
    ]


def _pool(cluster: Cluster, size: int) -> pgdbpool.ConnectionPool:
    """Return a pool of the primary and so many names of its standby. Blocks."""
    primary, standby = cluster.servers
    places = [("primary", primary.port)]
    places += [(f"standby-{number}", standby.port) for number in range(1, size)]
    dsns = [
        make_dsn(
            None,
            host=name,
            hostaddr=HOST,
            port=port,
            dbname="postgres",
            user="postgres",
        )
        for name, port in places
    ]
    pool = pgdbpool.ConnectionPool(dsns, ping_idle=PING_IDLE, max_size=2, max_lag=None)
    pool.open()
    deadline = time.monotonic() + LONGEST_START
    while not all(one.role is not None or size == 1 for one in pool.endpoints):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all servers answered: {pool!r}")
        time.sleep(0.01)
    return pool


def _cycle(
    pool: pgdbpool.ConnectionPool, acquire: Callable[[], pgdbpool.PooledConnection]
) -> Callable[[], object]:
    release = pool.putconn
    return lambda: release(acquire())


def _warm(call: Callable[[], object]) -> None:
    """Let every connection be pinged, as its first hold demands."""
    for _ in range(20 * max(SIZES)):
        call()

"""HikariCP's spike: 50 threads at once, 5 connections, a connect takes 150 ms.

Each thread wants one query of 2 ms. A pool whose callers wait for the connect they
asked for answers after 150 ms; one whose callers wait for the pool is done after
ten turns on the five connections it has. The connect is slow in the client (the
connection class sleeps before it connects), the same for every driver. A pool may
go on connecting after the spike; all connects until then are counted.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks import peers
from tests.benchmarks.connects import Connects, Spec
from tests.benchmarks.measure import Report, interleave

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.peers import Peer
    from tests.benchmarks.server import Setup

NAME = "spike"
THREADS = 50
READY = 5
MOST = 50
CONNECT_TAKES = 0.150
QUERY = "SELECT pg_sleep(0.002)"
AFTER_SPIKE = 0.5
MAKERS: dict[str, Callable[[Spec], Peer]] = {
    peers.OURS: peers.ours,
    "psycopg_pool": peers.with_psycopg_pool,
    "SQLAlchemy": peers.with_sqlalchemy,
    "psycopg2.pool": peers.with_psycopg2_pool,
    "DBUtils": peers.with_dbutils,
}
# The others connect one at a time, which takes them seven seconds.
QUICK_VARIANTS = (peers.OURS, "psycopg_pool", "SQLAlchemy")


def run(setup: Setup) -> Report:
    """Measure a spike on a fresh pool of each kind. Blocks for some seconds."""
    names = QUICK_VARIANTS if setup.quick else tuple(MAKERS)
    opened: dict[str, list[int]] = {name: [] for name in names}
    batches = {name: _batch(MAKERS[name], setup.dsn, opened[name]) for name in names}
    series = interleave(batches, setup.rounds(2, 2))
    return Report(
        NAME,
        f"{THREADS} threads, {READY} connections of at most {MOST},"
        f" {CONNECT_TAKES * 1e3:.0f} ms a connect: until all are served",
        "ms",
        series,
        reference=dict.fromkeys(series, "psycopg_pool"),
        notes=[
            f"{name}: connections opened by the spike {min(counts)} to {max(counts)}"
            for name, counts in opened.items()
        ],
    )


def _batch(
    make: Callable[[Spec], Peer], dsn: str, opened: list[int]
) -> Callable[[], float]:
    def batch() -> float:
        connects = Connects(CONNECT_TAKES)
        peer = make(Spec(dsn, MOST, READY, connects=connects))
        try:
            before = connects.count
            took = _spike(peer)
            time.sleep(AFTER_SPIKE)
            opened.append(connects.count - before)
        finally:
            peer.close()
        return took * 1e3

    return batch


def _spike(peer: Peer) -> float:
    """Let all threads go at once; return the seconds until the last is served."""
    begin = threading.Barrier(THREADS + 1)
    failed: list[Exception] = []

    def one() -> None:
        begin.wait()
        try:
            _hold(peer)
        except Exception as error:  # noqa: BLE001 - told by the caller's thread
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    begin.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if failed:
        raise failed[0]
    return took


def _hold(peer: Peer) -> None:
    conn: Any = peer.acquire()
    try:
        with conn.cursor() as cur:
            cur.execute(QUERY)
            cur.fetchone()
        conn.commit()
    finally:
        peer.release(conn)

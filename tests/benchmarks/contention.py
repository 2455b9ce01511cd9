"""32 threads on 8 connections, one query a hold: throughput, waiting, fairness.

Every pool gets the same threads, the same eight connections and the same short
slice of time, in turn. A hold is acquire, one query with its row, COMMIT, release.
Handing a connection to whoever comes first (SQLAlchemy) saves a switch of threads
and starves those in line, so the longest wait and the holds per thread belong to
the answer. psycopg2.pool refuses instead of waiting and gets the semaphore that its
users put around it.

It is measured twice: as it is, and with the client on one core (``contention_alone``).
On several cores most of what is measured is how often CPython's lock changes cores,
which costs more than a round trip to a server next door and varies from run to run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks import peers, work
from tests.benchmarks.connects import Spec
from tests.benchmarks.measure import Check, Report, interleave, ratio_check
from tests.benchmarks.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.server import Setup

NAME = "contention"
THREADS = 32
CONNECTIONS = 8
LONGEST_TURN = 3.0


@dataclasses.dataclass
class Slices:
    """What the slices of one pool showed beside their throughput."""

    longest: list[float] = dataclasses.field(default_factory=list)
    turns: list[float] = dataclasses.field(default_factory=list)
    holds: list[int] = dataclasses.field(default_factory=lambda: [0] * THREADS)


def run(setup: Setup) -> Report:
    """Measure every pool under 32 threads. Blocks for about half a minute."""
    title = f"{THREADS} threads on {CONNECTIONS} connections, one query a hold"
    return measured(setup, NAME, title)


def measured(setup: Setup, name: str, title: str) -> Report:
    """Return what every pool does under 32 threads. Blocks as `run` does."""
    spec = Spec(setup.dsn, CONNECTIONS)
    seconds = 0.3 if setup.quick else 0.6
    with contextlib.ExitStack() as stack:
        pools = [_own_session_each(setup), peers.ours(spec)]
        pools += [_waiting(peer) for peer in peers.others(spec)]
        for peer in pools:
            stack.callback(peer.close)
        found = {peer.name: Slices() for peer in pools}
        batches = {peer.name: _slice(peer, seconds, found[peer.name]) for peer in pools}
        series = interleave(batches, setup.rounds(9, 4))
    ours = peers.OURS
    longest = statistics.median(found[ours].turns)
    return Report(
        name,
        title,
        "holds/s",
        series,
        reference=dict.fromkeys(series, "psycopg_pool"),
        checks=[
            ratio_check(series, ours, "psycopg_pool", 1.2, at_most=False),
            ratio_check(series, ours, "SQLAlchemy, pre_ping", 1.0, at_most=False),
            ratio_check(series, ours, "SQLAlchemy", 0.75, at_most=False),
            Check(
                f"{ours}: longest wait / (threads / throughput)",
                longest,
                LONGEST_TURN,
            ),
        ],
        notes=[_told(variant, slices) for variant, slices in found.items()],
    )


def _told(variant: str, slices: Slices) -> str:
    return (
        f"{variant}: longest wait {max(slices.longest) * 1e3:.0f} ms"
        f" ({statistics.median(slices.turns):.1f}, at worst {max(slices.turns):.1f}"
        f" x threads / throughput); holds per thread"
        f" {min(slices.holds)} to {max(slices.holds)}"
    )


def _own_session_each(setup: Setup) -> Peer:
    """Return the floor: every thread has a connection of its own, nobody waits."""
    local = threading.local()
    spec = Spec(setup.dsn, THREADS)
    sessions = [spec.maker() for _ in range(THREADS)]
    following = itertools.cycle(sessions)

    def acquire() -> Any:  # noqa: ANN401 - a psycopg2 connection
        if not hasattr(local, "conn"):
            local.conn = next(following)
        return local.conn

    def close() -> None:
        for session in sessions:
            session.close()

    name = f"floor: {THREADS} private connections"
    return Peer(
        name=name,
        pings=False,
        acquire=acquire,
        release=lambda _: None,
        close=close,
    )


def _waiting(peer: Peer) -> Peer:
    """Return the peer, made to wait its turn if it cannot."""
    if peer.name != "psycopg2.pool":
        return peer
    turns = threading.BoundedSemaphore(CONNECTIONS)

    def acquire() -> Any:  # noqa: ANN401 - a psycopg2 connection
        turns.acquire()
        return peer.acquire()

    def release(conn: Any) -> None:  # noqa: ANN401 - a psycopg2 connection
        peer.release(conn)
        turns.release()

    name = "psycopg2.pool + semaphore"
    return dataclasses.replace(peer, name=name, acquire=acquire, release=release)


def _slice(peer: Peer, seconds: float, found: Slices) -> Callable[[], float]:
    """Return a batch: all threads for that long; it returns the holds a second."""
    hold = work.transaction(peer)

    def loop(number: int, begin: threading.Barrier, waits: list[float]) -> None:
        begin.wait()
        longest, holds, started = 0.0, 0, time.perf_counter()
        now = started
        while now - started < seconds:
            longest = max(longest, hold())
            holds += 1
            now = time.perf_counter()
        waits[number] = longest
        found.holds[number] += holds

    def batch() -> float:
        before, waits = sum(found.holds), [0.0] * THREADS
        begin = threading.Barrier(THREADS + 1)
        threads = [
            threading.Thread(target=loop, args=(number, begin, waits))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        begin.wait()
        started = time.perf_counter()
        for thread in threads:
            thread.join()
        rate = (sum(found.holds) - before) / (time.perf_counter() - started)
        found.longest.append(max(waits))
        found.turns.append(max(waits) * rate / THREADS)
        return rate

    return batch

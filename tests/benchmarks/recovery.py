"""The first 100 requests after a restart of the database, 16 idle connections.

One restart (``-m fast``) hits all pools at once, each full of idle connections; when
the server is back, each in turn gets 100 requests from one thread. Counted are the
requests that fail and the time of all 100. A pool that checks nothing hands out its
dead connections one after the other. psycopg_pool with its check pauses between dead
connections, each time twice as long: it gets our patience of 5 s a request instead of
its own 30, and whoever is not done after 10 s is stopped there.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tests.benchmarks import peers, work
from tests.benchmarks.connects import Spec
from tests.benchmarks.measure import Check, Report, interleave

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.measure import Series
    from tests.benchmarks.peers import Peer
    from tests.benchmarks.server import Setup

    Counts = dict[str, list[tuple[int, int]]]

NAME = "recovery"
IDLE = 16
REQUESTS = 100
PATIENCE = 5.0
LONG_ENOUGH = 10.0


def run(setup: Setup) -> Report:
    """Measure the requests after a restart. Blocks for some seconds."""
    found: Counts = {}
    if setup.embedded is None:
        return _report({}, found, ["left out: this server is not ours to restart"])
    runs = []
    for turn in range(setup.rounds(3, 1)):
        with contextlib.ExitStack() as stack:
            pools = _pools(setup, stack)
            setup.embedded.restart("fast")
            ordered = pools[turn % len(pools) :] + pools[: turn % len(pools)]
            runs.append(
                interleave({peer.name: _batch(peer, found) for peer in ordered}, 1)
            )
    series = {
        name: [one[name][0] for one in runs] for name in sorted(runs[0], key=_rank)
    }
    notes = [_told(name, found[name]) for name in series]
    return _report(series, found, notes)


def _told(name: str, counts: list[tuple[int, int]]) -> str:
    served = min(good + failed for good, failed in counts)
    errors = [failed for _, failed in counts]
    stopped = "" if served == REQUESTS else f", stopped after {served} requests"
    return f"{name}: {min(errors)} to {max(errors)} errors{stopped}"


def _rank(name: str) -> bool:
    return name != peers.OURS


def _report(series: Series, found: Counts, notes: list[str]) -> Report:
    checks = []
    if series:
        worst = float(max(REQUESTS - good for good, _ in found[peers.OURS]))
        checks.append(Check(f"{peers.OURS}: requests not served", worst, 0.0, unit=""))
    return Report(
        NAME,
        f"the first {REQUESTS} requests after a restart with {IDLE} idle connections",
        "ms",
        series,
        reference=dict.fromkeys(series, "SQLAlchemy, pre_ping"),
        checks=checks,
        notes=notes,
    )


def _pools(setup: Setup, stack: contextlib.ExitStack) -> list[Peer]:
    """Open every pool, full of idle connections. Blocks."""
    spec = Spec(setup.dsn, IDLE)
    pools = [
        peers.ours(spec),
        *peers.others(spec, pinging=False),
        peers.with_psycopg_pool(spec, check=True, timeout=PATIENCE),
        peers.with_sqlalchemy(spec, pre_ping=True),
    ]
    for peer in pools:
        stack.callback(peer.close)
    return pools


def _batch(peer: Peer, found: Counts) -> Callable[[], float]:
    request = work.transaction(peer)

    def batch() -> float:
        good = failed = 0
        took, started = 0.0, time.perf_counter()
        while good + failed < REQUESTS and took < LONG_ENOUGH:
            try:
                request()
                good += 1
            except Exception:  # noqa: BLE001 - of either driver; counted
                failed += 1
            took = time.perf_counter() - started
        found.setdefault(peer.name, []).append((good, failed))
        return took * 1e3

    return batch

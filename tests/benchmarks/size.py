"""Acquire and release with 1 to 200 idle connections, ping skipped, one core.

A pool that searches its connections, or counts them at each acquire, slows down as
it grows. All sizes are open at once and measured in turn, so that only the number
of idle connections differs. The peers built on psycopg2 share one set of sessions
(nothing is sent on them here), which keeps the server small.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import psycopg2

from tests.benchmarks import peers, work
from tests.benchmarks.connects import Spec
from tests.benchmarks.measure import (
    Report,
    interleave,
    microseconds,
    one_core,
    ratio_check,
)

if TYPE_CHECKING:
    from tests.benchmarks.peers import Peer
    from tests.benchmarks.server import Setup

NAME = "size"
SIZES = (1, 10, 50, 200)
QUICK_SIZES = (1, 10, 100)
MOST_GROWTH = 1.10


def run(setup: Setup) -> Report:
    """Measure acquire and release at every size. Blocks for some seconds."""
    sizes = _sizes(setup)
    largest = sizes[-1]
    with one_core(*setup.pids), contextlib.ExitStack() as stack:
        pools = _pools(setup, sizes, stack)
        number = 500 if setup.quick else 2000
        series = interleave(
            {name: microseconds(work.cycle(peer), number) for name, peer in pools},
            setup.rounds(60, 15),
        )
    name = peers.OURS
    return Report(
        NAME,
        "acquire + release by the number of idle connections, ping skipped, one core",
        "µs",
        series,
        reference={label: f"{label.split(' x ')[0]} x 1" for label in series},
        checks=[
            ratio_check(series, f"{name} x {size}", f"{name} x 1", MOST_GROWTH)
            for size in sizes[1:]
        ],
        notes=[
            f'"no growth" allows {MOST_GROWTH - 1:.0%} for noise',
            f"largest size measured: {largest} (the server's room decides)",
        ],
    )


def _sizes(setup: Setup) -> tuple[int, ...]:
    """Return the sizes the server has room for, three sets of the largest."""
    wanted = QUICK_SIZES if setup.quick else SIZES
    room = (setup.free_sessions() - sum(wanted[:-1]) - 2) // 3
    return tuple(size for size in wanted if size <= max(room, 1))


def _pools(
    setup: Setup, sizes: tuple[int, ...], stack: contextlib.ExitStack
) -> list[tuple[str, Peer]]:
    """Open every pool; the stack closes them. Blocks."""
    pools = []
    for size in sizes:
        spec = Spec(setup.dsn, size)
        pools.append((f"{peers.OURS} x {size}", peers.ours(spec, ping_idle=3600.0)))
    sessions = [psycopg2.connect(setup.dsn) for _ in range(sizes[-1])]
    for session in sessions:
        stack.callback(session.close)
    for size in (1, sizes[-1]):
        maker = itertools.cycle(sessions).__next__
        spec = Spec(setup.dsn, size, connect=maker)
        pools += [
            (f"{peer.name} x {size}", peer)
            for peer in peers.others(spec, pinging=False)
        ]
    for _, peer in pools:
        stack.callback(peer.close)
    return pools

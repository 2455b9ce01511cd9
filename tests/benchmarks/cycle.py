"""Acquire and release with nothing in between, one thread, one core.

What a pool costs when the server is not asked: bookkeeping, locking, looking at the
connection. Ours runs with all its safety on, only the SQL ping skipped
(``ping_idle``), as none of the others sends one here either; so the comparison is
with pools that check nothing. Nobody opens a transaction, hence no peer has
anything to roll back. Two of them have a ``with`` statement, which also decides
about commit and rollback; it is compared with its like. The pool without threads is
compared with the one with.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

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
    from tests.benchmarks.server import Setup

NAME = "cycle"
OURS_BLOCK = "pgdbpool, with"
OURS_CALLS = "pgdbpool, getconn"
ALONE_BLOCK = "pgdbpool, threadless, with"
ALONE_CALLS = "pgdbpool, threadless"
PEER_BLOCK = "psycopg_pool, with"
PEER_CALLS = "psycopg_pool"
CONNECTIONS = 4


def run(setup: Setup) -> Report:
    """Measure acquire and release of every pool. Blocks for some seconds."""
    spec = Spec(setup.dsn, CONNECTIONS)
    number = 500 if setup.quick else 2000
    with one_core(*setup.pids), contextlib.ExitStack() as stack:
        mine = peers.ours(spec, OURS_CALLS, ping_idle=3600.0)
        stack.callback(mine.close)
        alone = peers.ours(spec, ALONE_CALLS, ping_idle=3600.0, threaded=False)
        stack.callback(alone.close)
        others = peers.others(spec, pinging=False)
        for peer in others:
            stack.callback(peer.close)
        calls = {peer.name: work.cycle(peer) for peer in (mine, alone, *others)}
        psycopg_pool = next(peer for peer in others if peer.name == PEER_CALLS)
        calls |= {
            OURS_BLOCK: work.block(mine),
            ALONE_BLOCK: work.block(alone),
            PEER_BLOCK: work.block(psycopg_pool),
        }
        series = interleave(
            {name: microseconds(call, number) for name, call in calls.items()},
            setup.rounds(60, 15),
        )
    return Report(
        NAME,
        "acquire + release, ping skipped, one thread, one core",
        "µs",
        series,
        reference=dict.fromkeys(series, PEER_CALLS)
        | {OURS_BLOCK: PEER_BLOCK, ALONE_BLOCK: OURS_BLOCK, ALONE_CALLS: OURS_CALLS},
        checks=[
            ratio_check(series, OURS_BLOCK, PEER_BLOCK, 0.55),
            ratio_check(series, OURS_CALLS, PEER_CALLS, 0.80),
            ratio_check(series, ALONE_BLOCK, OURS_BLOCK, 0.70),
            ratio_check(series, ALONE_CALLS, OURS_CALLS, 0.70),
        ],
    )

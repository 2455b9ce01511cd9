"""A one-query transaction with and without the ping, against bare connections.

Two identical sessions of one server differ by up to 1.7 times, far more than a ping
costs. So our pool has one connection, its ping is switched on and off between
batches, and the bare psycopg2 connection it is compared with is that same session,
held and used through psycopg2's own methods. The peers built on psycopg2 are all
given one other session, which is also measured bare. All of it on one core, and
repeated with fresh sessions. psycopg_pool brings psycopg 3, a driver and a session
of its own; its figures are here for the picture.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions

from tests.benchmarks import peers, work
from tests.benchmarks.connects import Spec
from tests.benchmarks.measure import (
    Report,
    interleave,
    joined,
    microseconds,
    one_core,
    ratio_check,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.measure import Batch, Series
    from tests.benchmarks.peers import Peer
    from tests.benchmarks.server import Setup

NAME = "ping"
PINGED = peers.OURS
UNPINGED = "pgdbpool, no ping"
OURS_BARE = "bare, pgdbpool's session"
PEERS_BARE = "bare, the peers' session"
NEVER = 3600.0
CONNECTION = psycopg2.extensions.connection


def run(setup: Setup) -> Report:
    """Measure transactions with several sessions. Blocks for half a minute."""
    sessions = 2 if setup.quick else 4
    rounds = setup.rounds(16, 6)
    with one_core(*setup.pids):
        series = joined([_with_fresh_sessions(setup, rounds) for _ in range(sessions)])
    mine = dict.fromkeys((PINGED, UNPINGED, OURS_BARE), OURS_BARE)
    return Report(
        NAME,
        "acquire, one query, commit, release: with the ping and without, one core",
        "µs",
        series,
        reference={name: mine.get(name, PEERS_BARE) for name in series},
        checks=[
            ratio_check(series, PINGED, UNPINGED, 1.05),
            ratio_check(series, PINGED, OURS_BARE, 1.30),
        ],
        notes=[f"{sessions} sets of sessions, {rounds} rounds each"],
    )


def _with_fresh_sessions(setup: Setup, rounds: int) -> Series:
    with contextlib.ExitStack() as stack:
        session = psycopg2.connect(setup.dsn)
        stack.callback(session.close)
        mine = peers.ours(Spec(setup.dsn, 1))
        shared = Spec(setup.dsn, 1, connect=lambda: session)
        others = peers.others(shared)
        for peer in (mine, *others):
            stack.callback(peer.close)
        number = 100 if setup.quick else 200
        batches = {
            PINGED: _switched(mine, 0.0, number),
            UNPINGED: _switched(mine, NEVER, number),
            OURS_BARE: _held(mine, number),
            PEERS_BARE: microseconds(_bare(session), number),
        }
        batches |= {
            peer.name: microseconds(work.transaction(peer), number) for peer in others
        }
        interleave(batches, 1)
        return interleave(batches, rounds)


def _switched(mine: Peer, ping_idle: float, number: int) -> Batch:
    """Return a batch of our pool with its ping on (0) or off.

    The settings are frozen because nobody may change them while threads use the
    pool; here there is one thread, and it stands between two batches.
    """
    timed = microseconds(work.transaction(mine), number)

    def batch() -> float:
        vars(mine.pool.settings)["ping_idle"] = ping_idle
        return timed()

    return batch


def _held(mine: Peer, number: int) -> Batch:
    """Return a batch on the pool's own connection, used as if it had no pool."""

    def batch() -> float:
        conn = mine.acquire()
        try:
            CONNECTION.rollback(conn)
            return microseconds(_bare(conn), number)()
        finally:
            mine.release(conn)

    return batch


def _bare(conn: Any) -> Callable[[], float]:  # noqa: ANN401 - has no stubs
    """Return the transaction through psycopg2's methods, whatever the class."""
    cursor, commit = CONNECTION.cursor, CONNECTION.commit
    factory = psycopg2.extensions.cursor

    def call() -> float:
        asked = time.perf_counter()
        waited = time.perf_counter() - asked
        with cursor(conn, cursor_factory=factory) as cur:
            cur.execute(work.QUERY)
            cur.fetchone()
        commit(conn)
        return waited

    return call

"""What a pool is asked to do while it is timed, the same for every peer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.peers import Peer

QUERY = "SELECT 1"


def cycle(peer: Peer) -> Callable[[], object]:
    """Return acquire and release, with nothing between them."""
    acquire, release = peer.acquire, peer.release
    return lambda: release(acquire())


def block(peer: Peer) -> Callable[[], object]:
    """Return an empty ``with`` block of the peer."""
    if peer.block is None:
        raise TypeError(f"{peer.name} has no with statement")
    enter = peer.block

    def run() -> None:
        with enter():
            pass

    return run


def query(conn: Any) -> None:  # noqa: ANN401 - of either driver, or a proxy
    """Run one query and fetch its row."""
    with conn.cursor() as cur:
        cur.execute(QUERY)
        cur.fetchone()


def transaction(peer: Peer) -> Callable[[], float]:
    """Return acquire, one query with its row, COMMIT, release.

    As the peer's manual has it: its ``with`` statement, or calls in a ``try``. The
    function returns how many seconds the acquire took.
    """
    acquire, release, enter = peer.acquire, peer.release, peer.block

    def by_hand() -> float:
        asked = time.perf_counter()
        conn = acquire()
        waited = time.perf_counter() - asked
        try:
            query(conn)
            conn.commit()
        finally:
            release(conn)
        return waited

    def by_block() -> float:
        asked = time.perf_counter()
        with enter() as conn:  # type: ignore[misc] # only used where there is one
            waited = time.perf_counter() - asked
            query(conn)
        return waited

    return by_hand if enter is None else by_block

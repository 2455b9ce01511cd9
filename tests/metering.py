"""A scripted scenario for the metrics of a pool, and what it must come to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolExhausted, TooManyRequests
from tests.asking import pid, terminate
from tests.soundness import assert_at_rest
from tests.waiting import let_pass, until

NAME = "metered"
REQUEST = "GET /order/7"
ROUTE = "GET /order/*"

# What the scenario comes to.
SERVED = 5
EXHAUSTED = 2
TURNED_AWAY = 1
QUEUED_AND_SERVED = 1
OPENED = 2
LOST = 1
WAITED = 0.06  # seconds, at least


def metered(dsn: str, **given: object) -> ConnectionPool:
    """Return the pool of the scenario: one connection, one place in the line."""
    settings = {"name": NAME, "observe": True, "max_size": 1, "max_waiting": 1}
    return ConnectionPool(dsn, **{**settings, **given})  # type: ignore[arg-type]


def hold(pool: ConnectionPool) -> connection:
    """Hold a connection for a request, and release it; return what was held."""
    conn = pool.acquire(request=REQUEST)
    pool.release(conn, conn.hold)
    return conn


@contextmanager
def one_waits(pool: ConnectionPool) -> Iterator[None]:
    """Let one wait for the length of the block, and be served after it."""
    conn = pool.acquire(request=REQUEST)
    waiter = threading.Thread(target=hold, args=(pool,))
    waiter.start()
    try:
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        yield
    finally:
        pool.release(conn, conn.hold)
        waiter.join()


def play(pool: ConnectionPool, admin: connection) -> None:
    """Play the scenario, whose figures stand above, and come to rest."""
    hold(pool)
    with one_waits(pool):
        with pytest.raises(TooManyRequests):
            pool.getconn()
        let_pass(WAITED)
    conn = pool.acquire(request=REQUEST)
    for _ in range(EXHAUSTED):
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=0.01)
    terminate(admin, pid(conn))
    began = monotonic()
    pool.release(conn, conn.hold)
    assert monotonic() - began < 5.0
    hold(pool)
    assert_at_rest(pool)

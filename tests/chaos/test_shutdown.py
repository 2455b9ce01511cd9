"""The end of a pool and the end of the process that has one."""

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool import ConnectionPool, PoolClosed
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests import scripting
from tests.observer import backends
from tests.proxy import Proxy
from tests.soundness import assert_at_rest
from tests.waiting import until

# Prints the time at the last line; what the interpreter does then is the exit.
SCRIPT = """
import contextlib, sys, threading, time
import psycopg2
from pgdbpool import ConnectionPool
pool = ConnectionPool(sys.argv[1], min_size=3, max_size=6)
{body}
print(time.time(), flush=True)
"""

EXITS = {
    "never used": "",
    "idle connections": "pool.wait()",
    "a connection in use": """
pool.wait()
conn = pool.getconn()
conn.cursor().execute("SELECT 1")
""",
    "a block that is left by the exit": """
pool.wait()
block = pool.connection()
block.__enter__().cursor().execute("SELECT 1")
""",
    "threads that query": """
def work():
    with contextlib.suppress(psycopg2.OperationalError):
        while True:
            with pool.connection() as conn:
                conn.cursor().execute("SELECT 1")
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
while pool.get_stats()["requests_num"] < 50:
    time.sleep(0.01)
""",
    "a thread in the middle of a long query": """
def work():
    with contextlib.suppress(psycopg2.OperationalError), pool.connection() as conn:
        conn.cursor().execute("SELECT pg_sleep(60)")
threading.Thread(target=work, daemon=True).start()
while not any(e.hold for e in list(pool._roster.endpoints[0].entries)):
    time.sleep(0.01)
""",
    "connects under way": "pool.open()",
    "a thread in the line": """
pool.resize(1, 1)
conn = pool.getconn()
def wait():
    with contextlib.suppress(psycopg2.OperationalError):
        pool.getconn(60)
threading.Thread(target=wait, daemon=True).start()
while not pool.get_stats()["requests_waiting"]:
    time.sleep(0.01)
""",
    "a drained and refilled pool": """
pool.wait()
pool.drain()
""",
}


def assert_quiet_exit(script: str, dsn: str) -> None:
    """Run a script; fail unless it ends at once and without a word."""
    done = scripting.run(script, dsn)
    ended = time.time()
    assert done.stderr == ""
    assert done.returncode == 0
    assert ended - float(done.stdout) < 1.0


@pytest.mark.parametrize("body", EXITS.values(), ids=EXITS)
def test_an_exit_with_an_open_pool_is_quick_and_leaves_no_session(
    dsn: str, admin: connection, application_name: str, body: str
) -> None:
    """Row 29: whatever the pool was doing, the process ends quietly."""
    assert_quiet_exit(SCRIPT.format(body=body), dsn)
    # A query is ended by the server's own check of its client, every 2 s.
    until(lambda: not backends(admin, application_name), 4.0)


def test_an_exit_does_not_wait_for_a_connect_into_a_black_hole(
    dsn: str, server: EmbeddedPostgres
) -> None:
    """Row 29: nor for connects that hang."""
    with Proxy(server.port) as proxy:
        proxy.silence()
        target = make_dsn(dsn, host=proxy.host, port=proxy.port)
        body = """
pool.open()
try:
    pool.getconn(0.2)
except Exception as error:
    assert "no connection within" in str(error), error
"""
        assert_quiet_exit(SCRIPT.format(body=body), target)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Give threads for what may block."""
    with ThreadPoolExecutor(16) as executor:
        yield executor


class Holders:
    """Threads that each hold a connection until told to go on."""

    def __init__(
        self, pool: ConnectionPool, executor: ThreadPoolExecutor, query: str
    ) -> None:
        self.may_go = threading.Event()
        self._pool = pool
        self._query = query
        self._all_hold = threading.Barrier(6)
        self.futures = [executor.submit(self._hold) for _ in range(5)]
        self._all_hold.wait(5.0)

    def _hold(self) -> int:
        with self._pool.connection() as conn, conn.cursor() as cur:
            self._all_hold.wait(5.0)
            cur.execute(self._query)
            self.may_go.wait(10.0)
            cur.execute("SELECT 1")
            value: int = cur.fetchone()[0]
            return value


def test_close_lets_five_in_flight_finish(
    dsn: str, executor: ThreadPoolExecutor
) -> None:
    """Row 29: holders go on with their work, commit, and close() waits for them."""
    pool = ConnectionPool(dsn, max_size=5)
    holders = Holders(pool, executor, "SELECT pg_sleep(0.1)")
    closing = executor.submit(pool.close, 10.0)
    until(lambda: pool.closed)
    assert not closing.done()
    holders.may_go.set()
    assert [future.result(5.0) for future in holders.futures] == [1] * 5
    closing.result(1.0)
    assert pool.get_stats()["pool_size"] == 0
    assert_at_rest(pool)


def test_close_aborts_what_is_blocked_after_its_timeout(
    dsn: str, admin: connection, application_name: str, executor: ThreadPoolExecutor
) -> None:
    """Row 29: a query that takes too long raises; close() returns in time."""
    pool = ConnectionPool(dsn, max_size=5)
    holders = Holders(pool, executor, "SELECT pg_sleep(60)")
    until(lambda: len(backends(admin, application_name)) == 5)
    began = time.monotonic()
    pool.close(0.3)
    assert time.monotonic() - began < 1.3
    for future in holders.futures:
        with pytest.raises(psycopg2.OperationalError):
            future.result(1.0)
    assert_at_rest(pool)


def test_what_the_closing_thread_holds_is_its_own_until_it_releases(dsn: str) -> None:
    """Row 29: close() does not wait for its own caller, and takes nothing from it."""
    pool = ConnectionPool(dsn)
    with pool.connection() as conn, conn.cursor() as cur:
        began = time.monotonic()
        pool.close(10.0)
        assert time.monotonic() - began < 5.0
        cur.execute("SELECT 1")
    assert conn.closed
    assert_at_rest(pool)


def test_close_twice_is_close_once(dsn: str, executor: ThreadPoolExecutor) -> None:
    """Row 29: also at the same time, also of a pool that was never used."""
    pool = ConnectionPool(dsn, min_size=2)
    pool.wait()
    for closing in [executor.submit(pool.close) for _ in range(8)]:
        closing.result(5.0)
    pool.close()
    assert_at_rest(pool)
    unused = ConnectionPool(dsn)
    unused.close()
    unused.close()
    assert unused.closed


def test_who_waits_or_comes_later_is_told_that_the_pool_is_closed(
    dsn: str, executor: ThreadPoolExecutor
) -> None:
    """Row 29: waiters are woken at once; newcomers are refused during the close."""
    pool = ConnectionPool(dsn, max_size=1)
    conn = pool.getconn()
    waiters = [executor.submit(pool.getconn, 60.0) for _ in range(4)]
    watcher = executor.submit(pool.wait, 60.0)
    until(lambda: pool.get_stats()["requests_waiting"] == 4)
    closing = executor.submit(pool.close, 10.0)
    for waiter in waiters:
        with pytest.raises(PoolClosed):
            waiter.result(1.0)
    with contextlib.suppress(PoolClosed):
        watcher.result(1.0)
    with pytest.raises(PoolClosed):
        pool.getconn()
    assert not closing.done()
    pool.putconn(conn)
    closing.result(1.0)
    assert_at_rest(pool)


def test_a_close_in_the_middle_of_a_storm_ends_it(
    dsn: str, admin: connection, application_name: str, executor: ThreadPoolExecutor
) -> None:
    """Row 29: every thread gets its connection or PoolClosed, and none is left."""

    def work() -> int:
        for count in range(100_000):
            try:
                with pool.connection() as conn, conn.cursor() as cur:
                    cur.execute("SELECT 1")
            except PoolClosed:
                return count
        return -1

    for _ in range(5):
        pool = ConnectionPool(dsn, max_size=4)
        futures = [executor.submit(work) for _ in range(12)]
        until(lambda pool=pool: pool.get_stats()["requests_queued"] > 20)
        pool.close(5.0)
        counts = [future.result(5.0) for future in futures]
        assert min(counts) >= 0
        assert sum(counts) > 0
        assert_at_rest(pool)
        until(lambda: not backends(admin, application_name), 2.0)


def test_a_pool_that_nobody_keeps_is_collected_with_its_sessions(
    dsn: str, admin: connection, application_name: str
) -> None:
    """Row 29: dropping the last reference needs no close()."""
    pool = ConnectionPool(dsn, min_size=3)
    pool.wait()
    held = [pool.getconn() for _ in range(3)]
    references = [weakref.ref(conn) for conn in held]
    for conn in held:
        pool.putconn(conn)
    assert len(backends(admin, application_name)) == 3
    del pool, held, conn
    try:
        until(lambda: gc.collect() >= 0 and not backends(admin, application_name), 1.0)
    finally:
        for reference in references:
            if (left := reference()) is not None:
                psycopg2.extensions.connection.close(left)

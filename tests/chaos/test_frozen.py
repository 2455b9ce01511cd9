"""Servers that are silent: a backend or a whole server halted, a black hole."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool, EndpointDown, PooledConnection
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.observer import backends, observe
from tests.proxy import Proxy
from tests.soundness import assert_at_rest
from tests.tls import server_context
from tests.waiting import until

PING = 0.4
# For a new connection, on a machine that is busy with other things.
SLACK = 0.8


@contextlib.contextmanager
def halted(pid: int) -> Iterator[None]:
    """Stop one process for the time of a block: its kernel still acknowledges."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def pool(dsn: str, server: EmbeddedPostgres) -> Iterator[ConnectionPool]:
    """Give a pool with three idle connections to the shared server."""
    dsn = make_dsn(dsn, port=server.port, host="127.0.0.1")
    with ConnectionPool(
        dsn, min_size=3, max_size=6, timeout=5.0, ping_timeout=PING
    ) as pool:
        pool.wait()
        yield pool


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Give threads for what may block."""
    with ThreadPoolExecutor(16) as executor:
        yield executor


def next_served(pool: ConnectionPool) -> PooledConnection:
    """Return the idle connection that the next acquire will get."""
    with pool.connection() as conn:
        return conn


def work(pool: ConnectionPool) -> int:
    """Make one transaction and return its backend."""
    with pool.connection() as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        pid: int = cur.fetchone()[0]
        return pid


def test_a_frozen_backend_costs_one_acquire_its_ping_timeout(
    pool: ConnectionPool, server: EmbeddedPostgres, application_name: str
) -> None:
    """Row 3: the caller gets another connection in time, the bad one is closed."""
    bad = next_served(pool)
    pid = bad.info.backend_pid
    with halted(pid):
        began = time.monotonic()
        assert work(pool) != pid
        assert time.monotonic() - began < PING + SLACK
        until(lambda: bad.closed, 1.0)
        began = time.monotonic()
        work(pool)
        assert time.monotonic() - began < PING
    assert pool.get_stats()["connections_lost"] == 1
    assert_at_rest(pool)
    size = pool.get_stats()["pool_size"]
    with observe(server.dsn()) as admin:
        until(lambda: len(backends(admin, application_name)) == size)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_black_hole_costs_one_acquire_its_ping_timeout(
    dsn: str, server: EmbeddedPostgres, executor: ThreadPoolExecutor, *, tls: bool
) -> None:
    """Row 3: swallowed packets are noticed by the ping's own deadline."""
    context = server_context() if tls else None
    with Proxy(server.port, tls=context) as proxy:
        target = make_dsn(
            dsn,
            host=proxy.host,
            port=proxy.port,
            sslmode="require" if tls else "disable",
        )
        with ConnectionPool(
            target, min_size=3, max_size=6, timeout=5.0, ping_timeout=PING
        ) as pool:
            pool.wait()
            bad = next_served(pool)
            proxy.silence()
            began = time.monotonic()
            future = executor.submit(work, pool)
            # From here on only the link that swallowed the ping is a black hole.
            until(lambda: any(link._is_silent for link in proxy._links))
            proxy.pass_through()
            assert future.result(10.0) > 0
            assert time.monotonic() - began < PING + SLACK
            until(lambda: bad.closed, 1.0)
            assert_at_rest(pool)


def test_a_frozen_server_costs_an_acquire_no_more_than_its_timeout(
    private_server: EmbeddedPostgres, executor: ThreadPoolExecutor
) -> None:
    """Row 3: all of many callers are refused in time, and served after the thaw."""
    with ConnectionPool(
        private_server.dsn(), min_size=2, max_size=4, timeout=1.0, ping_timeout=PING
    ) as pool:
        pool.wait()
        private_server.freeze()
        try:
            began = time.monotonic()
            futures = [executor.submit(work, pool) for _ in range(8)]
            for future in futures:
                with pytest.raises(EndpointDown, match=r"said .* s ago"):
                    future.result(10.0)
            assert time.monotonic() - began < 1.0 + SLACK
        finally:
            private_server.thaw()
        until(lambda: recovers(pool), 10.0)
        assert_at_rest(pool)


def recovers(pool: ConnectionPool) -> bool:
    """Return whether a transaction succeeds."""
    with contextlib.suppress(psycopg2.OperationalError):
        return work(pool) > 0
    return False


def test_a_first_connect_into_a_black_hole_ends_within_the_timeout(
    server: EmbeddedPostgres, dsn: str
) -> None:
    """Row 3: neither an acquire nor wait() depends on libpq's own timeout."""
    with Proxy(server.port) as proxy:
        proxy.silence()
        target = make_dsn(dsn, host=proxy.host, port=proxy.port)
        with ConnectionPool(target, timeout=0.5) as pool:
            for call in (pool.getconn, lambda: pool.wait(0.5)):
                began = time.monotonic()
                with pytest.raises(EndpointDown):
                    call()
                assert time.monotonic() - began < 0.5 + SLACK
        proxy.cut()  # so that the connects end before libpq gives them up


def test_a_release_to_a_frozen_backend_ends_and_holds_nobody_up(
    dsn: str, server: EmbeddedPostgres, executor: ThreadPoolExecutor
) -> None:
    """Row 3: the rollback has the ping's limit; others work on meanwhile."""
    dsn = make_dsn(dsn, host="127.0.0.1", port=server.port)
    with ConnectionPool(dsn, max_size=4, ping_timeout=1.5) as pool:
        conn = pool.getconn()
        conn.cursor().execute("SELECT 1")
        work(pool)
        with halted(conn.info.backend_pid):
            began = time.monotonic()
            release = executor.submit(pool.putconn, conn)
            for _ in range(10):
                work(pool)
                pool.get_stats()
                repr(pool)
            assert not release.done(), "the others were held up"
            release.result(10.0)
            assert time.monotonic() - began < 1.5 + SLACK
            until(lambda: conn.closed, 1.0)
        assert_at_rest(pool)


def test_drain_check_and_close_end_while_the_server_is_frozen(
    private_server: EmbeddedPostgres, executor: ThreadPoolExecutor
) -> None:
    """Row 3: none waits for the server, none holds the pool's lock meanwhile."""
    pool = ConnectionPool(
        private_server.dsn(), min_size=3, max_size=6, timeout=0.5, ping_timeout=PING
    )
    pool.open(wait=True)
    held = pool.getconn()
    held.cursor().execute("SELECT 1")
    private_server.freeze()
    try:
        assert seconds(executor.submit(pool.check)) < PING + SLACK
        assert seconds(executor.submit(pool.drain)) < SLACK
        release = executor.submit(pool.putconn, held)
        assert seconds(executor.submit(pool.get_stats)) < SLACK
        assert seconds(release) < PING + SLACK
        assert seconds(executor.submit(pool.close, 0.5)) < 0.5 + SLACK
    finally:
        private_server.thaw()
        pool.close()


def seconds(future: "Future[object]") -> float:
    """Return how long it takes from now until a call has ended."""
    began = time.monotonic()
    future.result(10.0)
    return time.monotonic() - began


def test_close_aborts_the_holders_of_a_frozen_server(
    private_server: EmbeddedPostgres, executor: ThreadPoolExecutor
) -> None:
    """Row 3: a query that would never end raises when close() has waited enough."""
    pool = ConnectionPool(private_server.dsn(), max_size=4, ping_timeout=PING)
    holding = threading.Barrier(4)

    def hold() -> None:
        with pool.connection() as conn, conn.cursor() as cur:
            holding.wait(5.0)
            frozen.wait(5.0)
            cur.execute("SELECT 1")

    frozen = threading.Event()
    holders = [executor.submit(hold) for _ in range(3)]
    holding.wait(5.0)
    private_server.freeze()
    try:
        frozen.set()
        began = time.monotonic()
        pool.close(timeout=0.5)
        assert time.monotonic() - began < 0.5 + SLACK
        for holder in holders:
            with pytest.raises(psycopg2.OperationalError):
                holder.result(PING + SLACK)
    finally:
        private_server.thaw()
    assert_at_rest(pool)


def test_a_commit_has_no_limit_and_holds_nobody_up(
    dsn: str, server: EmbeddedPostgres, executor: ThreadPoolExecutor, table: str
) -> None:
    """Row 3: a slow COMMIT is waited for, so that its outcome is known."""
    dsn = make_dsn(dsn, host="127.0.0.1", port=server.port)

    def insert() -> None:
        with pool.connection() as conn, conn.cursor() as cur:
            cur.execute(f"INSERT INTO {table} (note) VALUES ('slow')")
            pids.append(conn.info.backend_pid)
            inserted.set()
            frozen.wait(5.0)

    pids: list[int] = []
    inserted, frozen = threading.Event(), threading.Event()
    with ConnectionPool(dsn, max_size=4, timeout=2.0, ping_timeout=PING) as pool:
        commit = executor.submit(insert)
        assert inserted.wait(5.0)
        with halted(pids[0]):
            frozen.set()
            with pytest.raises(FutureTimeoutError):
                commit.result(2 * PING)
            for _ in range(5):
                assert work(pool) != pids[0]
        commit.result(5.0)
        assert_at_rest(pool)
    with observe(dsn) as admin, admin.cursor() as cur:
        cur.execute(f"SELECT note FROM {table}")
        assert cur.fetchall() == [("slow",)]

"""Each cause of a failed acquire has an error of its own, which says why."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.pool
import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import (
    AuthenticationFailed,
    ConnectionPool,
    EndpointDown,
    NestedCheckout,
    PoolClosed,
    PoolError,
    PoolExhausted,
    TooManyConnections,
    TooManyRequests,
)
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.soundness import assert_at_rest
from tests.waiting import until


@contextlib.contextmanager
def raises(kind: type[PoolError], *patterns: str) -> Iterator[None]:
    """Expect just this class, and each pattern in what it says."""
    with pytest.raises(PoolError) as caught:
        yield
    assert type(caught.value) is kind
    assert isinstance(caught.value, psycopg2.OperationalError)
    assert isinstance(caught.value, psycopg2.pool.PoolError)
    for pattern in patterns:
        assert re.search(pattern, str(caught.value)), (pattern, str(caught.value))
    caused = isinstance(caught.value, EndpointDown)
    assert isinstance(caught.value.__cause__, psycopg2.OperationalError) is caused


def serves(pool: ConnectionPool) -> bool:
    """Return whether a transaction succeeds."""
    with contextlib.suppress(PoolError), pool.connection() as conn:
        conn.cursor().execute("SELECT 1")
        return True
    return False


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password="right") as server:
        yield server


@pytest.fixture
def small_server() -> Iterator[EmbeddedPostgres]:
    """Give a server with room for three sessions."""
    settings = {
        "max_connections": 3,
        "superuser_reserved_connections": 0,
        "reserved_connections": 0,
        "max_wal_senders": 0,
    }
    with EmbeddedPostgres(settings=settings) as server:
        yield server


def test_exhaustion_names_the_oldest_hold(dsn: str) -> None:
    """Row 12: how long, how full, since when held, for which request, where from."""
    with ConnectionPool(dsn, max_size=2, name="orders") as pool:
        oldest = pool.acquire(request="GET /report")
        line = test_exhaustion_names_the_oldest_hold.__code__.co_firstlineno + 3
        other = pool.getconn()
        with raises(
            PoolExhausted,
            r"pool 'orders': no connection within 0\.2\d* s",
            r"2 of 2 in use",
            r"oldest, for \d+\.\d s: hold by GET /report",
            rf"chaos/test_errors\.py:{line}\b",
            r"Raise max_size",
        ):
            pool.getconn(timeout=0.2)
        assert oldest.hold is not None
        pool.release(oldest, oldest.hold)
        pool.putconn(other)
        assert serves(pool)
        assert_at_rest(pool)


def test_a_server_that_is_down_is_named_with_its_last_words(
    private_server: EmbeddedPostgres,
) -> None:
    """Row 12: who does not answer, since when; service resumes when it does."""
    with ConnectionPool(private_server.dsn(), timeout=0.6, name="shop") as pool:
        assert serves(pool)
        private_server.stop()
        expected = (
            r"pool 'shop': no connection (within|to be had at once)",
            r"0 of 20 in use",
            rf"127\.0\.0\.1:{private_server.port} said \d\.\d s ago",
            r"Connection refused",
            r"Check that the server runs",
        )
        with raises(EndpointDown, *expected):
            pool.getconn()
        # The grace, which is the timeout, is over now.
        until(lambda: refused_within(pool) < 0.1, 3.0)
        with raises(EndpointDown, *expected):
            pool.getconn()
        private_server.start()
        until(lambda: serves(pool), 5.0)
        assert_at_rest(pool)


def refused_within(pool: ConnectionPool) -> float:
    """Return how long a refusal takes."""
    began = time.monotonic()
    with pytest.raises(EndpointDown):
        pool.getconn()
    return time.monotonic() - began


def test_a_wrong_password_is_told_at_once(guarded_server: EmbeddedPostgres) -> None:
    """Row 12: a refused login is no outage: nobody waits for it to pass."""
    dsn = make_dsn(guarded_server.dsn(), password="wrong")
    with ConnectionPool(dsn, timeout=20.0) as pool:
        began = time.monotonic()
        with raises(
            AuthenticationFailed,
            r"password authentication failed for user \"postgres\"",
            rf"127\.0\.0\.1:{guarded_server.port}",
            r"Check user, password",
        ):
            pool.getconn()
        with raises(AuthenticationFailed):
            pool.wait(0.2)
        assert time.monotonic() - began < 10.0


def test_service_resumes_when_the_password_is_right(
    guarded_server: EmbeddedPostgres,
) -> None:
    """Row 12: the pool goes on trying, without being told."""
    admin = psycopg2.connect(guarded_server.dsn())
    admin.autocommit = True
    with contextlib.closing(admin), admin.cursor() as cur:
        cur.execute("CREATE ROLE clerk LOGIN PASSWORD 'old'")
        dsn = guarded_server.dsn(user="clerk", password="new")
        with ConnectionPool(dsn, timeout=5.0) as pool:
            with raises(AuthenticationFailed, "clerk"):
                pool.getconn()
            cur.execute("ALTER ROLE clerk PASSWORD 'new'")
            until(lambda: serves(pool), 5.0)
            assert_at_rest(pool)
        cur.execute("DROP ROLE clerk")


def test_a_role_that_does_not_exist_fails_authentication(
    server: EmbeddedPostgres,
) -> None:
    """Row 12: also where the server trusts everyone."""
    with (
        ConnectionPool(server.dsn(user="nobody"), timeout=5.0) as pool,
        raises(AuthenticationFailed, 'role "nobody" does not exist'),
    ):
        pool.getconn()


def test_a_database_that_does_not_exist_is_told_at_once(
    server: EmbeddedPostgres,
) -> None:
    """Row 12: it says which, and does not wait for the timeout."""
    began = time.monotonic()
    with (
        ConnectionPool(server.dsn("nowhere"), timeout=20.0) as pool,
        raises(EndpointDown, 'database "nowhere" does not exist'),
    ):
        pool.getconn()
    assert time.monotonic() - began < 10.0


def test_a_full_server_is_told_apart(small_server: EmbeddedPostgres) -> None:
    """Row 12: 53300 has a class of its own; service resumes when there is room."""
    others = [psycopg2.connect(small_server.dsn()) for _ in range(3)]
    with ConnectionPool(small_server.dsn(), timeout=20.0) as pool:
        with raises(
            TooManyConnections,
            r"too many clients|slots are reserved",
            r"Lower max_size",
        ):
            pool.getconn()
        for other in others:
            other.close()
        until(lambda: serves(pool), 5.0)
        assert_at_rest(pool)


def test_callers_behind_living_connections_wait_while_logins_are_refused(
    small_server: EmbeddedPostgres,
) -> None:
    """Row 12: 53300 costs nobody an error whom a release will serve."""
    others = [psycopg2.connect(small_server.dsn()) for _ in range(2)]
    with ConnectionPool(small_server.dsn(), max_size=8, timeout=10.0) as pool:
        pool.wait()
        contend(pool)
        for other in others:
            other.close()
        assert_at_rest(pool)


def test_a_crowd_at_the_first_use_is_content_with_the_connects_that_succeed(
    small_server: EmbeddedPostgres,
) -> None:
    """Row 12: a refused login refuses nobody while another connect is under way."""
    others = [psycopg2.connect(small_server.dsn()) for _ in range(2)]
    with ConnectionPool(small_server.dsn(), max_size=8, timeout=10.0) as pool:
        contend(pool)
        for other in others:
            other.close()
        assert_at_rest(pool)


def contend(pool: ConnectionPool) -> None:
    """Have more threads at work than the server has sessions for."""
    have_failed = threading.Event()

    def work() -> None:
        for _ in range(5):
            with pool.connection() as conn, conn.cursor() as cur:
                have_failed.wait(5.0)
                cur.execute("SELECT pg_sleep(0.005)")

    with ThreadPoolExecutor(6) as executor:
        futures = [executor.submit(work) for _ in range(6)]
        until(lambda: pool.get_stats()["connections_errors"] > 0, 5.0)
        have_failed.set()
        for future in futures:
            future.result(20.0)
    assert pool.get_stats()["requests_errors"] == 0


def test_callers_behind_living_connections_wait_while_connects_fail(
    private_server: EmbeddedPostgres,
) -> None:
    """Row 12: nor does it when no new connect gets through, beyond the grace."""
    failing = make_dsn(private_server.dsn(), connect_timeout=2)
    with ConnectionPool(failing, max_size=4, timeout=8.0, grace=0.2) as pool:
        conn = pool.getconn()
        (postmaster, *_) = private_server._processes()
        with ThreadPoolExecutor(2) as executor:
            postmaster.suspend()
            try:
                waiting = executor.submit(serves, pool)
                until(lambda: pool.get_stats()["connections_errors"] > 0, 6.0)
                assert not waiting.done()
                pool.putconn(conn)
                assert waiting.result(5.0)
                assert serves(pool)
            finally:
                postmaster.resume()
        until(lambda: serves(pool), 5.0)
        assert_at_rest(pool)


def test_a_closed_pool_says_so(dsn: str) -> None:
    """Row 12: whether it was closed, or not opened yet."""
    pool = ConnectionPool(dsn, name="shop", open=False)
    for call in (pool.getconn, pool.connection().__enter__, pool.wait):
        with raises(PoolClosed, "pool 'shop' is not open yet"):
            call()
    pool.open()
    assert serves(pool)
    pool.close()
    for call in (pool.getconn, pool.connection().__enter__, pool.wait, pool.open):
        with raises(PoolClosed, "pool 'shop' is closed"):
            call()


def test_a_full_line_is_told_at_once(dsn: str) -> None:
    """Row 12: how many wait already, and who has the connections."""
    with ConnectionPool(dsn, max_size=1, max_waiting=2, timeout=20.0) as pool:
        conn = pool.getconn()
        with ThreadPoolExecutor(2) as executor:
            waiting = [executor.submit(serves, pool) for _ in range(2)]
            until(lambda: pool.get_stats()["requests_waiting"] == 2)
            began = time.monotonic()
            with raises(
                TooManyRequests,
                r"2 callers wait already",
                r"1 of 1 in use, 2 waiting",
                r"chaos/test_errors\.py:\d+",
            ):
                pool.getconn()
            assert time.monotonic() - began < 5.0
            pool.putconn(conn)
            assert all(future.result(5.0) for future in waiting)
        assert serves(pool)
        assert_at_rest(pool)


def test_a_nested_checkout_names_both_places(dsn: str) -> None:
    """Row 12: where the first connection was acquired, and where the second is."""
    with ConnectionPool(dsn, max_size=1, timeout=20.0, name="shop") as pool:
        with (
            pool.connection(),
            raises(
                NestedCheckout,
                r"pool 'shop'",
                r"test_errors\.py:\d+.*test_errors\.py:\d+",
            ),
            pool.connection(),
        ):
            pass
        assert serves(pool)
        assert_at_rest(pool)


def test_the_drivers_own_errors_pass_through(dsn: str, table: str) -> None:
    """Row 44: what the application catches by class stays what it was."""
    insert = f"INSERT INTO {table} VALUES (1)"
    with ConnectionPool(dsn) as pool:
        for _ in range(2):
            with (
                contextlib.suppress(psycopg2.errors.UniqueViolation),
                pool.connection() as conn,
                conn.cursor() as cur,
            ):
                cur.execute(insert)
        with (
            pytest.raises(psycopg2.errors.UniqueViolation),
            pool.connection() as conn,
            conn.cursor() as cur,
        ):
            cur.execute(insert)
        assert_at_rest(pool)

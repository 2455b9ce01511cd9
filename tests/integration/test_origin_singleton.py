"""The defects of the singleton that this pool grew from, M1 to M14: none is here.

M3 to M6 were about the rotation of tokens; here `drain()` stands for it.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolClosed, PoolExhausted, TooManyConnections
from tests.asking import ask, held, pid
from tests.chaos.forking import Findings, fork
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of at most two connections, at rest in the end."""
    with ConnectionPool(dsn, max_size=2) as pool:
        pool.wait()
        yield pool
        assert_at_rest(pool)


@pytest.fixture
def deferred(admin: connection, table: str) -> str:
    """Give a table whose constraint is checked at the COMMIT only."""
    ask(admin, f"ALTER TABLE {table} ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    return table


def insert(conn: connection, table: str, note: str = "mine") -> None:
    """Store a note."""
    ask(conn, f"INSERT INTO {table} (note) VALUES (%s)", note)


def fail_to_commit(pool: ConnectionPool, table: str) -> None:
    """Have a block end well whose COMMIT does not."""
    with pytest.raises(sqlstate.UniqueViolation):
        held(pool, *[lambda conn: insert(conn, table)] * 2)


def until_served(pool: ConnectionPool, holds: int) -> None:
    """Wait until so many more have acquired."""
    enough = pool.get_stats()["requests_num"] + holds
    until(lambda: pool.get_stats()["requests_num"] > enough)


def test_m1_a_failing_commit_raises_out_of_the_block(
    pool: ConnectionPool, admin: connection, deferred: str
) -> None:
    """The driver's own error, and nothing is committed."""
    fail_to_commit(pool, deferred)
    assert ask(admin, f"SELECT count(*) FROM {deferred}") == 0


def test_m2_failed_commits_leave_the_capacity(
    pool: ConnectionPool, deferred: str
) -> None:
    """Ten of them, and both connections are there, none was replaced."""
    for _ in range(10):
        fail_to_commit(pool, deferred)
    with pool.connection() as one, pool.connection() as two:
        assert ask(one, "SELECT 1") == ask(two, "SELECT 1") == 1
    assert pool.get_stats()["connections_num"] == 2


def test_m3_a_transaction_that_is_open_during_a_rotation_commits(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """What is in use lives until its release, and goes then."""
    with pool.connection() as conn:
        old = pid(conn)
        insert(conn, table, "before")
        pool.drain()
        insert(conn, table, "after")
    assert ask(admin, f"SELECT count(*) FROM {table}") == 2
    with pool.connection() as conn:
        assert pid(conn) != old


def test_m4_many_rotations_at_once_open_no_more_than_there_is_room_for(
    dsn: str, admin: connection, application_name: str
) -> None:
    """Five threads drain together; no herd of connections comes of it."""
    with ConnectionPool(dsn, min_size=2, max_size=4) as pool:
        pool.wait()
        barrier = threading.Barrier(5)

        def rotate() -> int:
            barrier.wait(5.0)
            pool.drain()
            return len(backends(admin, application_name))

        with ThreadPoolExecutor(5) as executor:
            futures = [executor.submit(rotate) for _ in range(5)]
        assert max(future.result() for future in futures) <= 2 * 4
        assert_at_rest(pool)
        assert pool.get_stats()["connections_num"] <= 2 + 5 * 2


def test_m5_a_load_during_twenty_rotations_sees_no_error(dsn: str) -> None:
    """Four threads on two connections; every hold is served and commits."""
    is_over = threading.Event()

    def load() -> int:
        holds = 0
        while not is_over.is_set():
            with pool.connection() as conn:
                assert ask(conn, "SELECT 1") == 1
            holds += 1
        return holds

    with ConnectionPool(dsn, max_size=2) as pool:
        with ThreadPoolExecutor(4) as executor:
            futures = [executor.submit(load) for _ in range(4)]
            try:
                for _ in range(20):
                    pool.drain()
                    until_served(pool, 20)
            finally:
                is_over.set()
        assert all(future.result() for future in futures)
        assert_at_rest(pool)
        assert pool.get_stats()["requests_errors"] == 0
        assert pool.get_stats()["connections_num"] >= 20
        assert pool.get_stats()["requests_queued"] > 0


@pytest.mark.direct("logs in by a role of its own, PgBouncer as one for all")
def test_m6_a_full_server_is_no_reason_to_log_in_anew(
    dsn: str, admin: connection
) -> None:
    """TooManyConnections for who finds nothing; the holder's connection lives."""
    role = f"limited_{os.urandom(4).hex()}"
    ask(admin, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    try:
        with ConnectionPool(dsn, kwargs={"user": role}, timeout=0.3) as pool:
            with pool.connection() as conn:
                backend = pid(conn)
                with pytest.raises((TooManyConnections, PoolExhausted)) as caught:
                    pool.getconn()
                assert "too many connections" in str(caught.value)
                assert ask(conn, "SELECT 1") == 1
            with pool.connection() as conn:
                assert pid(conn) == backend
    finally:
        until(
            lambda: (
                not ask(
                    admin,
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = %s",
                    role,
                )
            )
        )
        ask(admin, f"DROP ROLE {role}")


def test_m7_nested_blocks_release_what_they_acquired(pool: ConnectionPool) -> None:
    """The inner one and the outer one, each its own; also on other threads."""
    with pool.connection() as outer:
        with pool.connection() as inner:
            assert pid(inner) != pid(outer)
        assert pool.get_stats()["pool_available"] == 1
        assert ask(outer, "SELECT 1") == 1
    assert pool.get_stats()["pool_available"] == 2
    with ThreadPoolExecutor(1) as executor:
        block = pool.connection()
        executor.submit(block.__enter__).result()
        block.__exit__(None, None, None)
    assert pool.get_stats()["pool_available"] == 2


def test_m8_a_full_pool_makes_wait(pool: ConnectionPool) -> None:
    """Who is released in time serves; who is not costs the timeout, not less."""
    with ThreadPoolExecutor(1) as executor, pool.connection():
        conn = pool.getconn()
        began = time.monotonic()
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=0.1)
        assert time.monotonic() - began >= 0.1
        waiter = executor.submit(pool.getconn)
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        pool.putconn(conn)
        pool.putconn(waiter.result(2.0))


def test_m9_a_steady_load_opens_a_connection_a_thread_at_most(dsn: str) -> None:
    """Two hundred holds by four threads, of twenty connections that could be."""

    def hold(_: int) -> int:
        with pool.connection() as conn:
            ask(conn, "SELECT 1")
            return pid(conn)

    with ConnectionPool(dsn, max_size=20) as pool:
        with ThreadPoolExecutor(4) as executor:
            used = set(executor.map(hold, range(200)))
        assert_at_rest(pool)
        assert pool.get_stats()["connections_num"] <= 4
        assert len(used) <= 4


@pytest.mark.direct("goes by a session's number on the server")
def test_m10_after_all_sessions_are_killed_every_acquire_succeeds(
    dsn: str, admin: connection
) -> None:
    """Not one stale connection is handed out."""
    with ConnectionPool(dsn, min_size=5, max_size=5) as pool:
        pool.wait()
        conns = [pool.getconn() for _ in range(5)]
        dead = {pid(conn) for conn in conns}
        for conn in conns:
            pool.putconn(conn)
        for backend in dead:  # the pool may have heard of the first and closed it
            ask(admin, "SELECT pg_terminate_backend(%s, 5000)", backend)
        for _ in range(20):
            with pool.connection() as conn:
                assert ask(conn, "SELECT 1") == 1
                assert pid(conn) not in dead
        assert_at_rest(pool)


def test_m11_an_error_of_the_application_keeps_the_session(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """Rolled back, and used again."""
    backend = held(pool)
    with pytest.raises(ZeroDivisionError):
        held(pool, lambda conn: insert(conn, table), lambda _: 1 / 0)
    assert held(pool) == backend
    assert ask(admin, f"SELECT count(*) FROM {table}") == 0


def test_m12_closing_waits_for_who_holds_and_is_for_good(
    dsn: str, admin: connection, table: str
) -> None:
    """The holder on another thread commits; nobody acquires any more."""
    pool = ConnectionPool(dsn, max_size=1)
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.connection() as conn:
            insert(conn, table)
            is_held.set()
            assert may_end.wait(5.0)

    with ThreadPoolExecutor(2) as executor:
        holder = executor.submit(hold)
        assert is_held.wait(5.0)
        closing = executor.submit(pool.close, 5.0)
        until(lambda: pool.closed)
        assert not wait([closing], 0.05).done
        may_end.set()
        holder.result(2.0)
        closing.result(2.0)
    assert ask(admin, f"SELECT count(*) FROM {table}") == 1
    with pytest.raises(PoolClosed), pool.connection():
        pass


def test_m12_closing_ends_at_its_deadline_whoever_holds(dsn: str) -> None:
    """A query of another thread is cut off; its thread gets the driver's error."""
    pool = ConnectionPool(dsn, max_size=1)
    is_held = threading.Event()

    def hold() -> None:
        with pool.connection() as conn:
            is_held.set()
            ask(conn, "SELECT pg_sleep(1)")

    with ThreadPoolExecutor(1) as executor:
        holder = executor.submit(hold)
        assert is_held.wait(5.0)
        began = time.monotonic()
        pool.close(timeout=0.1)
        with pytest.raises(psycopg2.OperationalError):
            holder.result(5.0)
        assert time.monotonic() - began < 0.9


@pytest.mark.direct("goes by a session's number on the server")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_m13_a_forked_child_uses_a_session_of_its_own(
    pool: ConnectionPool,
) -> None:
    """And the parent's lives."""
    with pool.connection() as conn:
        mine = pid(conn)

    def child() -> Findings:
        found = {"pid": held(pool)}
        pool.close()
        return found

    theirs = fork(child)()
    assert theirs["pid"] != mine
    with pool.connection() as conn:
        assert ask(conn, "SELECT pg_backend_pid()") == mine


def test_m14_a_release_waits_for_no_connect(dsn: str) -> None:
    """While one hangs, release takes no 50 ms, and it serves who waits."""
    may_connect = threading.Event()
    may_connect.set()

    def configure(_: connection) -> None:
        assert may_connect.wait(10.0)

    with (
        ConnectionPool(dsn, max_size=2, configure=configure) as pool,
        ThreadPoolExecutor(1) as executor,
    ):
        conn = pool.getconn()
        may_connect.clear()
        waiter = executor.submit(pool.getconn)
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        began = time.monotonic()
        pool.putconn(conn)
        assert time.monotonic() - began < 0.05
        assert waiter.result(1.0) is conn
        may_connect.set()
        pool.putconn(conn)
        assert_at_rest(pool)

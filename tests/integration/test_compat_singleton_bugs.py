"""M1 to M14: defects of the singleton, none of which is here."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import connection

from pgdbpool import (
    PoolExhausted,
)
from pgdbpool.compat.singleton import PostgresqlConnection
from tests.asking import ask, pid
from tests.integration.singletons import (  # noqa: F401 - fixtures
    count,
    fail,
    fail_to_commit,
    given_db,
    given_deferred,
    given_environ,
    held,
    insert,
    served,
)
from tests.proxy import Proxy
from tests.soundness import assert_at_rest
from tests.waiting import until

pytestmark = pytest.mark.direct("goes by variables, and sets options in its DSN")


def test_m1_a_failing_commit_raises_out_of_the_block(
    db: PostgresqlConnection, admin: connection, deferred: str
) -> None:
    """M1: the driver's own error, and nothing is committed."""
    fail_to_commit(db, deferred)
    assert count(admin, deferred) == 0


def test_m1_a_block_that_swallowed_an_error_does_not_end_as_if_all_were_well(
    db: PostgresqlConnection, admin: connection, table: str
) -> None:
    """M1: its COMMIT would be a rollback without a word."""

    def swallow(conn: connection) -> None:
        with pytest.raises(sqlstate.SyntaxError):
            ask(conn, "nonsense")

    with pytest.raises(sqlstate.InFailedSqlTransaction):
        held(db, lambda conn: insert(conn, table), swallow)
    assert count(admin, table) == 0


def test_m2_failed_commits_leave_the_capacity(
    monkeypatch: pytest.MonkeyPatch, deferred: str
) -> None:
    """M2: ten of them, and both connections are there."""
    monkeypatch.setenv("DB_MAX_CONN", "2")
    db = PostgresqlConnection()
    for _ in range(10):
        fail_to_commit(db, deferred)
    with db as one, db as two:
        assert ask(one, "SELECT 1") == ask(two, "SELECT 1") == 1
    assert_at_rest(db.pool)


def test_m7_nested_blocks_release_each_its_own(
    db: PostgresqlConnection, admin: connection, table: str
) -> None:
    """M7: the inner one and the outer one of one thread, in two transactions."""
    with db as outer:
        insert(outer, table, "outer")
        inner: list[int] = []
        with pytest.raises(ZeroDivisionError):
            held(
                db,
                lambda conn: inner.append(pid(conn)),
                lambda conn: insert(conn, table, "inner"),
                lambda _: 1 / 0,
            )
        assert inner != [pid(outer)]
        assert count(admin, table) == 0
        assert ask(outer, "SELECT 1") == 1
    assert ask(admin, f"SELECT note FROM {table}") == "outer"


def test_m7_a_block_that_is_left_in_another_thread_releases_its_own(
    db: PostgresqlConnection,
) -> None:
    """M7: a generator that was begun here and ends there, while both hold another."""

    def stream() -> Iterator[int]:
        with db as conn:
            yield pid(conn)
            yield int(ask(conn, "SELECT pg_backend_pid()"))

    def finish() -> int:
        with db as conn:
            (rest,) = streamed
            assert ask(conn, "SELECT 1") == 1
            return int(rest)

    streamed = stream()
    with ThreadPoolExecutor(1) as executor:
        began = next(streamed)
        with db as mine:
            backend = pid(mine)
            assert executor.submit(finish).result(5.0) == began
            assert ask(mine, "SELECT pg_backend_pid()") == backend != began


def test_m7_an_exit_that_no_with_calls_is_the_threads_newest(
    db: PostgresqlConnection,
) -> None:
    """M7: as of an ExitStack; or the only one there is, whichever thread entered."""
    with ExitStack() as stack:
        one = pid(stack.enter_context(db))
        two = stack.enter_context(db)
        stack.callback(lambda: ask(two, "SELECT 1"))
        assert one != pid(two)
    assert_at_rest(db.pool)
    with ThreadPoolExecutor(1) as executor:
        executor.submit(db.__enter__).result(5.0)
    db.__exit__(None, None, None)


def test_m7_stacks_of_many_threads_release_each_their_own(
    db: PostgresqlConnection,
) -> None:
    """M7: although none of their exits stands where its enter did."""

    def work() -> int:
        for _ in range(50):
            with ExitStack() as stack:
                conn = stack.enter_context(db)
                backend = pid(conn)
                assert ask(conn, "SELECT pg_backend_pid()") == backend
            assert conn.hold is None or conn.hold.thread != threading.get_ident()
        return 50

    with ThreadPoolExecutor(8) as executor:
        done = [executor.submit(work) for _ in range(8)]
        assert sum(future.result(20.0) for future in done) == 8 * 50
    assert db._open == []


def test_m7_an_exit_that_could_be_anybodys_is_refused(
    db: PostgresqlConnection,
) -> None:
    """M7: two other threads hold one each, and keep it."""
    held, may_end = threading.Barrier(3), threading.Event()

    def hold() -> int:
        with db as conn:
            held.wait(5.0)
            assert may_end.wait(5.0)
            return int(ask(conn, "SELECT 1"))

    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(hold) for _ in range(2)]
        held.wait(5.0)
        with pytest.raises(RuntimeError, match="2 blocks are open"):
            db.__exit__(None, None, None)
        may_end.set()
        assert [future.result() for future in futures] == [1, 1]


def test_m8_a_full_pool_makes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """M8: who is released in time serves; who is not costs the timeout, not less."""
    monkeypatch.setenv("DB_MAX_CONN", "1")
    monkeypatch.setenv("PGDBPOOL_TIMEOUT", "0.2")
    db = PostgresqlConnection()
    db.pool.wait()
    with ThreadPoolExecutor(1) as executor:
        with db:
            began = time.monotonic()
            with pytest.raises(PoolExhausted):
                executor.submit(served, db).result(5.0)
            assert time.monotonic() - began >= 0.2
        with ExitStack() as stack:
            stack.enter_context(db)
            waiter = executor.submit(served, db)
            until(lambda: db.pool.get_stats()["requests_waiting"] == 1)
            stack.close()
            assert waiter.result(5.0)
    assert_at_rest(db.pool)


def test_m9_a_steady_load_opens_a_connection_a_thread_at_most(
    db: PostgresqlConnection,
) -> None:
    """M9: two hundred blocks of four threads, of twenty connections that could be."""
    with ThreadPoolExecutor(4) as executor:
        used = set(executor.map(lambda _: served(db), range(200)))
    assert len(used) <= 4
    assert db.pool.get_stats()["connections_num"] <= 4


def test_m10_after_all_sessions_are_killed_every_block_succeeds(
    db: PostgresqlConnection, admin: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M10: not one stale connection is handed out."""
    monkeypatch.setenv("DB_MIN_CONN", "5")
    db.pool.wait()
    with ExitStack() as stack:
        dead = {pid(stack.enter_context(db)) for _ in range(5)}
    for backend in dead:  # the pool may have heard of the first and closed it
        ask(admin, "SELECT pg_terminate_backend(%s, 5000)", backend)
    assert not dead & {served(db) for _ in range(20)}


def test_m11_an_error_of_the_application_keeps_the_session(
    db: PostgresqlConnection, admin: connection, table: str
) -> None:
    """M11: rolled back, and used again; the exception is passed on unchanged."""
    error = ValueError("of the application")
    backend = served(db)
    with pytest.raises(ValueError, match="of the application") as caught:
        held(db, lambda conn: insert(conn, table), lambda _: fail(error))
    assert caught.value is error
    assert served(db) == backend
    assert count(admin, table) == 0


def test_m14_a_release_waits_for_no_connect(
    monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """M14: while one hangs in a silent network, an exit takes no 50 ms."""
    with Proxy(int(os.environ["DB_PORT"])) as proxy, ThreadPoolExecutor(1) as executor:
        monkeypatch.setenv("DB_PORT", str(proxy.port))
        db = PostgresqlConnection()
        with ExitStack() as stack:
            stack.enter_context(db)
            accepted = proxy.accepted
            proxy.silence()
            waiter = executor.submit(db.pool.getconn)
            until(lambda: proxy.accepted > accepted)
            # The link that is open is silent too; only the connect is to hang.
            proxy.pass_through()
            began = time.monotonic()
            stack.close()
            assert time.monotonic() - began < 0.05
        db.pool.putconn(waiter.result(5.0))
        PostgresqlConnection.close_all()
        proxy.cut()
    assert dsn

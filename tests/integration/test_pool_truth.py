"""Nothing is lost without a word, whatever way it was done."""

from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2.extensions import connection

from pgdbpool import AuthenticationFailed, ConnectionPool, PooledConnection, PoolTimeout
from tests.asking import ask, held, pid
from tests.soundness import assert_at_rest


def insert(conn: connection, table: str) -> None:
    """Write a row."""
    conn.cursor().execute(f"INSERT INTO {table} (note) VALUES ('mine')")


def count(admin: connection, table: str) -> int:
    """Return how many rows were committed."""
    return int(ask(admin, f"SELECT count(*) FROM {table}"))


def test_a_copy_left_half_done_is_no_success(
    dsn: str, admin: connection, table: str
) -> None:
    """The server would answer its COMMIT by a rollback, and psycopg2 say nothing."""

    def leave_half_done(conn: connection) -> None:
        insert(conn, table)
        with pytest.raises(psycopg2.ProgrammingError):
            conn.cursor().execute(f"COPY {table} FROM STDIN")

    with ConnectionPool(dsn) as pool:
        with pytest.raises(psycopg2.ProgrammingError, match="unfinished"):
            held(pool, leave_half_done)
        assert count(admin, table) == 0
        assert_at_rest(pool)


def test_what_a_cursor_made_by_hand_wrote_is_committed(
    dsn: str, admin: connection, table: str
) -> None:
    """psycopg2.extensions.cursor(conn) is documented, and passes conn.cursor() by."""
    with ConnectionPool(dsn) as pool:
        with pool.connection() as conn:
            driver.cursor(conn).execute(f"INSERT INTO {table} (note) VALUES ('x')")
        assert count(admin, table) == 1


def test_a_block_keeps_its_connection_whatever_putconn_is_told(
    dsn: str, admin: connection, table: str
) -> None:
    """Else its end would find nothing to commit, and the work be gone."""
    with ConnectionPool(dsn) as pool:
        with pool.connection() as conn:
            insert(conn, table)
            with pytest.raises(ValueError, match="block"):
                pool.putconn(conn)
        assert count(admin, table) == 1
        assert_at_rest(pool)


@pytest.mark.direct("SETs a session by SQL of its own")
def test_a_read_only_default_set_in_the_hold_is_heeded(dsn: str, table: str) -> None:
    """As on a bare connection: the ping's READ WRITE does not overrule it."""
    with ConnectionPool(dsn) as pool, pool.connection() as conn:
        ask(conn, "SET default_transaction_read_only = on")
        conn.commit()
        with pytest.raises(sqlstate.ReadOnlySqlTransaction):
            insert(conn, table)
        conn.rollback()


def test_two_phase_recovery_may_come_first(dsn: str) -> None:
    """It needs a session outside any transaction, and finds one."""
    with ConnectionPool(dsn) as pool, pool.connection() as conn:
        assert isinstance(conn.tpc_recover(), list)
    with ConnectionPool(dsn) as pool, pool.connection() as conn:
        with pytest.raises(psycopg2.Error) as caught:
            conn.tpc_rollback("no such transaction")
        assert "outside a transaction" not in str(caught.value)


def test_two_phase_calls_are_refused_after_the_release(dsn: str) -> None:
    """Nobody may touch the socket of an idle connection."""
    with ConnectionPool(dsn) as pool:
        conn = pool.getconn()
        pool.putconn(conn)
        for call in (conn.tpc_recover, lambda: conn.tpc_rollback("x")):
            with pytest.raises(psycopg2.InterfaceError):
                call()


@pytest.mark.direct("SETs a session by SQL of its own")
def test_a_factory_may_use_its_connection_at_once(dsn: str) -> None:
    """In its constructor, as psycopg2 lets it."""

    class Prepared(connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - psycopg2's
            super().__init__(*args, **kwargs)
            self.autocommit = True
            self.cursor().execute("SET search_path = public")
            self.autocommit = False

    factory = {"connection_factory": Prepared}
    with ConnectionPool(dsn, kwargs=factory) as pool, pool.connection(5.0) as conn:
        assert ask(conn, "SHOW search_path") == "public"


@pytest.mark.direct("SETs a session by SQL of its own")
def test_a_hooks_sql_error_is_no_refused_login(dsn: str) -> None:
    """Though its text may be the same."""

    def configure(conn: PooledConnection) -> None:
        conn.cursor().execute("SET ROLE nobody_of_this_name")

    with ConnectionPool(dsn, configure=configure, timeout=0.5) as pool:
        with pytest.raises(PoolTimeout) as caught:
            pool.getconn()
        assert not isinstance(caught.value, AuthenticationFailed)


def test_a_check_hook_may_close_one_connection_and_no_more(dsn: str) -> None:
    """It is that one which is unfit, not its whole generation."""
    unfit: set[int] = set()

    def check(conn: PooledConnection) -> None:
        if pid(conn) in unfit:
            conn.close()
            raise ValueError("unfit")

    with ConnectionPool(dsn, min_size=3, max_size=3, check=check) as pool:
        pool.wait()
        with pool.connection() as conn:
            unfit.add(pid(conn))
        with pool.connection() as conn:
            assert pid(conn) not in unfit
        assert pool._roster.endpoints[0].generation == 0


@pytest.mark.direct("logs in by a role of its own, PgBouncer as one for all")
def test_living_sessions_do_not_abolish_the_pauses_between_refused_logins(
    dsn: str, admin: connection
) -> None:
    """Pings that succeed say nothing of new logins: they are tried now and then."""
    admin.cursor().execute("DROP ROLE IF EXISTS few")
    admin.cursor().execute("CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    few = driver.make_dsn(dsn, user="few")
    with ConnectionPool(few, min_size=0, max_size=9, timeout=0.05) as pool:
        mine = [pool.getconn(5.0), pool.getconn(5.0)]
        for _ in range(20):
            pool.putconn(mine.pop())
            mine.append(pool.getconn(5.0))
            with pytest.raises(PoolTimeout):
                pool.getconn()
        for conn in mine:
            pool.putconn(conn)
        assert 0 < pool.get_stats()["connections_errors"] <= 10

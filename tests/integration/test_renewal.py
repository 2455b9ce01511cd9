"""Where somebody waits, a block's COMMIT brings the ping of the next hold along."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2.extensions import connection, make_dsn

from pgdbpool import CommitUnknown, ConnectionPool, PoolTimeout
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import LOGGED, Heard, ask, held, pid
from tests.soundness import assert_at_rest
from tests.waiting import until

RENEWED = "COMMIT; BEGIN READ WRITE"

Work = Callable[[Any], object]


@pytest.fixture
def logged(dsn: str, server: EmbeddedPostgres) -> str:
    """Give a DSN whose sessions' statements the server writes down."""
    return make_dsn(dsn, host="127.0.0.1", port=server.port, options=LOGGED)


@pytest.fixture
def pool(logged: str) -> Iterator[ConnectionPool]:
    """Give a pool of one connection, at rest in the end."""
    with ConnectionPool(logged, max_size=1) as pool:
        pool.wait()
        yield pool
        assert_at_rest(pool)


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Give a second thread."""
    with ThreadPoolExecutor(1) as other:
        yield other


@pytest.fixture
def slow_commit(admin: connection, table: str) -> str:
    """Make the table's COMMIT take half a second; rows of 'no' it refuses."""
    ask(
        admin,
        f"CREATE FUNCTION {table}_slow() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN PERFORM pg_sleep(0.5);"
        " IF NEW.note = 'no' THEN RAISE unique_violation; END IF;"
        " RETURN NULL; END $$;"
        f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {table}"
        f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {table}_slow()",
    )
    return table


def waits(pool: ConnectionPool) -> None:
    """Wait until somebody waits."""
    until(lambda: pool.get_stats()["requests_waiting"] == 1)


def insert(table: str, note: str = "mine") -> Work:
    """Return what stores a row."""
    return lambda conn: ask(conn, f"INSERT INTO {table} (note) VALUES (%s)", note)


def select(conn: connection) -> None:
    """Use the connection."""
    assert ask(conn, "SELECT 1") == 1


def followed(
    pool: ConnectionPool, other: ThreadPoolExecutor, first: Work, second: Work
) -> tuple[int, int]:
    """Let one block work while another waits; return the backends of both."""
    with pool.connection() as conn:
        served = other.submit(held, pool, second)
        waits(pool)
        first(conn)
        backend = pid(conn)
    return backend, served.result(10)


@pytest.mark.direct("COMMIT goes alone behind a transaction pooler")
def test_a_commit_brings_the_ping_of_the_first_in_line(
    pool: ConnectionPool, other: ThreadPoolExecutor, server: EmbeddedPostgres
) -> None:
    """Two transactions take one round trip less, and each has its BEGIN."""
    heard = Heard(server)
    backend, next_backend = followed(pool, other, select, select)
    assert backend == next_backend
    statements = ["BEGIN READ WRITE", "SELECT 1", RENEWED, "SELECT 1", "COMMIT"]
    assert until(lambda: heard.of(backend)[-5:] == statements)


def test_the_two_transactions_are_apart(
    pool: ConnectionPool, other: ThreadPoolExecutor, admin: connection, table: str
) -> None:
    """What the first committed is there, what the second undid is not."""

    def insert_and_undo(conn: connection) -> None:
        assert ask(conn, f"SELECT count(*) FROM {table}") == 1
        insert(table, "undone")(conn)
        conn.rollback()

    followed(pool, other, insert(table), insert_and_undo)
    assert ask(admin, f"SELECT string_agg(note, ',') FROM {table}") == "mine"


def test_the_next_holder_finds_a_fresh_connection(
    pool: ConnectionPool, other: ThreadPoolExecutor
) -> None:
    """Also one whose first act needs a session outside any transaction."""

    def change(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
        assert conn.is_pristine
        assert not conn.in_transaction
        conn.autocommit = True
        select(conn)
        assert conn.get_transaction_status() == driver.TRANSACTION_STATUS_IDLE

    followed(pool, other, select, change)


def serializable_from_now(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
    """Change a setting that BEGIN would repeat."""
    conn.isolation_level = driver.ISOLATION_LEVEL_SERIALIZABLE
    select(conn)


def serializable_in_sql(conn: connection) -> None:
    """Change the transaction's isolation, by a statement."""
    ask(conn, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")


def leaves_a_cursor_open(conn: connection) -> None:
    """Leave a cursor behind that lives on the server."""
    cur = conn.cursor("left")
    cur.execute("SELECT 1")
    KEPT.append(cur)


KEPT: list[object] = []


@pytest.mark.parametrize(
    "leaves", [serializable_from_now, serializable_in_sql, leaves_a_cursor_open]
)
def test_nothing_of_a_transaction_reaches_the_next(
    pool: ConnectionPool, other: ThreadPoolExecutor, leaves: Work
) -> None:
    """Isolation and cursors end with the hold they belong to."""
    found = []

    def look(conn: connection) -> None:
        found.append(ask(conn, "SHOW transaction_isolation"))
        found.append(ask(conn, "SELECT count(*) FROM pg_cursors"))

    followed(pool, other, leaves, look)
    KEPT.clear()
    assert found == ["read committed", 0]


class Careful(driver.connection):
    """A user's class with a commit of its own."""

    commits = 0

    def commit(self) -> None:
        """Count, and commit."""
        type(self).commits += 1
        super().commit()


def serializable(conn: connection) -> None:
    """Make every transaction serializable, as a configure hook."""
    conn.isolation_level = driver.ISOLATION_LEVEL_SERIALIZABLE


CHECKED: list[object] = []

KEPT_APART: dict[str, dict[str, Any]] = {
    "autocommit": {"autocommit": True},
    "check": {"check": CHECKED.append},
    "configure": {"configure": serializable},
    "connection_factory": {"kwargs": {"connection_factory": Careful}},
    "reset": {"reset": "session"},
}


@pytest.mark.direct("goes by a session's number on the server")
@pytest.mark.parametrize("name", KEPT_APART)
def test_what_comes_between_two_holds_is_not_left_out(
    logged: str, other: ThreadPoolExecutor, server: EmbeddedPostgres, name: str
) -> None:
    """A reset, a check, a commit of the user's own, another BEGIN: COMMIT is alone."""
    heard = Heard(server)
    with ConnectionPool(logged, max_size=1, **KEPT_APART[name]) as pool:
        backend, _ = followed(pool, other, select, select)
        until(lambda: heard.of(backend).count("SELECT 1") == 2)
    assert RENEWED not in heard.of(backend)


def test_a_commit_that_is_refused_says_so(
    pool: ConnectionPool,
    other: ThreadPoolExecutor,
    admin: connection,
    slow_commit: str,
) -> None:
    """The error is the server's, and the next holder's transactions are whole."""

    def insert_and_undo(conn: connection) -> None:
        insert(slow_commit, "undone")(conn)
        conn.rollback()

    with pytest.raises(sqlstate.UniqueViolation), pool.connection() as conn:  # noqa: PT012 - a block ends
        served = other.submit(held, pool, insert_and_undo)
        waits(pool)
        insert(slow_commit, "no")(conn)
        backend = pid(conn)
    assert served.result(10) == backend
    assert ask(admin, f"SELECT count(*) FROM {slow_commit}") == 0


@pytest.mark.direct("goes by a session's number on the server")
def test_a_commit_that_is_cancelled_is_unknown(
    pool: ConnectionPool,
    other: ThreadPoolExecutor,
    admin: connection,
    slow_commit: str,
) -> None:
    """It cannot be told whether COMMIT was hit, or the BEGIN after it."""

    def cancel(backend: int) -> None:
        until(
            lambda: ask(
                admin,
                "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s",
                backend,
            )
        )
        ask(admin, "SELECT pg_cancel_backend(%s)", backend)

    failing = pytest.raises(CommitUnknown, match="broke off COMMIT")
    with failing, pool.connection() as conn:
        served = other.submit(held, pool, select)
        waits(pool)
        insert(slow_commit)(conn)
        backend = pid(conn)
        threading.Thread(target=cancel, args=(backend,)).start()
    assert served.result(10) == backend


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_killed_in_its_commit_is_unknown(
    pool: ConnectionPool,
    other: ThreadPoolExecutor,
    admin: connection,
    slow_commit: str,
) -> None:
    """Who waits is served by a new session."""
    served: list[Future[int]] = []

    def kill(backend: int) -> None:
        until(
            lambda: ask(
                admin,
                "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s",
                backend,
            )
        )
        ask(admin, "SELECT pg_terminate_backend(%s)", backend)

    failing = pytest.raises(CommitUnknown, match="lost while COMMIT")
    with failing, pool.connection() as conn:
        served.append(other.submit(held, pool, select))
        waits(pool)
        insert(slow_commit)(conn)
        backend = pid(conn)
        threading.Thread(target=kill, args=(backend,)).start()
    assert served[0].result(10) != backend


@pytest.mark.direct("COMMIT goes alone behind a transaction pooler")
def test_begun_for_nobody_it_is_ended(
    pool: ConnectionPool,
    other: ThreadPoolExecutor,
    admin: connection,
    slow_commit: str,
    server: EmbeddedPostgres,
) -> None:
    """Whoever waited gave up meanwhile: the session is not left in a transaction."""

    def give_up() -> None:
        with pytest.raises(PoolTimeout), pool.connection(timeout=0.2):
            pass

    heard = Heard(server)
    with pool.connection() as conn:
        gone = other.submit(give_up)
        waits(pool)
        insert(slow_commit)(conn)
        backend = pid(conn)
    gone.result(10)
    until(lambda: heard.of(backend)[-2:] == [RENEWED, "ROLLBACK"])
    state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
    assert ask(admin, state, backend) == "idle"
    assert held(pool, select) == backend


def test_a_ping_is_for_one_hold(
    pool: ConnectionPool, other: ThreadPoolExecutor
) -> None:
    """Whoever else gets the connection has a ping of its own."""
    followed(pool, other, select, select)
    with pool.connection() as conn:
        mine = conn.hold
    conn.pinged_for = mine
    with pool.connection() as again:
        assert again is conn
        assert again.get_transaction_status() == driver.TRANSACTION_STATUS_INTRANS


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_lost_before_the_commit_committed_nothing(
    pool: ConnectionPool, other: ThreadPoolExecutor, admin: connection
) -> None:
    """The look before COMMIT comes first, here as well."""
    failing = pytest.raises(psycopg2.OperationalError, match="before COMMIT")
    with failing, pool.connection() as conn:
        served = other.submit(held, pool, select)
        waits(pool)
        select(conn)
        backend = pid(conn)
        ask(admin, "SELECT pg_terminate_backend(%s, 5000)", backend)
    assert served.result(10) != backend

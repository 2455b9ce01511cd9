"""One transaction a request, as the server itself sees it."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2 import extras, sql
from psycopg2.extensions import connection, make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.errors import CommitUnknown, ConnectionReleased
from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.proxy import ConnectionProxy
from pgdbpool.wsgi.rules import Environ, StartResponse
from tests.observer import Backend, backends, observe
from tests.proxy import Proxy
from tests.waiting import until
from tests.webtesting import TestApp

Handler = Callable[[ConnectionProxy], object]
TEXT = [("Content-Type", "text/plain")]


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of one connection."""
    with ConnectionPool(dsn, max_size=1, timeout=5.0) as pool:
        yield pool


def serving(
    pool: ConnectionPool, handler: Handler, status: str = "200 OK", **settings: object
) -> TestApp:
    """Return a client of an app that lets ``handler`` use the connection."""

    def app(environ: Environ, start: StartResponse) -> list[bytes]:
        answer = handler(environ["pgdbpool.conn"])
        start(status, TEXT)
        return [str(answer).encode()]

    return TestApp(PoolMiddleware(app, pool, **settings))


def notes(admin: connection, table: str) -> list[str]:
    """Return what has been committed."""
    with admin.cursor() as cur:
        cur.execute(f"SELECT note FROM {table} ORDER BY id")
        return [note for (note,) in cur.fetchall()]


def insert(conn: ConnectionProxy, table: str, note: str = "mine") -> None:
    """Store a note."""
    with conn.cursor() as cur:
        cur.execute(f"INSERT INTO {table} (note) VALUES (%s)", (note,))


def insert_and_fail(conn: ConnectionProxy, table: str) -> None:
    """Store a note, and try to store what cannot be."""
    insert(conn, table, "undone")
    conn.cursor().execute(f"INSERT INTO {table} (id) VALUES (NULL)")


def kill(admin: connection, conn: ConnectionProxy) -> None:
    """Terminate the session of a connection, from outside."""
    pid = conn.info.backend_pid
    with admin.cursor() as cur:
        cur.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_a_request_is_committed_and_its_session_serves_the_next(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """Two requests, two committed transactions, one session."""
    client = serving(pool, lambda conn: (insert(conn, table), conn.info.backend_pid)[1])
    assert client.get("/").text == client.get("/").text
    assert notes(admin, table) == ["mine", "mine"]


def test_a_failed_request_leaves_nothing(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """Neither a row nor an open transaction."""
    client = serving(pool, lambda conn: insert(conn, table), "500 Oops")
    client.get("/", status=500)
    assert notes(admin, table) == []
    (backend,) = backends(admin, pool_name(pool))
    assert backend.state == "idle"


def pool_name(pool: ConnectionPool) -> str:
    """Return the application_name of the pool's sessions."""
    params = driver.parse_dsn(pool.settings.conninfo)
    return str(params["application_name"])


def test_a_deferred_constraint_turns_the_success_into_the_error(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """COMMIT fails, the client sees no 200, the pool loses nothing (M1, M2, D5)."""
    with admin.cursor() as cur:
        cur.execute(
            f"ALTER TABLE {table} ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED"
        )

    def twice(conn: ConnectionProxy) -> None:
        insert(conn, table)
        insert(conn, table)

    client = serving(pool, twice)
    for _ in range(3):
        with pytest.raises(sqlstate.UniqueViolation):
            client.get("/")
    assert notes(admin, table) == []
    assert pool.get_stats()["pool_available"] == 1


def test_a_swallowed_sql_error_cannot_be_a_success(pool: ConnectionPool) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK there; we answer with the error."""

    def swallow(conn: ConnectionProxy) -> None:
        with pytest.raises(sqlstate.DivisionByZero), conn.cursor() as cur:
            cur.execute("SELECT 1 / 0")

    with pytest.raises(sqlstate.InFailedSqlTransaction):
        serving(pool, swallow).get("/")
    assert serving(pool, swallow, "409 Conflict").get("/", status=409)


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_killed_in_the_middle_is_answered_503(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """And the next request is served by another one."""

    def use(conn: ConnectionProxy) -> None:
        insert(conn, table)
        kill(admin, conn)
        insert(conn, table)

    answer = serving(pool, use).post("/", status=503)
    assert answer.headers["Retry-After"] == "1"
    assert notes(admin, table) == []
    serving(pool, lambda conn: insert(conn, table)).post("/", status=200)
    assert notes(admin, table) == ["mine"]


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_killed_before_the_commit_is_answered_503(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """The handler saw nothing of it; the commit does, before it is sent."""

    def use(conn: ConnectionProxy) -> None:
        insert(conn, table)
        kill(admin, conn)

    serving(pool, use).post("/", status=503)
    assert notes(admin, table) == []


@pytest.mark.parametrize("arrives", [True, False])
def test_a_commit_that_is_cut_off_is_no_503_for_a_post(
    server: EmbeddedPostgres, *, arrives: bool
) -> None:
    """Whether it arrived or not, nobody here can tell (row 40); a GET may repeat."""
    table = f"cut_off_{arrives}"
    with (
        observe(server.dsn()) as admin,
        Proxy(server.port) as proxy,
        ConnectionPool(make_dsn(server.dsn(), port=proxy.port), max_size=1) as pool,
    ):
        admin.cursor().execute(f"CREATE TABLE {table} (id serial, note text)")

        def use(conn: ConnectionProxy) -> None:
            insert(conn, table)
            (proxy.cut_after if arrives else proxy.cut_before)(b"COMMIT")

        client = serving(pool, use)
        with pytest.raises(CommitUnknown) as caught:
            client.post("/")
        assert isinstance(caught.value.__cause__, psycopg2.Error)
        client.get("/", status=503)
        assert len(notes(admin, table)) == 2 * arrives


def test_a_row_of_a_kept_cursor_cannot_be_read_after_the_request(
    pool: ConnectionPool,
) -> None:
    """The cursor is closed, the proxy is over (row 31)."""
    kept: list[Any] = []

    def keep(conn: ConnectionProxy) -> None:
        cur = conn.cursor()
        cur.execute("SELECT generate_series(1, 3)")
        kept.extend((conn, cur))

    serving(pool, keep).get("/")
    with pytest.raises(psycopg2.InterfaceError):
        kept[1].fetchone()
    with pytest.raises(ConnectionReleased, match="GET /"):
        kept[0].cursor()


def test_the_first_act_may_change_the_session(pool: ConnectionPool) -> None:
    """As on a fresh psycopg2 connection, and the next request sees none of it."""

    def change(conn: ConnectionProxy) -> str:
        conn.set_session(isolation_level="SERIALIZABLE", readonly=True)
        with conn.cursor() as cur:
            cur.execute("SHOW transaction_isolation")
            return str(cur.fetchone()[0])

    def look(conn: ConnectionProxy) -> str:
        with conn.cursor() as cur:
            cur.execute("SHOW transaction_isolation")
            return f"{cur.fetchone()[0]} {conn.readonly}"

    assert serving(pool, change).get("/").text == "serializable"
    assert serving(pool, look).get("/").text == "read committed None"


def test_autocommit_commits_each_statement(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """What was done before the exception stays done."""

    def use(conn: ConnectionProxy) -> None:
        conn.autocommit = True
        insert(conn, table)
        raise KeyError

    with pytest.raises(KeyError):
        serving(pool, use).get("/")
    assert notes(admin, table) == ["mine"]


def test_psycopg2s_helpers_work(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """Those for cursors as they are, those for connections with the real one."""

    def use(conn: ConnectionProxy) -> str:
        with conn.cursor(cursor_factory=extras.RealDictCursor) as cur:
            rows = [("a",), ("b",)]
            extras.execute_values(cur, f"INSERT INTO {table} (note) VALUES %s", rows)
            cur.execute(f"SELECT count(*) FROM {table}")
            assert cur.fetchone() == {"count": 2}
        extras.register_uuid(conn_or_curs=conn.dbapi_connection)
        assert driver.quote_ident('"', conn.dbapi_connection) == '""""'
        return sql.Identifier(table).as_string(conn.dbapi_connection)

    assert serving(pool, use).get("/").text == f'"{table}"'
    assert notes(admin, table) == ["a", "b"]


def test_psycopg2s_block_is_a_transaction(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """Also in autocommit, where it opens one."""

    def use(conn: ConnectionProxy) -> None:
        conn.autocommit = True
        with pytest.raises(sqlstate.NotNullViolation), conn:
            insert_and_fail(conn, table)
        with conn:
            insert(conn, table, "done")
        with conn:
            pass

    serving(pool, use).get("/")
    assert notes(admin, table) == ["done"]


def test_release_makes_room_for_another_request(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """In a pool of one, two requests can take turns (row 6)."""
    inner = serving(pool, lambda conn: insert(conn, table, "inner"))

    def use(conn: ConnectionProxy) -> None:
        insert(conn, table, "first")
        conn.commit()
        conn.release()
        inner.get("/")
        insert(conn, table, "last")

    serving(pool, use).get("/")
    assert notes(admin, table) == ["first", "inner", "last"]


def test_release_is_free_while_only_the_ping_was_sent(pool: ConnectionPool) -> None:
    """An eager connection that nobody used can be released at once."""
    client = serving(pool, lambda conn: conn.release(), eager=True)
    client.get("/", status=200)


def test_many_requests_without_the_database_take_no_connection(
    pool: ConnectionPool,
) -> None:
    """They do not even open one (row 6)."""
    client = serving(pool, lambda _: "ok")
    for _ in range(100):
        client.get("/", status=200)
    assert pool.get_stats().get("requests_num", 0) == 0


def are_idle(backends: list[Backend]) -> bool:
    """Whether no session is in a query or transaction; a closed one ends soon."""
    return all(backend.state == "idle" for backend in backends)


def _named_cursor(conn: ConnectionProxy) -> None:
    cur = conn.cursor("rows")
    cur.execute("SELECT generate_series(1, 10000)")
    cur.fetchone()


def _copy_cut_short(conn: ConnectionProxy) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError("disk full")

    with conn.cursor() as cur:
        cur.copy_expert("COPY (SELECT generate_series(1, 10000)) TO STDOUT", Full())


def _select(conn: ConnectionProxy) -> None:
    with conn.cursor() as cur:
        cur.execute("SELECT 1")


def _fail(conn: ConnectionProxy) -> None:
    _select(conn)
    raise KeyError


def _syntax_error(conn: ConnectionProxy) -> None:
    with conn.cursor() as cur:
        cur.execute("SELECT FROM FROM")


def _close(conn: ConnectionProxy) -> None:
    _select(conn)
    conn.close()


@pytest.mark.parametrize("transaction", ["request", "manual"])
def test_whatever_a_handler_does_no_session_is_left_in_a_transaction(
    pool: ConnectionPool, admin: connection, transaction: str
) -> None:
    """Raise, 500, early return, named cursor, COPY cut short (row 7)."""
    misdeeds = (_named_cursor, _copy_cut_short, _select, _fail, _syntax_error, _close)
    for handler in random.choices(misdeeds, k=120):
        status = random.choice(["200 OK", "500 Oops"])
        client = serving(pool, handler, status, transaction=transaction)
        with contextlib.suppress(psycopg2.Error, KeyError, OSError):
            client.get("/", expect_errors=True)
        until(lambda: are_idle(backends(admin, pool_name(pool))), message=str(handler))
    assert pool.get_stats()["requests_waiting"] == 0

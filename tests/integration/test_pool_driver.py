"""All of psycopg2 works on a pooled connection, and its errors stay its own."""

import decimal
import uuid
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2 import extras, sql
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PooledConnection, SettingsError
from tests.asking import ask, held, pid


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of one connection."""
    with ConnectionPool(dsn, max_size=1) as pool:
        yield pool


@pytest.fixture
def conn(pool: ConnectionPool) -> Iterator[PooledConnection]:
    """Give a held connection."""
    with pool.connection() as conn:
        yield conn


def test_it_is_a_connection_of_psycopg2(conn: PooledConnection) -> None:
    """To `isinstance`, and its cursors are psycopg2's too."""
    assert isinstance(conn, PooledConnection)
    assert isinstance(conn, driver.connection)
    assert isinstance(conn.cursor(), driver.cursor)


def test_types_can_be_registered(conn: PooledConnection) -> None:
    """register_type, register_uuid and the JSON functions."""
    price = driver.new_type((1700,), "PRICE", lambda text, _: f"{text!s} EUR")
    driver.register_type(price, conn)
    extras.register_uuid(conn_or_curs=conn)
    extras.register_default_jsonb(conn, loads=lambda text: ("json", text))
    token = uuid.uuid4()
    assert ask(conn, "SELECT 1.50") == "1.50 EUR"
    assert ask(conn, "SELECT %s::uuid", str(token)) == token
    assert ask(conn, "SELECT '1'::jsonb") == ("json", "1")


def test_registered_types_end_with_the_hold(pool: ConnectionPool) -> None:
    """The next one gets psycopg2's own."""
    with pool.connection() as conn:
        price = driver.new_type((1700,), "PRICE", lambda text, _: f"{text!s} EUR")
        driver.register_type(price, conn)
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1.50") == decimal.Decimal("1.50")


def test_names_can_be_quoted(conn: PooledConnection) -> None:
    """quote_ident and sql.Composable take it."""
    assert driver.quote_ident('a"b', conn) == '"a""b"'
    query = sql.SQL("SELECT {} AS {}").format(sql.Literal("x'y"), sql.Identifier("A"))
    assert query.as_string(conn) == """SELECT 'x''y' AS "A\""""
    with conn.cursor() as cur:
        cur.execute(query)
        assert cur.fetchone() == ("x'y",)


def test_many_rows_can_be_stored_at_once(table: str, conn: PooledConnection) -> None:
    """execute_values and execute_batch."""
    with conn.cursor() as cur:
        insert = f"INSERT INTO {table} (note) VALUES"
        extras.execute_values(cur, f"{insert} %s", [("a",), ("b",)])
        extras.execute_batch(cur, f"{insert} (%s)", [("c",), ("d",)])
        assert ask(conn, f"SELECT count(*) FROM {table}") == 4


def test_a_range_of_rows_can_be_fetched_by_a_named_cursor(
    conn: PooledConnection,
) -> None:
    """In the transaction that the ping began."""
    with conn.cursor("rows") as cur:
        cur.execute("SELECT generate_series(1, 5)")
        assert cur.fetchmany(2) == [(1,), (2,)]


def test_a_large_object_can_be_written(conn: PooledConnection) -> None:
    """lobject() is the holder's as well as the ping's."""
    large = conn.lobject(0, "wb")
    large.write(b"much")
    large.seek(0)
    assert conn.lobject(large.oid, "rb").read() == b"much"
    large.unlink()


class Named(driver.connection):
    """A user's own connection."""

    title = "mine"


def test_the_users_connection_class_is_honoured(dsn: str) -> None:
    """The pool's connections are of both classes."""
    kwargs = {"connection_factory": Named}
    with ConnectionPool(dsn, kwargs=kwargs) as pool, pool.connection() as conn:
        assert isinstance(conn, Named)
        assert isinstance(conn, PooledConnection)
        assert conn.title == "mine"
        assert ask(conn, "SELECT 1") == 1


@pytest.mark.parametrize("key", ["connection_factory", "cursor_factory"])
def test_the_users_row_class_is_honoured(dsn: str, key: str) -> None:
    """Rows are what psycopg2 makes of them with the same argument."""
    factory = {
        "connection_factory": extras.RealDictConnection,
        "cursor_factory": extras.RealDictCursor,
    }[key]
    kwargs = {key: factory}
    with ConnectionPool(dsn, kwargs=kwargs) as pool:
        for _ in range(2):
            with pool.connection() as conn, conn.cursor() as cur:
                cur.execute("SELECT 7 AS figure")
                assert cur.fetchone() == {"figure": 7}


@pytest.mark.parametrize("key", ["connection_factory", "cursor_factory"])
def test_a_factory_of_another_kind_is_refused(key: str) -> None:
    """SettingsError names it, before any connect."""
    with pytest.raises(SettingsError, match=key):
        ConnectionPool(kwargs={key: dict})


def test_the_drivers_errors_pass_through_untouched(
    pool: ConnectionPool, table: str
) -> None:
    """Failure mode 44: a UniqueViolation is psycopg2's, with its diagnosis."""
    insert = f"INSERT INTO {table} (id) VALUES (1)"
    with pytest.raises(sqlstate.UniqueViolation) as caught:
        held(pool, *[lambda conn: ask(conn, insert)] * 2)
    assert type(caught.value) is sqlstate.UniqueViolation
    assert caught.value.pgcode == "23505"
    assert caught.value.diag.table_name == table
    assert caught.value.__cause__ is None


def test_a_cancelled_statement_keeps_its_session(pool: ConnectionPool) -> None:
    """Failure mode 44: 57014 is an OperationalError of a session that is well."""
    backend = held(pool)
    with pytest.raises(sqlstate.QueryCanceled):
        held(
            pool,
            lambda conn: ask(conn, "SET LOCAL statement_timeout = '10ms'"),
            lambda conn: ask(conn, "SELECT pg_sleep(10)"),
        )
    assert held(pool) == backend


def test_a_pool_error_is_an_error_of_psycopg2(pool: ConnectionPool) -> None:
    """Who catches OperationalError or psycopg2.pool.PoolError catches it."""
    with pool.connection():
        with pytest.raises(psycopg2.OperationalError):
            pool.getconn(timeout=0)
        with pytest.raises(psycopg2.pool.PoolError):
            pool.getconn(timeout=0)


def test_a_two_phase_transaction_can_be_made(
    pool: ConnectionPool, admin: connection
) -> None:
    """tpc_begin and tpc_rollback, and the session serves on."""
    with pool.connection() as conn:
        conn.tpc_begin(conn.xid(1, "global", "branch"))
        assert ask(conn, "SELECT 1") == 1
        conn.tpc_rollback()
        backend = pid(conn)
    with pool.connection() as conn:
        assert pid(conn) == backend
    assert ask(admin, "SELECT count(*) FROM pg_prepared_xacts") == 0


def test_a_factory_with_slots_of_its_own_is_refused(dsn: str) -> None:
    """Python cannot combine it with ours, and that is said before any connect."""

    class Slotted(connection):
        __slots__ = ("tenant",)

    with pytest.raises(SettingsError, match="connection_factory"):
        ConnectionPool(dsn, kwargs={"connection_factory": Slotted})


def test_nothing_can_be_pinned_on_a_connection(dsn: str) -> None:
    """As with psycopg2, so that it does not reach the next holder."""
    with (
        ConnectionPool(dsn) as pool,
        pool.connection() as conn,
        pytest.raises(AttributeError),
    ):
        conn.tenant = 5  # type: ignore[attr-defined]

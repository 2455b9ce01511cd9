"""What the ping sends, and that nobody notices it."""

import contextlib
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from psycopg2 import extensions as driver
from psycopg2.extensions import connection, make_dsn

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import LOGGED, Heard, ask, pid, terminate
from tests.observer import backends
from tests.waiting import until

READ_ONLY = f"{LOGGED} -c default_transaction_read_only=on"


@pytest.fixture
def logged(dsn: str, server: EmbeddedPostgres) -> str:
    """Give a DSN of the embedded server, which writes down what it hears."""
    return make_dsn(dsn, host="127.0.0.1", port=server.port, options=LOGGED)


@pytest.fixture
def pool(logged: str) -> Iterator[ConnectionPool]:
    """Give a pool of one connection that was used before."""
    with ConnectionPool(logged, max_size=1) as pool:
        pool.wait()
        yield pool


def heard_of_a_hold(server: EmbeddedPostgres, pool: ConnectionPool) -> list[str]:
    """Return what the server hears of a hold with one query."""
    pool.wait()
    heard = Heard(server)
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1
        backend = pid(conn)
    return heard.of(backend)


@pytest.mark.direct("expects the ping of a direct pool")
def test_the_ping_is_the_begin_that_was_due_anyway(
    server: EmbeddedPostgres, pool: ConnectionPool
) -> None:
    """Three statements, as with no ping at all; READ WRITE proves the role."""
    expected = ["BEGIN READ WRITE", "SELECT 1", "COMMIT"]
    assert heard_of_a_hold(server, pool) == expected
    assert heard_of_a_hold(server, pool) == expected


def read_only(conn: connection) -> None:
    """Choose the access mode."""
    conn.readonly = True


def read_write(conn: connection) -> None:
    """Choose the access mode."""
    conn.readonly = False


def serializable(conn: connection) -> None:
    """Choose the isolation level."""
    conn.isolation_level = driver.ISOLATION_LEVEL_SERIALIZABLE


@pytest.mark.direct("expects the ping of a direct pool")
@pytest.mark.parametrize(
    ("options", "configure", "begin"),
    [
        (READ_ONLY, None, "BEGIN"),
        (READ_ONLY, read_write, "BEGIN READ WRITE"),
        (LOGGED, read_only, "BEGIN READ ONLY"),
        (LOGGED, serializable, "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"),
    ],
)
def test_the_ping_overrides_no_access_mode(
    server: EmbeddedPostgres,
    logged: str,
    options: str,
    configure: Callable[[connection], None] | None,
    begin: str,
) -> None:
    """READ WRITE is said only where nobody said anything."""
    dsn = make_dsn(logged, options=options)
    with ConnectionPool(dsn, configure=configure) as pool:
        assert heard_of_a_hold(server, pool) == [begin, "SELECT 1", "COMMIT"]


@pytest.mark.direct("goes by a session's number on the server")
def test_in_autocommit_the_ping_is_one_statement(
    server: EmbeddedPostgres, logged: str
) -> None:
    """One that also tells the role; no transaction around it."""
    with ConnectionPool(logged, autocommit=True) as pool:
        heard = heard_of_a_hold(server, pool)
    assert heard == ["SELECT pg_is_in_recovery()", "SELECT 1"]


def test_a_hold_without_a_statement_leaves_no_transaction(
    pool: ConnectionPool, admin: connection, application_name: str
) -> None:
    """Failure mode 7: also the ping's own."""
    with pool.connection() as conn:
        assert not conn.in_transaction
    (backend,) = backends(admin, application_name)
    assert backend.state == "idle"


def autocommit(conn: connection) -> None:
    """Switch."""
    conn.autocommit = True


def deferrable(conn: connection) -> None:
    """Set one of three."""
    conn.deferrable = True


def session(conn: connection) -> None:
    """Set all at once."""
    conn.set_session("REPEATABLE READ", readonly=True)


def old_isolation_level(conn: connection) -> None:
    """Set by number."""
    conn.set_isolation_level(driver.ISOLATION_LEVEL_REPEATABLE_READ)


def encoding(conn: connection) -> None:
    """Change what text is sent in."""
    conn.set_client_encoding("LATIN1")


def reset(conn: connection) -> None:
    """Return to the defaults."""
    conn.reset()


def two_phases(conn: connection) -> None:
    """Begin what can be prepared."""
    conn.tpc_begin(conn.xid(1, "global", "branch"))


FIRST_ACTS = [
    autocommit,
    deferrable,
    encoding,
    old_isolation_level,
    read_only,
    reset,
    serializable,
    session,
    two_phases,
]


@pytest.mark.direct("expects the ping of a direct pool")
@pytest.mark.parametrize("act", FIRST_ACTS)
def test_a_first_act_works_as_on_a_fresh_connection(
    server: EmbeddedPostgres,
    pool: ConnectionPool,
    logged: str,
    act: Callable[[connection], None],
) -> None:
    """The ping's transaction is undone, and then the server hears the same."""
    heard = Heard(server)
    with (
        contextlib.closing(psycopg2.connect(logged)) as plain,
        pool.connection() as conn,
    ):
        for each in (plain, conn):
            act(each)
            assert ask(each, "SELECT 1") == 1
        assert state(conn) == state(plain)
        begin, undo, *rest = heard.of(pid(conn))
        assert [begin, undo] == ["BEGIN READ WRITE", "ROLLBACK"]
        assert rest == heard.of(pid(plain))
        if act is two_phases:
            conn.tpc_rollback()


def state(conn: connection) -> tuple[object, ...]:
    """Return what psycopg2 knows of a connection's settings."""
    return (
        conn.autocommit,
        conn.isolation_level,
        conn.readonly,
        conn.deferrable,
        conn.encoding,
        conn.status,
        conn.get_transaction_status(),
    )


def test_nothing_of_the_ping_shows(pool: ConnectionPool) -> None:
    """The access mode is the user's: none."""
    with pool.connection() as conn:
        assert conn.readonly is None


@pytest.mark.direct("goes by a session's number on the server")
def test_what_was_used_lately_is_not_pinged(
    server: EmbeddedPostgres, logged: str
) -> None:
    """ping_idle: the hold's own statements are all (failure mode 28)."""
    with ConnectionPool(logged, max_size=1, ping_idle=60.0) as pool:
        pool.wait()
        heard = Heard(server)
        with pool.connection() as conn:
            backend = pid(conn)
        assert heard.of(backend) == []
        with pool.connection() as conn:
            ask(conn, "SELECT 1")
        assert heard.of(backend)[1:] == ["SELECT 1", "COMMIT"]


@pytest.mark.direct("expects the ping of a direct pool")
def test_what_was_not_used_lately_is_pinged(
    server: EmbeddedPostgres, logged: str
) -> None:
    """ping_idle=0 is the default, and zero means zero."""
    with ConnectionPool(logged, max_size=1, ping_idle=0.0) as pool:
        assert len(heard_of_a_hold(server, pool)) == 3
        heard = Heard(server)
        with pool.connection() as conn:
            pass
        assert heard.of(pid(conn)) == ["BEGIN READ WRITE", "COMMIT"]


@pytest.mark.direct("goes by a session's number on the server")
@pytest.mark.parametrize("ping_idle", [0.0, 60.0])
def test_a_terminated_session_is_served_to_nobody(
    logged: str, admin: connection, ping_idle: float
) -> None:
    """Failure mode 28: pinged or not, the caller gets one that lives."""
    with ConnectionPool(logged, max_size=1, ping_idle=ping_idle) as pool:
        for count in range(1, 6):
            with pool.connection() as conn:
                dead = pid(conn)
            terminate(admin, dead)
            if ping_idle:  # what is not asked must have been heard of
                until(lambda n=count: pool.get_stats()["connections_lost"] == n)
            with pool.connection() as conn:
                assert pid(conn) != dead
                assert ask(conn, "SELECT 1") == 1


@pytest.mark.direct("SETs a session by SQL of its own")
def test_a_notification_costs_no_connection(logged: str, admin: connection) -> None:
    """An idle session that has something to say is asked, and kept."""
    with ConnectionPool(logged, max_size=1, ping_idle=60.0) as pool:
        with pool.connection() as conn:
            backend = pid(conn)
            ask(conn, "LISTEN news")
        ask(admin, "NOTIFY news")
        for _ in range(2):
            with pool.connection() as conn:
                assert pid(conn) == backend
                assert ask(conn, "SELECT 1") == 1

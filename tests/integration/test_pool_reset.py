"""What a hold leaves in its session, and what each reset policy undoes of it.

Failure mode 8.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pytest
from psycopg2 import extensions as driver
from psycopg2.extensions import connection, make_dsn

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import LOGGED, Heard, ask, held, pid

pytestmark = pytest.mark.direct("is about what stays in a session")


class Kind(NamedTuple):
    """Something a session can be left with, and how to see it."""

    leave: str
    look: str


KINDS = {
    "a setting": Kind("SET statement_timeout = '7s'", "SHOW statement_timeout"),
    "a setting of the application": Kind(
        "SET app.tenant = '7'",
        "SELECT coalesce(current_setting('app.tenant', true), '')",
    ),
    "the search path": Kind("SET search_path = pg_catalog", "SHOW search_path"),
    "a default of transactions": Kind(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW default_transaction_isolation",
    ),
    "a role": Kind("SET ROLE pg_monitor", "SELECT current_user"),
    "an authorization": Kind(
        "SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user"
    ),
    "a temporary table": Kind(
        "CREATE TEMP TABLE leftover (id int)",
        "SELECT to_regclass('pg_temp.leftover')::text",
    ),
    "an advisory lock": Kind(
        "SELECT pg_advisory_lock(7)",
        "SELECT count(*) FROM pg_locks "
        "WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "a subscription": Kind(
        "LISTEN news", "SELECT count(*) FROM pg_listening_channels()"
    ),
    "a cursor with hold": Kind(
        "DECLARE leftover CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    ),
}


def discard_all(conn: connection) -> None:
    """Reset as a user might."""
    conn.autocommit = True
    ask(conn, "DISCARD ALL")


def leave_and_look(pool: ConnectionPool, kind: Kind) -> tuple[Any, Any, Any]:
    """Return what is seen in a fresh session, by who left it, by the next holder."""
    with pool.connection() as conn:
        fresh = ask(conn, kind.look)
        ask(conn, kind.leave)
        conn.commit()
        left = ask(conn, kind.look)
    with pool.connection() as after:
        assert after is conn
        return fresh, left, ask(after, kind.look)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reset", ["session", discard_all])
def test_the_next_holder_finds_a_fresh_session(
    dsn: str, kind: str, reset: Literal["session"] | Callable[[connection], None]
) -> None:
    """With the policy "session", and with a function that does the same."""
    with ConnectionPool(dsn, max_size=1, reset=reset) as pool:
        fresh, left, after = leave_and_look(pool, KINDS[kind])
    assert left != fresh
    assert after == fresh


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_committed_stays_by_default(dsn: str, kind: str) -> None:
    """The policy "rollback" undoes the transaction, not the session: as documented."""
    with ConnectionPool(dsn, max_size=1) as pool:
        fresh, left, after = leave_and_look(pool, KINDS[kind])
    assert after == left != fresh


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"an advisory lock"}))
def test_what_was_not_committed_is_undone_by_default(dsn: str, kind: str) -> None:
    """It is part of the transaction, but for the advisory lock."""
    with ConnectionPool(dsn, max_size=1) as pool:
        with pool.connection() as conn:
            fresh = ask(conn, KINDS[kind].look)
        with pytest.raises(ZeroDivisionError):
            held(pool, lambda conn: ask(conn, KINDS[kind].leave), lambda _: 1 / 0)
        with pool.connection() as conn:
            assert ask(conn, KINDS[kind].look) == fresh


@pytest.fixture
def logged(dsn: str, server: EmbeddedPostgres) -> str:
    """Give a DSN of the embedded server, which writes down what it hears."""
    return make_dsn(dsn, host="127.0.0.1", port=server.port, options=LOGGED)


@pytest.fixture
def heard(server: EmbeddedPostgres) -> Heard:
    """Give what the server hears in this test."""
    return Heard(server)


def test_the_session_policy_costs_one_round_trip(logged: str, heard: Heard) -> None:
    """All of it is one message."""
    with ConnectionPool(logged, max_size=1, reset="session") as pool:
        with pool.connection() as conn:
            ask(conn, "SELECT 1")
        said = heard.of(pid(conn))
    assert said[-3:-1] == ["SELECT 1", "COMMIT"]
    assert "RESET ALL" in said[-1]


def test_the_default_policy_costs_nothing(logged: str, heard: Heard) -> None:
    """What was committed is released without a word."""
    with ConnectionPool(logged, max_size=1) as pool:
        with pool.connection() as conn:
            ask(conn, "SELECT 1")
        assert heard.of(pid(conn))[-2:] == ["SELECT 1", "COMMIT"]


def test_a_prepared_statement_outlives_the_session_policy(dsn: str) -> None:
    """The one thing it keeps, since drivers and libraries count on theirs."""
    with ConnectionPool(dsn, max_size=1, reset="session") as pool:
        with pool.connection() as conn:
            ask(conn, "PREPARE seven AS SELECT 7")
        with pool.connection() as conn:
            assert ask(conn, "EXECUTE seven") == 7


def configured(conn: connection) -> None:
    """Set one thing in SQL and the rest in psycopg2."""
    ask(conn, "SET statement_timeout = '7s'")
    conn.commit()
    conn.isolation_level = driver.ISOLATION_LEVEL_SERIALIZABLE
    conn.readonly = True


@pytest.mark.parametrize("autocommit", [False, True])
def test_what_configure_set_outlives_the_session_policy(
    dsn: str, *, autocommit: bool
) -> None:
    """Settings of SQL and of psycopg2 alike."""
    with ConnectionPool(
        dsn, max_size=1, reset="session", configure=configured, autocommit=autocommit
    ) as pool:
        for _ in range(3):
            with pool.connection() as conn:
                assert ask(conn, "SHOW statement_timeout") == "7s"
                assert ask(conn, "SHOW transaction_isolation") == "serializable"
                assert ask(conn, "SHOW transaction_read_only") == "on"
                ask(conn, "SET statement_timeout = 0")


def test_the_encoding_that_configure_set_outlives_the_session_policy(dsn: str) -> None:
    """Server and driver agree on it in every hold."""

    def latin1(conn: connection) -> None:
        conn.set_client_encoding("LATIN1")

    with ConnectionPool(dsn, max_size=1, reset="session", configure=latin1) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert conn.encoding == ask(conn, "SHOW client_encoding") == "LATIN1"
                assert ask(conn, "SELECT chr(233)") == "é"


def test_dates_can_be_read_after_the_session_policy(
    dsn: str, admin: connection
) -> None:
    """Also by a role whose dates psycopg2 has to ask for in its own style."""
    role = f"german_{dsn[-12:]}"
    ask(admin, f"CREATE ROLE {role} LOGIN")
    ask(admin, f"ALTER ROLE {role} SET datestyle = 'German, DMY'")
    try:
        with ConnectionPool(
            make_dsn(dsn, user=role), max_size=1, reset="session"
        ) as pool:
            for _ in range(2):
                with pool.connection() as conn:
                    day = ask(conn, "SELECT date '2026-02-01'")
                    assert day == dt.date(2026, 2, 1)
    finally:
        ask(admin, f"DROP ROLE {role}")


def test_the_server_goes_on_looking_for_its_client(dsn: str) -> None:
    """client_connection_check_interval is the pool's own, under every policy."""
    for reset in ("rollback", "session"):
        with ConnectionPool(dsn, max_size=1, reset=reset) as pool:
            for _ in range(2):
                with pool.connection() as conn:
                    assert ask(conn, "SHOW client_connection_check_interval") == "2s"


def test_a_function_is_called_with_a_connection_that_works(dsn: str) -> None:
    """Psycopg2's own reset() as the policy."""
    kind = KINDS["a setting"]
    with ConnectionPool(
        dsn, max_size=1, reset=lambda conn: conn.reset(), autocommit=True
    ) as pool:
        fresh, left, after = leave_and_look(pool, kind)
        assert after == fresh != left
        with pool.connection() as conn:
            assert conn.autocommit

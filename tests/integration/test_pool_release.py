"""What release does with whatever a holder leaves behind."""

import contextlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2 import extras
from psycopg2.extensions import connection, make_dsn

from pgdbpool import ConnectionPool, ConnectionReleased
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import LOGGED, Heard, ask, held, pid, terminate
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

LEVEL = driver.ISOLATION_LEVEL_SERIALIZABLE


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of one connection, at rest in the end."""
    with ConnectionPool(dsn, max_size=1) as pool:
        pool.wait()
        yield pool
        assert_at_rest(pool)


CHANGES: dict[str, Callable[[Any], object]] = {
    "autocommit": lambda conn: setattr(conn, "autocommit", not conn.autocommit),
    "isolation_level": lambda conn: setattr(conn, "isolation_level", LEVEL),
    "readonly": lambda conn: setattr(conn, "readonly", True),
    "deferrable": lambda conn: setattr(conn, "deferrable", True),
    "set_session": lambda conn: conn.set_session(LEVEL, True, True, True),
    "set_isolation_level": lambda conn: conn.set_isolation_level(0),
    "encoding": lambda conn: conn.set_client_encoding("LATIN1"),
    "cursor_factory": lambda conn: setattr(
        conn, "cursor_factory", extras.RealDictCursor
    ),
    "string_types": lambda conn: extras.register_uuid(conn_or_curs=conn),
    "reset": lambda conn: conn.reset(),
}


def settings(conn: connection) -> tuple[object, ...]:
    """Return what psycopg2 knows of a connection's settings."""
    return (
        conn.autocommit,
        conn.isolation_level,
        conn.readonly,
        conn.deferrable,
        conn.encoding,
        conn.cursor_factory,
        dict(conn.string_types),
        dict(conn.binary_types),
    )


@pytest.mark.direct(
    "asks for what is refused behind a transaction pooler",
    "set_session",
    "encoding",
    "reset",
    "True-isolation_level",
    "True-readonly",
    "True-deferrable",
)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("autocommit", [False, True])
def test_what_a_holder_changed_in_the_driver_is_changed_back(
    dsn: str, server: EmbeddedPostgres, change: str, *, autocommit: bool
) -> None:
    """For psycopg2 and for the server, by the same session."""
    logged = make_dsn(dsn, host="127.0.0.1", port=server.port, options=LOGGED)
    with ConnectionPool(logged, max_size=1, autocommit=autocommit) as pool:
        pool.wait()

        def one_hold() -> tuple[object, ...]:
            heard = Heard(server)
            with pool.connection() as conn:
                known = settings(conn)
                session = (
                    ask(conn, "SHOW transaction_isolation"),
                    ask(conn, "SHOW client_encoding"),
                )
            return (pid(conn), known, session, heard.of(pid(conn)))

        before = one_hold()
        held(pool, CHANGES[change])
        assert one_hold() == before


@pytest.mark.direct("SETs a session by SQL of its own")
def test_notices_and_notifications_are_their_holders_alone(
    pool: ConnectionPool, admin: connection
) -> None:
    """The next one finds both lists empty."""

    def hear(conn: connection) -> None:
        conn.autocommit = True
        ask(conn, "LISTEN news")
        ask(conn, "DO $$ BEGIN RAISE NOTICE 'secret'; END $$")
        ask(admin, "NOTIFY news")
        until(lambda: ask(conn, "SELECT 1") and conn.notifies)
        assert "secret" in conn.notices[0]

    backend = held(pool, hear)
    with pool.connection() as conn:
        assert pid(conn) == backend
        assert (conn.notices, conn.notifies) == ([], [])


def leave_transaction(conn: connection) -> None:
    """Open one and fail in it."""
    with contextlib.suppress(sqlstate.DivisionByZero):
        ask(conn, "SELECT 1 / 0")


def leave_sql_begin(conn: connection) -> None:
    """Open one where psycopg2 does not see it."""
    conn.rollback()
    conn.autocommit = True
    ask(conn, "BEGIN")
    ask(conn, "CREATE TABLE never_committed (id int)")


def leave_named_cursor(conn: connection) -> object:
    """Have the server keep rows."""
    cur = conn.cursor("rows")
    cur.execute("SELECT generate_series(1, 10000)")
    cur.fetchone()
    return cur


def leave_held_cursor(conn: connection) -> object:
    """Have the server keep rows beyond the transaction."""
    cur = conn.cursor("kept", withhold=True)
    cur.execute("SELECT generate_series(1, 10000)")
    conn.commit()
    return cur


def leave_unexecuted_cursor(conn: connection) -> object:
    """Have a named cursor that the server knows nothing of."""
    return conn.cursor("never")


class Broken:
    """A file that cannot be written to."""

    def write(self, data: str) -> None:
        """Fail."""
        raise OSError(f"no room for {len(data)} characters")


def leave_copy(conn: connection) -> None:
    """Cut a COPY short."""
    with contextlib.suppress(OSError), conn.cursor() as cur:
        cur.copy_expert("COPY (SELECT generate_series(1, 10000)) TO STDOUT", Broken())


def leave_prepared(conn: connection) -> None:
    """Leave a two-phase transaction open."""
    conn.tpc_begin(conn.xid(1, "left", "open"))
    ask(conn, "SELECT 1")


def leave_closed(conn: connection) -> None:
    """Close what is the pool's."""
    conn.close()


def leave_cancelled(conn: connection) -> None:
    """Send a cancel request, which can arrive whenever it likes."""
    ask(conn, "SELECT 1")
    conn.cancel()


KEPT: list[Callable[[connection], object]] = [
    leave_transaction,
    leave_sql_begin,
    leave_named_cursor,
    leave_held_cursor,
    leave_unexecuted_cursor,
]
CLOSED = [leave_copy, leave_prepared, leave_closed, leave_cancelled]


@pytest.mark.direct(
    "asks for what is refused behind a transaction pooler", "leave_held_cursor"
)
@pytest.mark.direct(
    "counts sessions of the server",
    "leave_cancelled",
    "leave_closed",
    "leave_copy",
    "leave_prepared",
)
@pytest.mark.parametrize("leave", KEPT + CLOSED)
def test_whatever_is_left_costs_one_reconnect_at_most(
    pool: ConnectionPool,
    admin: connection,
    application_name: str,
    leave: Callable[[connection], object],
) -> None:
    """Failure modes 7 and 30: undone where it can be, else the connection is closed."""
    conn = pool.getconn()
    left = leave(conn)
    backend = None if conn.closed else pid(conn)
    pool.putconn(conn)
    del left  # only now, as by a holder who forgets nothing
    with pool.connection() as after:
        assert (pid(after) == backend) == (leave in KEPT)
        assert ask(after, "SELECT count(*) FROM pg_cursors") == 0
        assert ask(after, "SELECT to_regclass('never_committed')") is None
    (session,) = until(lambda: backends(admin, application_name))
    assert session.state == "idle"
    assert pool.get_stats()["returns_bad"] == (leave in CLOSED)


@pytest.mark.direct("asks for what is refused behind a transaction pooler")
def test_a_cursor_kept_too_long_raises(pool: ConnectionPool) -> None:
    """Failure mode 31: it can never read another holder's rows."""
    with pool.connection() as conn:
        cursors = [conn.cursor(), conn.cursor("rows"), conn.cursor("k", withhold=True)]
        for cur in cursors:
            cur.execute("SELECT generate_series(1, 100)")
    with pool.connection():
        for cur in cursors:
            for use in (cur.fetchone, lambda c=cur: c.execute("SELECT 1")):
                with pytest.raises(psycopg2.Error):
                    use()


USES: dict[str, Callable[[Any], object]] = {
    "cursor": lambda conn: conn.cursor(),
    "lobject": lambda conn: conn.lobject(),
    "set_session": lambda conn: conn.set_session(readonly=True),
    "autocommit": lambda conn: setattr(conn, "autocommit", True),
    "reset": lambda conn: conn.reset(),
    "set_client_encoding": lambda conn: conn.set_client_encoding("LATIN1"),
    "cancel": lambda conn: conn.cancel(),
}


@pytest.mark.parametrize("use", USES)
def test_a_released_connection_raises(
    pool: ConnectionPool, admin: connection, application_name: str, use: str
) -> None:
    """Failure mode 31: also on another thread; and the session is as it was."""
    with pool.connection() as conn:
        pass
    before = backends(admin, application_name)
    with ThreadPoolExecutor(1) as executor:
        late = executor.submit(USES[use], conn)
        with pytest.raises(ConnectionReleased):
            late.result()
    assert backends(admin, application_name) == before


def test_a_released_connection_that_is_closed_costs_the_others_nothing(
    dsn: str,
) -> None:
    """Failure mode 31: one reconnect, and no sibling is condemned."""
    with ConnectionPool(dsn, min_size=3, max_size=3) as pool:
        pool.wait()
        with pool.connection() as conn:
            pass
        with contextlib.suppress(ConnectionReleased):
            conn.close()
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1
        assert_at_rest(pool)
        assert pool.get_stats()["connections_num"] <= 4


def test_an_sql_begin_in_autocommit_is_undone(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """psycopg2's own rollback() would do nothing there."""
    conn = pool.getconn()
    conn.autocommit = True
    ask(conn, "BEGIN")
    ask(conn, f"INSERT INTO {table} (note) VALUES ('undone')")
    pool.putconn(conn)
    assert ask(admin, f"SELECT count(*) FROM {table}") == 0


def test_a_commit_in_a_failed_transaction_is_an_error(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """PostgreSQL would answer ROLLBACK and psycopg2 say nothing."""

    def swallow(conn: connection) -> None:
        ask(conn, f"INSERT INTO {table} (note) VALUES ('undone')")
        leave_transaction(conn)

    with pytest.raises(sqlstate.InFailedSqlTransaction):
        held(pool, swallow)
    assert ask(admin, f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (LookupError, True),
        (GeneratorExit, True),
        (KeyboardInterrupt, False),
        (SystemExit, False),
    ],
)
def test_what_interrupts_from_outside_costs_the_connection(
    pool: ConnectionPool, error: type[BaseException], *, is_kept: bool
) -> None:
    """Failure mode 30: it may have struck in the middle of a call."""

    def interrupted(conn: connection) -> None:
        ask(conn, "SELECT 1")
        raise error

    backend = held(pool)
    with pytest.raises(error):
        held(pool, interrupted)
    assert (held(pool) == backend) == is_kept


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_lost_in_a_hold_is_not_replaced_in_it(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """Failure mode 19: every further use raises, and nothing is committed."""
    insert = f"INSERT INTO {table} (note) VALUES ('half')"

    def go_on(conn: connection) -> None:
        ask(conn, insert)
        terminate(admin, pid(conn))
        with pytest.raises(psycopg2.Error):
            ask(conn, insert)
        with pytest.raises(psycopg2.InterfaceError):
            ask(conn, insert)

    with pytest.raises(psycopg2.OperationalError):
        held(pool, go_on)
    assert ask(admin, f"SELECT count(*) FROM {table}") == 0
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1


def misbehave(pool: ConnectionPool, rng: random.Random) -> None:
    """Be a request that ends as it should not."""
    way = rng.choice([*KEPT, leave_copy, None, None, None])
    conn = pool.getconn()
    left = None
    try:
        ask(conn, "SELECT 1")
        if way is not None:
            left = way(conn)
        elif rng.random() < 0.5:
            conn.commit()
    finally:
        pool.putconn(conn)
        del left


@pytest.mark.direct("asks for what is refused behind a transaction pooler")
def test_a_thousand_requests_leave_nobody_in_a_transaction(
    dsn: str, admin: connection, application_name: str
) -> None:
    """Failure mode 7: whatever they leave, 100 ms later every session is idle."""
    seed = random.randrange(10**6)

    def requests(number: int) -> None:
        rng = random.Random(seed + number)
        for _ in range(250):
            misbehave(pool, rng)

    with ConnectionPool(dsn, max_size=3) as pool:
        with ThreadPoolExecutor(4) as executor:
            list(executor.map(requests, range(4)))
        until(
            lambda: (
                not any(
                    "in transaction" in str(backend.state)
                    for backend in backends(admin, application_name)
                )
            ),
            0.1,
            "no session is idle in transaction",
        )
        assert_at_rest(pool)
        assert pool.get_stats()["returns_bad"] > 10
        assert pool.get_stats()["requests_queued"] > 10

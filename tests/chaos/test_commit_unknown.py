"""A session that is lost around its COMMIT: what the caller may believe.

Failure mode 40, as far as it can be known without asking the server afterwards.
"""

from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool import CommitUnknown, ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask, held, pid, terminate
from tests.proxy import Proxy
from tests.soundness import assert_at_rest


@pytest.fixture
def proxy(server: EmbeddedPostgres) -> Iterator[Proxy]:
    """Give a network between the pool and its server."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def pool(dsn: str, proxy: Proxy) -> Iterator[ConnectionPool]:
    """Give a pool that goes through it, at rest in the end."""
    through = make_dsn(dsn, host=proxy.host, port=proxy.port)
    with ConnectionPool(through, min_size=2, max_size=2) as pool:
        pool.wait()
        yield pool
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1
        assert_at_rest(pool)


def count(admin: connection, table: str) -> int:
    """Return how many rows are committed."""
    rows = ask(admin, f"SELECT count(*) FROM {table}")
    assert isinstance(rows, int)
    return rows


def insert(conn: connection, table: str) -> None:
    """Store a row."""
    ask(conn, f"INSERT INTO {table} (note) VALUES ('mine')")


@pytest.mark.parametrize(("is_cut_before", "committed"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("in_sql", [False, True])
def test_a_commit_without_an_answer_is_unknown(
    pool: ConnectionPool,
    proxy: Proxy,
    admin: connection,
    table: str,
    *,
    is_cut_before: bool,
    committed: int,
    in_sql: bool,
) -> None:
    """Committed or not, it is the same error, with the driver's as its cause."""

    def work(conn: connection) -> None:
        if in_sql:
            conn.autocommit = True
            ask(conn, "BEGIN")
        insert(conn, table)
        (proxy.cut_before if is_cut_before else proxy.cut_after)(b"COMMIT")

    with pytest.raises(CommitUnknown) as caught:
        held(pool, work)
    assert proxy.cuts == 1
    assert type(caught.value.__cause__) is psycopg2.OperationalError
    assert count(admin, table) == committed
    assert pool.get_stats()["connections_lost"] >= 1


def test_a_session_that_was_lost_before_its_commit_has_committed_nothing(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """And that is known: an OperationalError that is not CommitUnknown."""
    with pytest.raises(psycopg2.OperationalError) as caught:
        held(
            pool,
            lambda conn: insert(conn, table),
            lambda conn: terminate(admin, pid(conn)),
        )
    assert not isinstance(caught.value, CommitUnknown)
    assert "nothing is committed" in str(caught.value)
    assert count(admin, table) == 0


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_session_that_was_lost_after_a_commit_is_not_said_to_have_none(
    pool: ConnectionPool, admin: connection, table: str, *, autocommit: bool
) -> None:
    """The holder committed by itself and then swallowed an error of a read."""

    def work(conn: connection) -> None:
        conn.autocommit = autocommit
        insert(conn, table)
        conn.commit()
        terminate(admin, pid(conn))
        with pytest.raises(psycopg2.OperationalError):
            ask(conn, "SELECT 1")

    said = ""
    try:
        held(pool, work)
    except psycopg2.OperationalError as error:
        said = str(error)
    assert "nothing is committed" not in said
    assert count(admin, table) == 1


def test_a_session_that_was_lost_before_its_commit_condemns_its_generation(
    pool: ConnectionPool, admin: connection
) -> None:
    """It is counted as lost, as one that a ping found (failure mode 4)."""
    with pytest.raises(psycopg2.OperationalError):
        held(
            pool,
            lambda conn: ask(conn, "SELECT 1"),
            lambda conn: terminate(admin, pid(conn)),
        )
    assert pool.get_stats()["connections_lost"] == 1
    assert pool.get_stats()["returns_bad"] == 0


def test_a_network_that_was_cut_before_the_commit_has_committed_nothing(
    pool: ConnectionPool, proxy: Proxy, admin: connection, table: str
) -> None:
    """A reset is seen before COMMIT is sent."""
    with pytest.raises(psycopg2.OperationalError) as caught:
        held(pool, lambda conn: insert(conn, table), lambda _: proxy.cut())
    assert not isinstance(caught.value, CommitUnknown)
    assert count(admin, table) == 0


def test_a_notification_before_the_commit_is_no_loss(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """A session that has something to say is not a session that has ended."""
    with pool.connection() as conn:
        ask(conn, "LISTEN news")
        conn.commit()
        insert(conn, table)
        ask(admin, "NOTIFY news")
        ask(admin, "SELECT pg_sleep(0.01)")
    assert count(admin, table) == 1
    assert pool.get_stats()["connections_lost"] == 0

"""A server that is a hot standby, that was promoted, that was demoted."""

import logging
import time
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool import ConnectionPool, PoolTimeout
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import Standby, demote
from pgdbpool.endpoint.connection import READONLY
from tests.asking import ask, pid
from tests.observer import observe
from tests.waiting import until

WRITE = "CREATE TABLE written (id int)"


@pytest.fixture
def primary(module_cluster: Cluster) -> EmbeddedPostgres:
    """Give a primary."""
    return module_cluster.primary


@pytest.fixture
def standby(module_cluster: Cluster) -> EmbeddedPostgres:
    """Give a hot standby of it, not to be promoted."""
    return module_cluster.standbys[0]


@pytest.fixture
def candidate(primary: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """Give a hot standby of it, to be promoted."""
    with Standby(primary) as server:
        yield server


def promote(server: EmbeddedPostgres) -> None:
    """Make a standby a primary; it does not restart."""
    with observe(server.dsn()) as admin:
        assert ask(admin, "SELECT pg_promote(true, 30)")


def writes(pool: ConnectionPool) -> bool:
    """Return whether a transaction of the pool may write."""
    with pool.connection() as conn:
        return bool(ask(conn, "SHOW transaction_read_only") == "off")


def test_a_standby_is_served_read_only_and_after_its_promotion_read_write(
    primary: EmbeddedPostgres, candidate: EmbeddedPostgres
) -> None:
    """Failure mode 1, the other way round: by the same session."""
    with observe(primary.dsn()) as admin:
        ask(admin, "CREATE TABLE IF NOT EXISTS replicated AS SELECT 7 AS id")
    with ConnectionPool(candidate.dsn(), max_size=1) as pool:

        def replicated() -> object:
            with pool.connection() as conn:
                return ask(conn, "SELECT to_regclass('replicated')::text")

        until(replicated)
        with pool.connection() as conn:
            backend = pid(conn)
            assert ask(conn, "SELECT id FROM replicated") == 7
        with pytest.raises(sqlstate.ReadOnlySqlTransaction), pool.connection() as conn:
            ask(conn, WRITE)
        promote(candidate)
        until(lambda: writes(pool))
        with pool.connection() as conn:
            assert pid(conn) == backend
            ask(conn, WRITE)
        assert pool.get_stats()["connections_lost"] == 0


def test_a_ping_that_a_standby_refuses_is_repeated_as_a_plain_one(
    standby: EmbeddedPostgres,
) -> None:
    """The session serves reads, whatever the pool believed of its role."""
    with ConnectionPool(standby.dsn(), max_size=1) as pool:
        with pool.connection() as conn:
            backend = pid(conn)
        READONLY.__set__(conn, False)
        conn.is_write_ping = True
        for _ in range(2):
            with pool.connection() as conn:
                assert pid(conn) == backend
                assert ask(conn, "SELECT 1") == 1
                assert conn.readonly is None


def test_a_demoted_server_is_served_read_only(
    private_server: EmbeddedPostgres,
) -> None:
    """A pool of one server has no other, and reading may do."""
    with ConnectionPool(private_server.dsn()) as pool:
        assert writes(pool)
        demote(private_server)
        assert not writes(pool)
        promote(private_server)
        until(lambda: writes(pool))


def test_who_asked_for_a_primary_is_not_served_by_what_became_a_standby(
    private_server: EmbeddedPostgres,
) -> None:
    """Failure mode 1: refused, and told why, until it is promoted again."""
    dsn = private_server.dsn(target_session_attrs="read-write")
    with ConnectionPool(dsn, timeout=0.5, min_size=3) as pool:
        pool.wait()
        assert writes(pool)
        demote(private_server)
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(PoolTimeout, match="read-only") as caught:
                pool.getconn()
            assert time.monotonic() - began < 2.0
            assert isinstance(caught.value.__cause__, psycopg2.OperationalError)
        promote(private_server)
        until(lambda: pool.get_stats()["pool_available"] > 0)
        assert writes(pool)


def test_an_access_mode_that_is_set_later_is_not_overridden(
    private_server: EmbeddedPostgres,
) -> None:
    """An administrator makes the server read only; living connections obey."""
    change = "ALTER SYSTEM {} default_transaction_read_only"
    dsn = private_server.dsn()
    with observe(dsn) as admin, ConnectionPool(dsn, max_size=1) as pool:
        ask(admin, "SET default_transaction_read_only = off")
        assert writes(pool)
        ask(admin, change.format("SET") + " = on")
        ask(admin, "SELECT pg_reload_conf()")
        try:
            until(lambda: not writes(pool), 2.0, "the living connection is read only")
        finally:
            ask(admin, change.format("RESET"))
            ask(admin, "SELECT pg_reload_conf()")
        until(lambda: writes(pool), 2.0, "the living connection is read-write")
        assert pool.get_stats()["connections_num"] == 1


def test_a_session_whose_role_is_wrong_is_closed(
    standby: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """One that a pooler between us moved to a standby, say; nobody gets it."""
    with ConnectionPool(standby.dsn(), max_size=1, timeout=0.5) as pool:
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1
        pool._roster.endpoints[0].wants_primary = True
        with caplog.at_level(logging.INFO, "pgdbpool"), pytest.raises(PoolTimeout):
            pool.getconn()
        assert "closed a connection: wrong role" in caplog.text

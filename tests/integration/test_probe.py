"""What the pool learns from one server, asked directly."""

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool, PooledConnection
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint import names
from pgdbpool.endpoint.probe import probe, role_of, written
from pgdbpool.endpoint.standing import Role
from tests.asking import ask
from tests.clusters import timeline
from tests.endpoints import is_known, used
from tests.soundness import assert_at_rest
from tests.waiting import until


@pytest.fixture(scope="module")
def cluster(module_cluster: Cluster) -> Cluster:
    """Give a primary and its standbys."""
    return module_cluster


def asked(server: EmbeddedPostgres) -> tuple[PooledConnection, ConnectionPool]:
    """Return a connection to a server, and the pool it is from."""
    pool = ConnectionPool(server.dsn(), max_size=1)
    return pool.getconn(), pool


def test_a_primary_says_where_it_is(cluster: Cluster) -> None:
    """Role, position and timeline, in one round trip, and the ping is undone."""
    conn, pool = asked(cluster.primary)
    with pool:
        finding = probe(conn)
        assert finding.role is role_of(conn) is Role.PRIMARY
        assert finding.timeline == timeline(cluster.primary)
        assert finding.position is not None
        assert finding.seconds > 0.0

        ask(conn, "SELECT pg_logical_emit_message(true, 'test', 'written')")
        conn.commit()
        position = written(conn)
        assert position is not None
        assert position > finding.position

        ask(conn, "SELECT 1")
        assert written(conn) is None  # it has not committed yet
        pool.putconn(conn)


def test_a_standby_says_how_far_it_is(cluster: Cluster) -> None:
    """And that nothing can be written there."""
    standby = cluster.standbys[0]
    cluster.wait_until_replayed()
    conn, pool = asked(standby)
    with pool:
        conn.rollback()
        finding = probe(conn)
        assert finding.role is role_of(conn) is Role.STANDBY
        assert finding.timeline is None
        assert finding.position
        assert written(conn) is None
        pool.putconn(conn)


def test_a_name_leads_to_the_address_a_connection_has(cluster: Cluster) -> None:
    """A socket's file has none, and neither has what is closed."""
    server = cluster.primary
    by_name = make_dsn(server.dsn(), host="localhost")
    with ConnectionPool(by_name, max_size=1) as pool:
        conn = pool.getconn()
        assert names.address_of(conn) in names.addresses("localhost")
        conn.close()
        assert names.address_of(conn) is None
        pool.putconn(conn)
    with ConnectionPool(make_dsn(server.dsn(), host=str(server.directory))) as pool:
        conn = pool.getconn()
        assert names.address_of(conn) is None
        pool.putconn(conn)


def test_a_refused_write_has_the_primary_asked_again(cluster: Cluster) -> None:
    """A handler can bring it about itself; then the answer is what it was."""
    with used(ConnectionPool(cluster.dsn(), max_size=2)) as pool:
        refused = pytest.raises(sqlstate.ReadOnlySqlTransaction)
        with refused, pool.connection() as conn:
            ask(conn, "SET TRANSACTION READ ONLY")
            ask(conn, "CREATE TABLE refused (i int)")
        with pool.connection() as conn:
            assert conn.info.port == cluster.primary.port
        until(lambda: pool._roster.monitor.primary is not None)
        assert_at_rest(pool)


def test_what_a_reader_is_refused_says_nothing_of_its_server(cluster: Cluster) -> None:
    """Its transactions are READ ONLY wherever it is."""
    with used(ConnectionPool(cluster.dsn(), max_size=2)) as pool:
        primary = pool._roster.monitor.primary
        refused = pytest.raises(sqlstate.ReadOnlySqlTransaction)
        with refused, pool.connection(read_only=True) as conn:
            ask(conn, "CREATE TABLE refused (i int)")
        assert pool._roster.monitor.primary is primary
        assert_at_rest(pool)


def test_a_probe_that_fails_is_quoted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the driver's, as that of a ping, and the server comes back."""

    def fail(_conn: PooledConnection) -> None:
        raise psycopg2.OperationalError("as planned")

    with used(ConnectionPool(cluster.dsn(), max_size=2)) as pool:
        monkeypatch.setattr("pgdbpool.connecting.probe", fail)
        until(lambda: any(e.last_error == "as planned" for e in pool.endpoints))
        monkeypatch.undo()
        until(lambda: is_known(pool))
        assert_at_rest(pool)

"""Row 32: `pool.read` runs a function again that its server could not let finish."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool import ConnectionPool, NoStandby
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.standing import Role
from tests.asking import ask, pid, terminate
from tests.endpoints import ports, used
from tests.observer import observe
from tests.soundness import assert_at_rest
from tests.waiting import until

ROWS = 100


@pytest.fixture
def cluster(breakable: Cluster) -> Cluster:
    """Give standbys that cancel at once whoever is in their way, and rows to read."""
    for server in breakable.servers:
        ask_server(server, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
        ask_server(server, "SELECT pg_reload_conf()")
    rows = f"SELECT generate_series(1, {ROWS}) AS id"
    ask_server(breakable.primary, "DROP TABLE IF EXISTS items")
    ask_server(breakable.primary, f"CREATE TABLE items AS {rows}")
    breakable.wait_until_replayed()
    return breakable


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[ConnectionPool]:
    """Give a pool that knows all servers; at rest afterwards."""
    with ConnectionPool(cluster.dsn(), min_size=1, max_size=2) as pool:
        yield used(pool)
        assert_at_rest(pool)


def role_at(conn: PooledConnection) -> Role:
    """Return what the server of a connection says it is."""
    return Role.STANDBY if ask(conn, "SELECT pg_is_in_recovery()") else Role.PRIMARY


class Reader:
    """A function that reads, whom some runs get into the way of a VACUUM.

    Args:
        cluster: where.
        conflicts: how many of its runs do.
        is_idle: those wait in an open transaction, whose session the standby ends;
            else in a statement, which it cancels.
    """

    def __init__(
        self, cluster: Cluster, conflicts: int = 1, *, is_idle: bool = True
    ) -> None:
        self.cluster = cluster
        self.conflicts = conflicts
        self.is_idle = is_idle
        self.ports: list[int] = []
        self.roles: list[Role] = []
        self.errors: list[psycopg2.Error] = []

    def __call__(self, conn: PooledConnection) -> int:
        """Return how many rows there are."""
        self.ports.append(conn.info.port)
        self.roles.append(role_at(conn))
        try:
            if len(self.ports) <= self.conflicts:
                self._be_in_the_way(conn)
            count: int = ask(conn, "SELECT count(*) FROM items")
        except psycopg2.Error as error:
            self.errors.append(error)
            raise
        return count

    def _be_in_the_way(self, conn: PooledConnection) -> None:
        with conn.cursor() as cur:
            cur.execute("DECLARE rows CURSOR FOR SELECT id FROM items")
            cur.execute("FETCH 1 FROM rows")  # which keeps a snapshot
            if self.is_idle:
                self._vacuum()
                self.cluster.wait_until_replayed()
                cur.execute("FETCH ALL FROM rows")
                return
            with ThreadPoolExecutor(1) as other:
                other.submit(self._vacuum_when_active, conn.info.port, pid(conn))
                cur.execute("SELECT pg_sleep(30)")

    def _vacuum(self) -> None:
        primary = self.cluster.primary
        ask_server(primary, "DELETE FROM items WHERE id = 1")
        ask_server(primary, "VACUUM items")
        # Which has that written out as well.
        ask_server(primary, "INSERT INTO items VALUES (1)")

    def _vacuum_when_active(self, port: int, backend: int) -> None:
        (server,) = (one for one in self.cluster.servers if one.port == port)
        state = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        until(lambda: ask_server(server, state, backend) == "PgSleep")
        self._vacuum()


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_recovery_conflict_is_read_again_at_another_server(
    pool: ConnectionPool, cluster: Cluster, *, is_idle: bool
) -> None:
    """Whether the standby ended the session or cancelled the statement."""
    reader = Reader(cluster, is_idle=is_idle)

    assert pool.read(reader) == ROWS

    (error,) = reader.errors
    is_cancelled = isinstance(error, sqlstate.SerializationFailure)
    assert is_cancelled is not is_idle
    first, second = reader.ports
    assert first != second
    assert set(reader.ports) == ports(cluster.standbys)


def test_after_the_second_conflict_the_primary_reads(
    pool: ConnectionPool, cluster: Cluster
) -> None:
    """It has no conflicts; the transaction is READ ONLY there too."""
    reader = Reader(cluster, conflicts=2)

    assert pool.read(reader) == ROWS

    assert reader.roles == [Role.STANDBY, Role.STANDBY, Role.PRIMARY]


def test_a_strict_reader_never_reads_from_the_primary(
    pool: ConnectionPool, cluster: Cluster
) -> None:
    """The third time it is a standby as well, and not the one that failed last."""
    reader = Reader(cluster, conflicts=2)

    assert pool.read(reader, strict=True) == ROWS

    first, second, third = reader.ports
    assert reader.roles == [Role.STANDBY] * 3
    assert first == third != second


def test_a_standby_that_dies_under_a_reader_costs_no_error(
    pool: ConnectionPool, cluster: Cluster
) -> None:
    """Its session is lost in the middle of what it read."""
    by_port = {server.port: server for server in cluster.servers}
    seen: list[int] = []

    def read(conn: PooledConnection) -> int:
        seen.append(conn.info.port)
        if len(seen) == 1:
            by_port[conn.info.port].kill()
        count: int = ask(conn, "SELECT count(*) FROM items")
        return count

    assert pool.read(read) == ROWS

    assert len(set(seen)) == 2


@pytest.mark.direct("goes by a session's number on the server")
def test_a_single_server_is_asked_again(server: EmbeddedPostgres, dsn: str) -> None:
    """As after a restart: the session was lost, the server was not."""
    seen: list[int] = []

    def read(conn: PooledConnection) -> int:
        seen.append(pid(conn))
        if len(seen) == 1:
            with observe(server.dsn()) as admin:
                terminate(admin, pid(conn))
        answer: int = ask(conn, "SELECT 42")
        return answer

    with ConnectionPool(dsn, max_size=2) as pool:
        assert pool.read(read) == 42
        assert len(set(seen)) == 2
        assert_at_rest(pool)


@pytest.mark.direct("goes by a session's number on the server")
def test_what_fails_each_time_is_raised(server: EmbeddedPostgres, dsn: str) -> None:
    """After three runs, as the driver raised it."""
    runs = 0

    def read(conn: PooledConnection) -> None:
        nonlocal runs
        runs += 1
        with observe(server.dsn()) as admin:
            terminate(admin, pid(conn))
        ask(conn, "SELECT 1")

    with ConnectionPool(dsn, max_size=2) as pool:
        with pytest.raises(psycopg2.OperationalError):
            pool.read(read)
        assert runs == 3
        assert_at_rest(pool)


@pytest.mark.direct("SETs a session by SQL of its own", "QueryCanceled")
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT 1/0", sqlstate.DivisionByZero),
        ("CREATE TABLE refused (i int)", sqlstate.ReadOnlySqlTransaction),
        ("SET statement_timeout = 20; SELECT pg_sleep(30)", sqlstate.QueryCanceled),
    ],
)
def test_an_error_of_the_function_is_its_own(
    dsn: str, statement: str, error: type[psycopg2.Error]
) -> None:
    """It is run once."""
    runs = 0

    def read(conn: PooledConnection) -> None:
        nonlocal runs
        runs += 1
        ask(conn, statement)

    with ConnectionPool(dsn, max_size=1) as pool:
        with pytest.raises(error):
            pool.read(read)
        assert runs == 1
        assert_at_rest(pool)


def test_an_error_that_the_function_swallowed_is_its_own(dsn: str) -> None:
    """Its transaction has failed, which running it again would not change."""
    runs = 0

    def read(conn: PooledConnection) -> None:
        nonlocal runs
        runs += 1
        with contextlib.suppress(sqlstate.DivisionByZero):
            ask(conn, "SELECT 1/0")

    with ConnectionPool(dsn, max_size=1) as pool:
        with pytest.raises(sqlstate.InFailedSqlTransaction):
            pool.read(read)
        assert runs == 1
        assert_at_rest(pool)


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_lost_after_the_function_is_read_again(
    server: EmbeddedPostgres, dsn: str
) -> None:
    """The release finds out."""
    runs = 0

    def read(conn: PooledConnection) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            with observe(server.dsn()) as admin:
                ask(conn, "SELECT 1")
                terminate(admin, pid(conn))
        return runs

    with ConnectionPool(dsn, max_size=1) as pool:
        assert pool.read(read) == 2
        assert_at_rest(pool)


def test_who_cannot_be_served_is_told_so_at_once(dsn: str) -> None:
    """An acquire that fails is not tried three times; who acquires is named."""
    with (
        ConnectionPool(dsn, max_size=1, timeout=0.1) as pool,
        pool.connection(),
        pytest.raises(psycopg2.OperationalError, match=r"test_pool_read\.py"),
    ):
        pool.read(lambda conn: ask(conn, "SELECT 1"))


def test_without_a_standby_a_strict_reader_is_refused(cluster: Cluster) -> None:
    """And the primary reads for who is not."""
    with ConnectionPool(cluster.dsn(), max_size=2, timeout=0.2) as pool:
        used(pool)
        for standby in cluster.standbys:
            standby.kill()
        until(lambda: all(one.state == "down" for one in pool.endpoints[1:]))
        with pytest.raises(NoStandby):
            pool.read(role_at, strict=True)
        assert pool.read(role_at) is Role.PRIMARY
        assert_at_rest(pool)

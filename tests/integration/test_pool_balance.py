"""Which of several standbys reads, by policy and by what it has replayed."""

from collections import Counter
from typing import Any

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import (
    ConnectionPool,
)
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.standby import ask as ask_server
from tests.asking import ask, terminate
from tests.endpoints import name, port, ports, used
from tests.observer import backends, observe
from tests.proxy import Proxy
from tests.soundness import assert_at_rest
from tests.waiting import until


@pytest.fixture(scope="module")
def cluster(module_cluster: Cluster) -> Cluster:
    """Give a primary and two standbys, not to be broken."""
    ask_server(module_cluster.primary, "CREATE TABLE written (id int)")
    module_cluster.wait_until_replayed()
    return module_cluster


def shares(pool: ConnectionPool, number: int = 600) -> dict[int, float]:
    """Return what part of so many reads each server had, by port."""
    counts = Counter(port(pool, read_only=True) for _ in range(number))
    return {one: count / number for one, count in counts.items()}


@pytest.mark.parametrize("balance", ["least_in_use", "round_robin", "weighted"])
def test_alike_standbys_read_alike(cluster: Cluster, balance: Any) -> None:  # noqa: ANN401
    """Half each, of one reader after another."""
    with used(ConnectionPool(cluster.dsn(), balance=balance)) as pool:
        found = shares(pool)
        assert set(found) == ports(cluster.standbys)
        least = 0.45 if balance == "round_robin" else 0.4
        assert min(found.values()) > least, found


@pytest.mark.parametrize("balance", ["weighted", "least_in_use"])
def test_weights_are_heeded(cluster: Cluster, balance: Any) -> None:  # noqa: ANN401
    """Three times as much by chance; or, with many readers, three times as many."""
    heavy = cluster.standbys[1]
    weights = {name(heavy): 3}
    with used(
        ConnectionPool(cluster.dsn(), balance=balance, weights=weights, max_size=8)
    ) as pool:
        assert [one.weight for one in pool.endpoints] == [1.0, 1.0, 3.0]
        if balance == "weighted":
            assert 0.65 < shares(pool, 1000)[heavy.port] < 0.85
            return
        held = [pool.getconn(read_only=True) for _ in range(8)]
        counts = Counter(conn.info.port for conn in held)
        for conn in held:
            pool.putconn(conn)
        assert counts[heavy.port] in (5, 6, 7), counts


def test_many_holds_are_spread_evenly(cluster: Cluster) -> None:
    """least_in_use: who has fewer gets the next, on connections yet to be opened."""
    with used(ConnectionPool(cluster.dsn(), max_size=8)) as pool:
        held = [pool.getconn(read_only=True) for _ in range(8)]
        counts = Counter(conn.info.port for conn in held)
        for conn in held:
            pool.putconn(conn)
        assert set(counts) == ports(cluster.standbys)
        assert min(counts.values()) >= 3, counts
        assert_at_rest(pool)


def test_who_lost_its_connections_does_not_read_less_for_ever(
    cluster: Cluster, application_name: str
) -> None:
    """It gets new ones, although others have enough that are idle."""
    dsn = cluster.dsn(application_name=application_name)
    with used(ConnectionPool(dsn, max_size=4)) as pool:
        assert spread(pool, 8) == [4, 4]
        with observe(cluster.standbys[0].dsn()) as admin:
            # One is found lost, so all four go.
            terminate(admin, backends(admin, application_name)[0].pid)
        until(lambda: pool.get_stats()["connections_lost"])
        assert min(one.idle for one in pool.endpoints[1:]) < 2
        until(lambda: spread(pool, 4) == [2, 2], 15.0, "each has half")
        assert_at_rest(pool)


def spread(pool: ConnectionPool, number: int) -> list[int]:
    """Return how many of so many readers at once each server has."""
    held = [pool.getconn(read_only=True) for _ in range(number)]
    counts = Counter(conn.info.port for conn in held)
    for conn in held:
        pool.putconn(conn)
    return sorted(counts.values())


def test_the_nearest_standby_reads(cluster: Cluster) -> None:
    """The one with the shortest round trip; the other when it is full."""
    far, near = cluster.standbys
    with Proxy(far.port) as proxy:
        proxy.slow(0.02)
        places = (cluster.primary.port, proxy.port, near.port)
        dsn = make_dsn(cluster.dsn(), port=",".join(map(str, places)))
        with used(ConnectionPool(dsn, balance="nearest", max_size=2)) as pool:
            assert shares(pool, 50) == {near.port: 1.0}
            held = [pool.getconn(read_only=True) for _ in range(3)]
            assert Counter(conn.info.port for conn in held) == {
                near.port: 2,
                proxy.port: 1,
            }
            for conn in held:
                pool.putconn(conn)
            assert_at_rest(pool)


# Positions.


def test_what_was_written_is_read_where_it_has_arrived(cluster: Cluster) -> None:
    """`written` gives a position, `after` asks for it, a standby gets it in time."""
    standbys = ports(cluster.standbys)
    with used(ConnectionPool(cluster.dsn())) as pool:
        with pool.connection() as conn:
            ask(conn, "INSERT INTO written VALUES (77)")
            assert pool.written(conn) is None  # nothing is committed yet
            conn.commit()
            position = pool.written(conn)
        assert position is not None

        def read() -> int:
            conn = pool.acquire(read_only=True, after=position)
            assert conn.hold is not None
            try:
                query = "SELECT count(*) FROM written WHERE id = 77"
                assert ask(conn, query) == 1
                return int(conn.info.port)
            finally:
                pool.release(conn, conn.hold)

        until(lambda: read() in standbys, message="a standby has replayed it")
        with pool.connection(read_only=True) as conn:
            conn.rollback()
            assert pool.written(conn) is None  # a standby writes nothing
        assert_at_rest(pool)

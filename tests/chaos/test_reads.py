"""Standbys that are frozen, silent, slow, dead, late: who reads where, and how soon."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool, EndpointDown
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres
from pgdbpool.demo.standby import ask
from tests.asking import ask as ask_on
from tests.chaos.traffic import (
    TABLE,
    Request,
    Traffic,
    failed,
    percentile,
    shares,
    succeeded,
    waits,
)
from tests.clusters import mended
from tests.endpoints import port, used
from tests.proxy import Proxy
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

PING = 0.4
SLACK = 0.8
# What two cores add to one read in a hundred, seconds.
NOISE = 0.03
READERS = 8
IS_PAUSED = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
# So many that a hiccup of two cores is no share.
MANY = 3000


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[Cluster]:
    """Give a primary and three standbys to all tests."""
    with Cluster(3) as cluster:
        ask(cluster.primary, TABLE)
        yield cluster


@pytest.fixture
def cluster(module_cluster: Cluster) -> Iterator[Cluster]:
    """Lend them to one test."""
    with mended(module_cluster) as cluster:
        ask(cluster.primary, "TRUNCATE written")
        cluster.wait_until_replayed()
        yield cluster


def dsn_of(*ports: int, **more: object) -> str:
    """Return the DSN of a cluster that is reached by these ports."""
    hosts = ",".join(HOST for _ in ports)
    where = {"host": hosts, "port": ",".join(map(str, ports))}
    return make_dsn(None, **where, dbname="postgres", user="postgres", **more)


def read(pool: ConnectionPool) -> int:
    """Return where a read is served."""
    return port(pool, read_only=True)


def asked(requests: list[Request], since: float, until_: float) -> list[Request]:
    """Return those asked between two moments."""
    return [one for one in tuple(requests) if since <= one.asked < until_]


def freeze(server: EmbeddedPostgres, _: Proxy) -> Callable[[], object]:
    """Halt the server; return what ends it."""
    server.freeze()
    return server.thaw


def black_hole(_: EmbeddedPostgres, proxy: Proxy) -> Callable[[], object]:
    """Lose every packet; return what ends it."""
    proxy.silence()

    def end() -> None:
        proxy.pass_through()
        proxy.cut()

    return end


@pytest.mark.parametrize("strike", [freeze, black_hole])
def test_a_silent_standby_costs_a_reader_one_ping_timeout(
    cluster: Cluster, strike: Callable[[EmbeddedPostgres, Proxy], Callable[[], object]]
) -> None:
    """Row 17: the others read as fast as before; it comes back by itself."""
    bad = cluster.standbys[0]
    others = [server.port for server in cluster.servers if server is not bad]
    with Proxy(bad.port) as proxy:
        dsn = dsn_of(proxy.port, *others, connect_timeout=2)
        with ConnectionPool(dsn, max_size=READERS, ping_timeout=PING) as pool:
            used(pool)
            with Traffic(pool, readers=READERS, pause=0.01) as traffic:
                began = time.monotonic()
                traffic.go_on(reads=1000)
                struck = time.monotonic()
                with struck_by(strike, bad, proxy):
                    until(lambda: is_down(pool, proxy), 5.0)
                    settled = time.monotonic()
                    traffic.go_on(reads=1000)
                    ended = time.monotonic()
                    assert_sound(pool)
                until(lambda: proxy.port in shares(traffic.reads[-100:]), 20.0)
            assert_at_rest(pool)
    assert settled - struck < 1.0 + PING + SLACK  # a probe found out, or a ping before
    assert longest_acquire(traffic.reads) < PING + SLACK
    # Whoever was in the middle of a query waits for its answer, as without a pool.
    assert all(one.asked < struck + PING + SLACK for one in failed(traffic.reads))
    assert {one.port for one in asked(traffic.reads, settled, ended)} <= set(others)
    healthy = waits(asked(traffic.reads, began, struck))
    hurt = waits(asked(traffic.reads, settled + PING, ended))
    assert len(hurt) > 100
    assert percentile(hurt, 99) < 2 * percentile(healthy, 99) + NOISE


@contextlib.contextmanager
def struck_by(
    strike: Callable[[EmbeddedPostgres, Proxy], Callable[[], object]],
    server: EmbeddedPostgres,
    proxy: Proxy,
) -> Iterator[None]:
    """Let a server suffer for the time of a block."""
    end = strike(server, proxy)
    try:
        yield
    finally:
        end()


def is_down(pool: ConnectionPool, proxy: Proxy) -> bool:
    """Return whether the pool knows that what is behind a proxy is down."""
    name = f"{proxy.host}:{proxy.port}"
    return any((one.name, one.state) == (name, "down") for one in pool.endpoints)


def longest_acquire(requests: list[Request]) -> float:
    """Return how long it took at most to be served."""
    return max(one.served - one.asked for one in requests if one.served is not None)


@pytest.mark.parametrize("balance", ["least_in_use", "nearest"])
def test_a_standby_ten_times_slower_reads_little(
    cluster: Cluster, balance: Literal["least_in_use", "nearest"]
) -> None:
    """Row 33: at most 15 %, of three."""
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(s.port)) for s in cluster.standbys]
        for proxy, latency in zip(proxies, (0.02, 0.002, 0.002), strict=True):
            proxy.slow(latency)
        dsn = dsn_of(cluster.primary.port, *(proxy.port for proxy in proxies))
        with ConnectionPool(dsn, max_size=READERS, balance=balance) as pool:
            used(pool)
            with Traffic(pool, readers=READERS, query="SELECT 1") as traffic:
                traffic.go_on(reads=200)
                now = time.monotonic()
                traffic.go_on(reads=600, timeout=40.0)
            assert_at_rest(pool)
    found = shares(succeeded(traffic.reads, after=now))
    assert found.get(proxies[0].port, 0.0) <= 0.15, found
    if balance == "least_in_use":
        assert found[proxies[1].port] > 0.25, found
        assert found[proxies[2].port] > 0.25, found


def are_about(found: dict[int, float], share: float, number: int) -> bool:
    """Return whether so many servers have about such a share each."""
    return len(found) == number and all(
        abs(one - share) < 0.1 for one in found.values()
    )


def test_what_two_of_three_share_and_then_three_again(cluster: Cluster) -> None:
    """Row 33: half each while one is dead, within 10 %; a third when it is back."""
    dead = cluster.standbys[1]
    with ConnectionPool(cluster.dsn(), max_size=READERS) as pool:
        used(pool)
        with Traffic(pool, readers=READERS) as traffic:
            now = time.monotonic()
            traffic.go_on(reads=MANY)
            assert are_about(shares(succeeded(traffic.reads, after=now)), 1 / 3, 3)
            dead.kill()
            now = time.monotonic()
            traffic.go_on(reads=MANY)
            found = shares(succeeded(traffic.reads, after=now))
            assert are_about(found, 1 / 2, 2), found
            assert dead.port not in found
            dead.start()
            until(
                lambda: are_about(shares(traffic.reads[-MANY:]), 1 / 3, 3),
                60.0 - SLACK,
                "a third each",
            )
            assert_sound(pool)
        assert len(failed(traffic.reads)) <= READERS
        assert_at_rest(pool)


@contextlib.contextmanager
def paused(cluster: Cluster) -> Iterator[None]:
    """Keep all standbys from replaying for the time of a block."""
    for server in cluster.standbys:
        ask(server, "SELECT pg_wal_replay_pause()")
        until(
            lambda s=server: (
                ask(s, "SELECT pg_get_wal_replay_pause_state()") == "paused"
            )
        )
    try:
        yield
    finally:
        for server in cluster.standbys:
            ask(server, "SELECT pg_wal_replay_resume()")


def write(pool: ConnectionPool, number: int) -> int:
    """Write, and return how far who reads it must be."""
    with pool.connection() as conn:
        ask_on(conn, "INSERT INTO written VALUES (%s)", number)
        conn.commit()
        position = pool.written(conn)
    assert position is not None
    return position


def read_after(pool: ConnectionPool, position: int, number: int) -> tuple[int, int]:
    """Return where what was written is looked for, and how often it is there."""
    conn = pool.acquire(read_only=True, after=position)
    assert conn.hold is not None
    try:
        query = "SELECT count(*) FROM written WHERE number = %s"
        return conn.info.port, ask_on(conn, query, number)
    finally:
        pool.release(conn, conn.hold)


def test_who_wrote_reads_it_and_others_read_the_standbys_until_max_lag(
    cluster: Cluster,
) -> None:
    """Row 21: a thousand pairs while nothing is replayed, none stale."""
    primary = cluster.primary.port
    standbys = {server.port for server in cluster.standbys}
    with ConnectionPool(cluster.dsn(), max_size=4, max_lag=3.0) as pool:
        used(pool)

        def pair(number: int) -> tuple[int, int]:
            return read_after(pool, write(pool, number), number)

        with paused(cluster):
            write(pool, 0)
            began = time.monotonic()
            ports = set()
            with ThreadPoolExecutor(4) as executor:
                pairs = executor.map(pair, range(1, 1001))
                while time.monotonic() < began + 1.5:
                    ports.add(read(pool))
                found = list(pairs)
            assert found == [(primary, 1)] * 1000
            assert ports <= standbys
            until(lambda: read(pool) == primary, 10.0, "the standbys are late")
            assert time.monotonic() - began > 2.0
        until(lambda: read(pool) in standbys, 10.0, "they caught up")
        position = write(pool, 1001)
        until(lambda: read_after(pool, position, 1001)[0] in standbys)
        assert read_after(pool, position, 1001)[1] == 1
        assert_at_rest(pool)


def test_a_standby_that_was_late_before_the_pool_was_made_does_not_read(
    cluster: Cluster,
) -> None:
    """Row 21: how old its data are is not known, so they may be too old."""
    with paused(cluster):
        ask(cluster.primary, "INSERT INTO written VALUES (1)")
        with ConnectionPool(cluster.dsn(), max_lag=5.0) as pool:
            until(lambda: all(one.role is not None for one in pool.endpoints))
            ends = time.monotonic() + 1.5
            while time.monotonic() < ends:
                assert read(pool) == cluster.primary.port
            # Once they have caught up, how late they are is known.
            for server in cluster.standbys:
                ask(server, "SELECT pg_wal_replay_resume()")
            until(lambda: read(pool) != cluster.primary.port)
            assert_at_rest(pool)


def test_a_first_server_that_is_silent_costs_nobody_anything(
    cluster: Cluster,
) -> None:
    """Row 17: the first acquire at most connect_timeout, the next thousand nothing."""
    with Proxy(cluster.standbys[0].port) as proxy:
        proxy.silence()
        dsn = dsn_of(proxy.port, cluster.primary.port, connect_timeout=2)
        with ConnectionPool(dsn, max_size=2, timeout=8.0) as pool:
            times = []
            for number in range(1001):
                began = time.monotonic()
                with pool.connection(read_only=bool(number % 2)) as conn:
                    times.append(time.monotonic() - began)
                    assert conn.info.port == cluster.primary.port
            assert times[0] < 2.0 + SLACK
            assert max(times[1:]) < 1.0
            assert sorted(times)[990] < NOISE
            assert proxy.accepted >= 1
            with pytest.raises(EndpointDown):
                ConnectionPool(dsn_of(proxy.port, connect_timeout=2)).getconn(0.5)
            proxy.pass_through()
            proxy.cut()
            until(lambda: read(pool) == proxy.port, 10.0, "it is back")
        assert_at_rest(pool)

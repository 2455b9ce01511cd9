"""Another server becomes the primary: as planned, by a kill, or beside the old one."""

import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool, NoPrimary
from pgdbpool.demo.cluster import SYNCHRONOUS, Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask
from pgdbpool.endpoint.standing import Role
from tests.asking import ask as ask_on
from tests.chaos.failovers import (
    PROMISED,
    SLACK,
    assert_one_failure_each,
    changed_over,
    first_write,
    promotion,
    role,
)
from tests.chaos.traffic import (
    TABLE,
    Traffic,
    failed,
    longest_gap,
    numbers_of,
    waits,
)
from tests.clusters import timeline
from tests.endpoints import used
from tests.proxy import Proxy
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import let_pass, until

PING = 0.5
SYNCHRONIZED = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"


@pytest.fixture
def cluster(breakable: Cluster) -> Cluster:
    """Give a primary and two standbys, and an empty table, to one test."""
    ask(breakable.primary, TABLE)
    ask(breakable.primary, "TRUNCATE written")
    breakable.wait_until_replayed()
    return breakable


def test_a_switch_over_costs_what_is_in_flight_and_half_a_second(
    cluster: Cluster,
) -> None:
    """Row 1: the old primary is a standby then, and nobody writes to it."""
    old = cluster.primary

    changed_over(cluster, cluster.switch_over, back=old)

    assert cluster.primary is not old


def test_nothing_is_in_flight_nothing_fails(cluster: Cluster) -> None:
    """Row 1: a pool that nobody used meanwhile finds the new primary by itself."""
    with ConnectionPool(cluster.dsn(), min_size=2, max_size=4) as pool:
        with pool.connection() as conn:
            assert conn.info.port == cluster.primary.port
        used(pool)
        cluster.switch_over()
        with pool.connection() as conn:
            assert conn.info.port == cluster.primary.port
            ask_on(conn, "INSERT INTO written VALUES (1)")
        assert pool.get_stats()["requests_errors"] == 0
        assert_at_rest(pool)


@pytest.fixture
def proxies(cluster: Cluster) -> Iterator[dict[EmbeddedPostgres, Proxy]]:
    """Give a proxy before each server of the cluster."""
    with contextlib.ExitStack() as stack:
        yield {
            server: stack.enter_context(Proxy(server.port))
            for server in cluster.servers
        }


def proxied(proxies: dict[EmbeddedPostgres, Proxy]) -> str:
    """Return the DSN of all of them."""
    hosts = ",".join(proxy.host for proxy in proxies.values())
    ports = ",".join(str(proxy.port) for proxy in proxies.values())
    return make_dsn(None, host=hosts, port=ports, dbname="postgres", user="postgres")


def test_a_switch_over_behind_a_network_that_says_nothing(
    cluster: Cluster, proxies: dict[EmbeddedPostgres, Proxy]
) -> None:
    """Row 1: no client socket is closed; a ping finds out, and the probes do."""
    old = cluster.primary
    dsn = proxied(proxies)
    with ConnectionPool(dsn, max_size=8, min_size=4, ping_timeout=PING) as pool:
        used(pool)
        with Traffic(pool, writers=4, readers=4, pause=0.02) as traffic:
            traffic.go_on(writes=100, reads=100)
            proxies[old].silence()
            with promotion(cluster) as noted:
                cluster.switch_over()
            proxies[old].pass_through()
            links = proxies[old].links
            # Those in flight wait for an answer, which no pool can give them.
            cut = time.monotonic()
            traffic.go_on(reads=100)
            proxies[old].cut_broken()
            traffic.go_on(writes=100, reads=100)
            assert_sound(pool)
        assert_at_rest(pool)
    assert links > 0
    limit = PROMISED + PING + SLACK
    assert first_write(traffic, noted[0]) - noted[0] < limit + (cut - noted[0])
    assert_one_failure_each(traffic, noted[0])
    after = [one for one in traffic.writes if one.asked > noted[0]]
    assert {one.port for one in after} == {proxies[cluster.primary].port}
    assert traffic.acknowledged() <= numbers_of(cluster.primary)


@pytest.fixture
def synchronous(cluster: Cluster) -> Cluster:
    """Give a cluster whose acknowledged commits survive the primary."""
    for server in cluster.servers:
        for name, value in SYNCHRONOUS.items():
            ask(server, f"ALTER SYSTEM SET {name} = '{value}'")
        ask(server, "SELECT pg_reload_conf()")
    until(lambda: ask(cluster.primary, SYNCHRONIZED) == 2)
    return cluster


@pytest.mark.parametrize(
    "kills",
    [1, pytest.param(6, marks=[pytest.mark.slow, pytest.mark.timeout(120)])],
)
def test_a_kill_loses_no_acknowledged_write_and_stops_no_read(
    synchronous: Cluster, kills: int
) -> None:
    """Row 1: sixteen threads, synchronous replication, kill -9, for 3 s a kill."""
    cluster = synchronous
    with ConnectionPool(cluster.dsn(), max_size=8, timeout=5.0) as pool:
        used(pool)
        with Traffic(pool, writers=8, readers=8) as traffic:
            traffic.go_on(writes=200, reads=200)
            for _ in range(kills):
                old = cluster.primary
                old.kill()
                cluster.fail_over()
                traffic.go_on(writes=100, reads=200)
                cluster.rejoin(old)
                let_pass(3.0)
                assert_sound(pool)
            traffic.go_on(writes=100, reads=100)
        assert_at_rest(pool)
    cluster.wait_until_replayed()
    assert not traffic.acknowledged() - numbers_of(cluster.primary)
    assert len(failed(traffic.writes)) <= 8 * kills
    assert not failed(traffic.reads)
    assert waits(traffic.reads)[-1] < 5.0
    assert longest_gap(traffic.reads) < 1.0


def promote(server: EmbeddedPostgres) -> None:
    """Make a standby a primary, whoever else is one."""
    assert ask(server, "SELECT pg_promote(true, 30)")


def doubts(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of a second primary."""
    said = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]
    return [text for text in said if "says it is the primary" in text]


def test_of_two_primaries_the_promoted_one_is_written_to(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 1: split brain; writes change over once, and one warning says why."""
    old, new = cluster.primary, cluster.standbys[0]
    try:
        with ConnectionPool(cluster.dsn(), max_size=8) as pool:
            used(pool)
            with Traffic(pool, writers=6, readers=2) as traffic:
                traffic.go_on(writes=100)
                promote(new)
                until(lambda: role(pool, new) is Role.PRIMARY)
                traffic.go_on(writes=500)
                let_pass(2.5)  # two probes of each could warn again
                assert_sound(pool)
            assert_at_rest(pool)
            assert timeline(new) > timeline(old)
        assert not failed(traffic.writes)
        over = min(one.ended for one in traffic.writes if one.port == new.port)
        late = [one for one in traffic.writes if one.asked > over]
        assert len(late) > 400
        assert {one.port for one in late} == {new.port}
        assert len(doubts(caplog)) == 1
        assert f"127.0.0.1:{old.port} says it is the primary" in doubts(caplog)[0]
    finally:
        new.kill()  # so that the cluster can be mended


def test_an_old_primary_that_comes_back_as_such_is_not_written_to(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 1: nobody demoted it, and it says it is the primary; so it was."""
    old = cluster.primary
    try:
        with ConnectionPool(cluster.dsn(), max_size=8) as pool:
            used(pool)
            with Traffic(pool, writers=4, readers=4) as traffic:
                traffic.go_on(writes=100)
                cluster.fail_over()
                traffic.go_on(writes=100, reads=100)
                old.start()
                came_back = time.monotonic()
                until(lambda: doubts(caplog))
                traffic.go_on(writes=300, reads=300)
                assert_sound(pool)
            assert_at_rest(pool)
        served = {one.port for one in traffic.writes if one.asked > came_back}
        assert served == {cluster.primary.port}
        reads = {one.port for one in traffic.reads if one.asked > came_back}
        assert old.port not in reads
        assert len(doubts(caplog)) == 1
        late = {one.number for one in traffic.writes if one.asked > came_back}
        assert not late & numbers_of(old)
        assert late <= numbers_of(cluster.primary)
    finally:
        old.kill()


def test_without_a_primary_writers_are_told_and_a_promotion_heals_it(
    cluster: Cluster,
) -> None:
    """Row 1: refused after grace, at once, by name; readers read; no restart."""
    with ConnectionPool(cluster.dsn(), grace=0.5, timeout=3.0) as pool:
        used(pool)
        with Traffic(pool, readers=2) as traffic:
            cluster.primary.kill()
            with pytest.raises(NoPrimary) as caught:
                pool.getconn()
            for server in cluster.standbys:
                assert f":{server.port} has been a standby for" in str(caught.value)
            began = time.monotonic()
            with pytest.raises(NoPrimary):
                pool.getconn()
            assert time.monotonic() - began < 0.2
            traffic.go_on(reads=100)
            with promotion(cluster) as noted:
                cluster.fail_over()
            until(lambda: writes(pool))
            assert time.monotonic() - noted[0] < PROMISED + SLACK
            traffic.go_on(reads=100)
        assert not failed(traffic.reads)
        assert_at_rest(pool)


def writes(pool: ConnectionPool) -> bool:
    """Return whether a write succeeds."""
    with contextlib.suppress(NoPrimary), pool.connection() as conn:
        ask_on(conn, "INSERT INTO written VALUES (7)")
        return True
    return False


def test_who_waits_for_a_primary_is_served_by_the_promoted_one(
    cluster: Cluster,
) -> None:
    """Row 1: within grace nobody is refused, however many wait."""
    with ConnectionPool(cluster.dsn(), max_size=4, timeout=10.0, grace=10.0) as pool:
        used(pool)
        cluster.primary.kill()
        with ThreadPoolExecutor(16) as executor:
            waiters = [executor.submit(writes, pool) for _ in range(16)]
            until(lambda: pool.get_stats()["requests_waiting"] == 16)
            cluster.fail_over()
            assert all(waiter.result(10.0) for waiter in waiters)
        assert_at_rest(pool)

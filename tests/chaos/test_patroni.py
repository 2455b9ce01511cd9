"""A real Patroni decides who is the primary: as planned, or after a kill.

The leader's kill takes Patroni with it, or Patroni would start the server again. So
the others learn of it when its ttl ends, which is 20 s or more.
"""

import time
from collections.abc import Iterator, Sequence

import pytest

from pgdbpool import ConnectionPool, NoPrimary
from pgdbpool.demo.standby import ask
from pgdbpool.endpoint.standing import Role
from tests.chaos.failovers import (
    PROMISED,
    SLACK,
    changed_over,
    first_write,
    promotion,
    role,
)
from tests.chaos.traffic import (
    TABLE,
    Request,
    Traffic,
    failed,
    longest_gap,
    numbers_of,
    succeeded,
    waits,
)
from tests.endpoints import port, used
from tests.patroni import TTL, PatroniCluster, needs_patroni
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

pytestmark = [needs_patroni, pytest.mark.slow, pytest.mark.timeout(180)]

GRACE = 2.0  # far below the `TTL`
FAILOVER = TTL + 20.0  # seconds, in which Patroni has promoted somebody for sure


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[PatroniCluster]:
    """Give a leader, a synchronous standby and another to all tests."""
    with PatroniCluster() as cluster:
        ask(cluster.primary, TABLE)
        yield cluster


@pytest.fixture
def cluster(module_cluster: PatroniCluster) -> Iterator[PatroniCluster]:
    """Lend them to one test."""
    ask(module_cluster.primary, "TRUNCATE written")
    module_cluster.wait_until_replayed()
    yield module_cluster
    module_cluster.mend()


def fail_over(cluster: PatroniCluster) -> tuple[float, float]:
    """Kill the leader, and return when it was dead and when another took writes."""
    with promotion(cluster) as noted:
        cluster.primary.kill()
        dead = time.monotonic()
        until(lambda: noted, FAILOVER, "Patroni promoted a standby")
    return dead, noted[0]


def refusals(traffic: Traffic) -> list[Request]:
    """Return the writers who were refused for want of a primary."""
    return [one for one in failed(traffic.writes) if isinstance(one.error, NoPrimary)]


def assert_others_were_in_flight(traffic: Traffic, before: float) -> None:
    """Fail if one not refused failed twice, or had asked after a moment."""
    errors = [
        one for one in failed(traffic.writes) if not isinstance(one.error, NoPrimary)
    ]
    assert len({one.thread for one in errors}) == len(errors), errors
    assert not [one for one in errors if one.asked > before], errors


def roles(pool: ConnectionPool) -> set[Role | None]:
    """Return what a pool takes its servers for."""
    return {one.role for one in pool.endpoints}


def ports(requests: Sequence[Request], *, after: float) -> set[int | None]:
    """Return who served those that were asked after a moment."""
    return {one.port for one in succeeded(requests, after=after)}


def test_a_switchover_costs_what_is_in_flight_and_half_a_second(
    cluster: PatroniCluster,
) -> None:
    """Row 1: `POST /switchover` under load; the old leader serves reads then."""
    old = cluster.primary

    traffic = changed_over(cluster, cluster.switch_over, back=old)

    assert cluster.primary is not old
    assert longest_gap(traffic.reads) < 1.0


def test_a_killed_leader_costs_no_acknowledged_write_and_no_read(
    cluster: PatroniCluster,
) -> None:
    """Row 1: writers are refused from the end of grace on, until Patroni acts.

    That takes its ttl. Who asks for a connection meanwhile is told `NoPrimary`; the
    only other errors are of those in flight.
    """
    with ConnectionPool(cluster.dsn(), max_size=8, grace=GRACE) as pool:
        used(pool)
        with Traffic(pool, writers=8, readers=8, pause=0.02) as traffic:
            traffic.go_on(writes=100, reads=100)
            began = time.monotonic()
            dead, promoted = fail_over(cluster)
            traffic.go_on(writes=100, reads=100)
            assert_sound(pool)
        assert_at_rest(pool)
    resumed = first_write(traffic, promoted)
    assert resumed - promoted < PROMISED + SLACK
    assert not [one for one in failed(traffic.writes) if one.asked > resumed]
    assert_others_were_in_flight(traffic, dead)
    refused = refusals(traffic)
    assert min(one.ended for one in refused) - began >= GRACE
    assert waits([one for one in refused if one.asked > dead + GRACE])[-1] < SLACK
    assert not failed(traffic.reads)
    assert waits(traffic.reads)[-1] < 5.0
    assert longest_gap(traffic.reads) < 1.0
    assert traffic.acknowledged() <= numbers_of(cluster.primary)


def test_a_killed_leader_comes_back_as_a_standby_and_serves_reads(
    cluster: PatroniCluster,
) -> None:
    """Row 1: its Patroni is started, and nobody else does anything."""
    old = cluster.primary
    with ConnectionPool(cluster.dsn(), max_size=8, grace=GRACE) as pool:
        used(pool)
        with Traffic(pool, writers=2, readers=4, pause=0.02) as traffic:
            traffic.go_on(writes=100, reads=100)
            fail_over(cluster)
            traffic.go_on(writes=100, reads=100)
            came_back = time.monotonic()
            old.start()
            cluster.wait_until_whole()
            follows = time.monotonic()
            until(lambda: old.port in ports(traffic.reads, after=follows), 30.0)
            assert role(pool, old) is Role.STANDBY
            traffic.go_on(writes=100, reads=100)
            assert_sound(pool)
        assert_at_rest(pool)
    assert ports(traffic.writes, after=came_back) == {cluster.primary.port}
    assert not [one for one in failed(traffic.writes) if one.asked > came_back]
    assert not failed(traffic.reads)
    assert traffic.acknowledged() <= numbers_of(cluster.primary)


def test_a_leader_whose_patroni_is_stopped_is_followed_at_once(
    cluster: PatroniCluster,
) -> None:
    """Row 1: as before maintenance; it gives its part away, so nobody is refused."""
    changed_over(cluster, cluster.primary.stop)


def test_a_leader_without_its_patroni_is_not_written_to_once_another_is(
    cluster: PatroniCluster,
) -> None:
    """Row 1: Patroni alone dies, so there are two primaries until it is started.

    Whose COMMIT the old one cannot acknowledge waits for that; nobody else does.
    """
    old = cluster.primary
    with ConnectionPool(cluster.dsn(), max_size=8) as pool:
        used(pool)
        with Traffic(pool, writers=4, readers=4, pause=0.02) as traffic:
            traffic.go_on(writes=100, reads=100)
            with promotion(cluster) as noted:
                old.kill_patroni()
                until(lambda: noted, FAILOVER, "Patroni promoted a standby")
            until(lambda: port(pool) != old.port, message="the pool believes it")
            changed = time.monotonic()
            assert not ask(old, "SELECT pg_is_in_recovery()")
            old.start()
            cluster.wait_until_whole()
            until(lambda: role(pool, old) is Role.STANDBY, 30.0)
            traffic.go_on(writes=100, reads=100)
            assert_sound(pool)
        assert_at_rest(pool)
    assert not refusals(traffic)
    assert_others_were_in_flight(traffic, changed)
    assert not failed(traffic.reads)
    assert ports(traffic.writes, after=changed) == {cluster.primary.port}
    assert traffic.acknowledged() <= numbers_of(cluster.primary)


def test_without_etcd_there_is_no_primary_and_all_serve_reads(
    cluster: PatroniCluster,
) -> None:
    """Row 1: Patroni demotes a leader that cannot prove to be one; etcd heals it."""
    with ConnectionPool(cluster.dsn(), max_size=8, grace=GRACE) as pool:
        used(pool)
        with Traffic(pool, writers=4, readers=4, pause=0.02) as traffic:
            traffic.go_on(writes=100, reads=100)
            cluster.etcd.freeze()
            until(lambda: roles(pool) == {Role.STANDBY}, FAILOVER)
            demoted = time.monotonic()
            until(lambda: refusals(traffic), message="a writer was refused")
            traffic.go_on(reads=500)
            served = ports(traffic.reads, after=demoted)
            cluster.etcd.thaw()
            traffic.go_on(writes=100, reads=100, timeout=FAILOVER)
            assert_sound(pool)
        assert_at_rest(pool)
    assert served == {server.port for server in cluster.servers}
    assert_others_were_in_flight(traffic, demoted)
    assert not failed(traffic.reads)
    assert longest_gap(traffic.reads) < 1.0
    assert traffic.acknowledged() <= numbers_of(cluster.primary)

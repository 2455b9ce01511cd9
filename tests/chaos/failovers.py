"""What a change of the primary may cost, and what is watched while it lasts."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2

from pgdbpool import ConnectionPool
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint.standing import Role
from tests.asking import ask
from tests.chaos.traffic import Traffic, failed, numbers_of
from tests.endpoints import name, used
from tests.patroni import PatroniCluster
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

Replicated = Cluster | PatroniCluster

PROMISED = 0.5  # seconds from the promotion to the first write
SLACK = 0.7  # two cores, four servers, sixteen threads


def role(pool: ConnectionPool, server: EmbeddedPostgres) -> Role | None:
    """Return what a pool takes a server for."""
    return {one.name: one.role for one in pool.endpoints}[name(server)]


@contextlib.contextmanager
def promotion(cluster: Replicated) -> Iterator[list[float]]:
    """Note when the first of the standbys takes writes; it is there at the end."""
    noted: list[float] = []
    over = threading.Event()

    def watch(server: EmbeddedPostgres) -> None:
        with contextlib.closing(psycopg2.connect(server.dsn())) as conn:
            conn.autocommit = True
            while not over.wait(0.005):
                if not ask(conn, "SELECT pg_is_in_recovery()"):
                    noted.append(time.monotonic())
                    return

    with ThreadPoolExecutor(4) as executor:
        for server in cluster.standbys:
            executor.submit(watch, server)
        try:
            yield noted
            until(lambda: noted, message="a standby was promoted")
        finally:
            over.set()


def first_write(traffic: Traffic, after: float) -> float:
    """Return when the first write ended that was served after a moment."""
    return min(
        one.ended
        for one in traffic.writes
        if one.error is None and one.served is not None and one.served > after
    )


def assert_one_failure_each(traffic: Traffic, before: float) -> None:
    """Fail if a thread failed twice, or somebody who asked after a moment."""
    errors = failed(traffic.writes + traffic.reads)
    threads = [one.thread for one in errors]
    assert len(set(threads)) == len(threads), errors
    assert not [one for one in errors if one.asked > before], errors


def changed_over(
    cluster: Replicated,
    change: Callable[[], object],
    back: EmbeddedPostgres | None = None,
) -> Traffic:
    """Have traffic through a planned change of the primary, and return it.

    Fails if it costs more than what was in flight and the seconds that are promised.

    Args:
        cluster: whose primary changes.
        change: makes another the primary.
        back: who is a standby of it afterwards, before the traffic ends.
    """
    with ConnectionPool(cluster.dsn(), max_size=8) as pool:
        used(pool)
        with Traffic(pool, writers=4, readers=4) as traffic:
            traffic.go_on(writes=100, reads=100)
            with promotion(cluster) as noted:
                change()
            traffic.go_on(writes=100, reads=100)
            if back is not None:
                until(lambda: role(pool, back) is Role.STANDBY, 30.0)
                traffic.go_on(writes=100, reads=100)
            assert_sound(pool)
        assert_at_rest(pool)
    assert first_write(traffic, noted[0]) - noted[0] < PROMISED + SLACK
    assert_one_failure_each(traffic, noted[0])
    assert not failed(traffic.reads)
    after = [one for one in traffic.writes if one.asked > noted[0]]
    assert {one.port for one in after} == {cluster.primary.port}
    assert traffic.acknowledged() <= numbers_of(cluster.primary)
    return traffic

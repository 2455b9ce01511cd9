"""Several servers in a storm: sessions killed, roles changed, callers interrupted."""

import functools
import itertools
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool import ConnectionPool
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.standby import ask as ask_server
from tests.asking import ask
from tests.chaos.interrupting import interrupt
from tests.chaos.traffic import TABLE
from tests.endpoints import port, ports, used
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

VICTIM = f"""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE right(application_name, {len(f"/{os.getpid()}")}) = '/{os.getpid()}'
    ORDER BY random() LIMIT 1
"""


@pytest.fixture
def cluster(breakable: Cluster) -> Cluster:
    """Give a primary and two standbys to one test."""
    ask_server(breakable.primary, TABLE)
    breakable.wait_until_replayed()
    return breakable


# What makes a storm, and how much longer it may take on a busy machine, seconds.
ENOUGH = {
    **dict.fromkeys(("killed", "lost", "raised", "forgotten", "care"), 5),
    **dict.fromkeys(("reads", "writes"), 200),
    "changes of the primary": 2,
}
PATIENCE = 20.0


class Storm:
    """Threads that read and write, give up, forget, raise; and what befalls them."""

    def __init__(self, pool: ConnectionPool, cluster: Cluster, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._pool = pool
        self._cluster = cluster
        self._random = random.Random(seed)
        self._over = threading.Event()

    def run(self, seconds: float, threads: int) -> None:
        """Let it storm for some seconds; half the threads read."""
        crew = [
            threading.Thread(target=self._work, args=(number % 2 > 0,))
            for number in range(threads)
        ]
        for thread in crew:
            thread.start()
        try:
            self._strike(time.monotonic() + seconds)
        finally:
            self._over.set()
            for thread in crew:
                thread.join(20.0)

    def _has_stormed(self) -> bool:
        """Whether all that is to happen has happened often enough."""
        return all(self.counts[what] >= often for what, often in ENOUGH.items())

    def _strike(self, ends: float) -> None:
        next_change = time.monotonic() + 1.0
        longest = ends + PATIENCE
        while not self.errors and time.monotonic() < longest:
            if time.monotonic() > ends and self._has_stormed():
                return
            assert_sound(self._pool)
            blow = self._random.choice((self._kill, self._kill, self._care))
            blow()
            if time.monotonic() > next_change:
                self._change()
                next_change = time.monotonic() + self._random.uniform(0.5, 2.0)
            time.sleep(self._random.random() * 0.05)

    def _kill(self) -> None:
        server = self._random.choice(self._cluster.servers)
        self.counts["killed"] += bool(ask_server(server, VICTIM))

    def _care(self) -> None:
        care = self._random.choice((self._pool.drain, self._pool.check, None, None))
        if care is not None:
            care()
            self.counts["care"] += 1

    def _change(self) -> None:
        if self._random.random() < 0.6:
            self._cluster.switch_over()
        else:
            old = self._cluster.primary
            self._cluster.fail_over()
            self._cluster.rejoin(old)
        self.counts["changes of the primary"] += 1

    def _work(self, is_reading: bool) -> None:  # noqa: FBT001 - a thread's body
        while not self._over.is_set():
            act = self._random.choice((self._ask, self._ask, self._raise, self._forget))
            try:
                act(is_reading)
            except ZeroDivisionError:
                self.counts["raised"] += 1
            except sqlstate.ReadOnlySqlTransaction as error:
                self.errors.append(repr(error))  # a write on a standby
            except psycopg2.OperationalError:
                self.counts["lost"] += 1
            except Exception as error:  # noqa: BLE001 - told at the end
                self.errors.append(repr(error))

    def _ask(self, is_reading: bool) -> None:  # noqa: FBT001 - as `_work`
        with self._pool.connection(read_only=is_reading) as conn:
            ask(conn, "SELECT 1" if is_reading else "INSERT INTO written VALUES (1)")
        self.counts["reads" if is_reading else "writes"] += 1

    def _raise(self, is_reading: bool) -> None:  # noqa: FBT001 - as `_work`
        with self._pool.connection(read_only=is_reading) as conn:
            ask(conn, "SELECT 1")
            raise ZeroDivisionError

    def _forget(self, is_reading: bool) -> None:  # noqa: FBT001 - as `_work`
        conn = self._pool.getconn(read_only=is_reading, timeout=0.1)
        if self._random.random() < 0.1:
            self.counts["forgotten"] += 1
            del conn
        else:
            self._pool.putconn(conn)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize(
    "seconds",
    [4.0, pytest.param(15.0, marks=[pytest.mark.slow, pytest.mark.timeout(120)])],
)
def test_a_storm_over_three_servers_leaves_the_pool_whole(
    cluster: Cluster, seconds: float
) -> None:
    """Row 1: whatever befalls them, no write is on a standby and nothing is lost."""
    seed = random.randrange(10**9)
    with ConnectionPool(
        cluster.dsn(), max_size=3, ping_timeout=1.0, max_lifetime=2.0
    ) as pool:
        storm = Storm(used(pool), cluster, seed)
        storm.run(seconds, 12)
        assert not storm.errors, f"seed {seed}"
        stats = pool.get_stats()
        assert storm._has_stormed(), storm.counts
        assert stats["requests_queued"] > 200, stats
        assert_at_rest(pool)
        assert_all_are_probed(pool)
        until(lambda: port(pool) == cluster.primary.port)
        until(lambda: port(pool, read_only=True) in ports(cluster.standbys))


def assert_all_are_probed(pool: ConnectionPool) -> None:
    """Fail unless each server is asked again soon."""
    before = [one.round_trip for one in pool.endpoints]

    def are_new() -> bool:
        pairs = zip(pool.endpoints, before, strict=True)
        return all(one.round_trip != trip for one, trip in pairs)

    until(are_new, message="all servers were probed again")


def write(pool: ConnectionPool) -> None:
    """Make a transaction on the primary."""
    with pool.connection() as conn:
        ask(conn, "SELECT 1")


def read(pool: ConnectionPool) -> None:
    """Make a transaction on a standby."""
    with pool.connection(read_only=True) as conn:
        ask(conn, "SELECT 1")


@pytest.mark.no_cover  # sets a trace function of its own
@pytest.mark.parametrize("work", [write, read])
def test_an_interrupt_at_any_bytecode_costs_no_server_its_probes(
    cluster: Cluster, work: Callable[[ConnectionPool], None]
) -> None:
    """Row 30: whoever is interrupted while all servers are due to be asked."""
    found: list[str] = []
    struck = missed = 0
    with used(ConnectionPool(cluster.dsn(), max_size=2, timeout=3.0)) as pool:
        for n in itertools.count(1):
            with pool._lock:
                for endpoint in pool._roster.endpoints:
                    endpoint.standing.probe_at = 0.0
            place = interrupt(functools.partial(work, pool), n)
            struck, missed = struck + bool(place), 0 if place else missed + 1
            if missed == 3 or len(found) == 5:
                break
            try:
                write(pool)
                read(pool)
                until(lambda: is_asking(pool), 3.0)
            except (AssertionError, psycopg2.Error) as error:
                found.append(f"{place}: {error!r}")
                break
        assert not found
        assert struck > 20
        assert_at_rest(pool)


def is_asking(pool: ConnectionPool) -> bool:
    """Return whether each server has been asked, or will be."""
    with pool._lock:
        endpoints = pool._roster.endpoints
        return all(0.0 < one.standing.probe_at < math.inf for one in endpoints)

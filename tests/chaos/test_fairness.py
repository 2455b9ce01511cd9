"""Many threads on few connections: in turn, and in a storm."""

import contextlib
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolTimeout
from tests.observer import backends, observe
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

THREADS = 100
CONNECTIONS = 10
HOLD = 0.02


def test_a_hundred_threads_wait_no_longer_than_their_turn(dsn: str) -> None:
    """Row 39: FIFO, so the longest wait is about the average, whatever the crowd."""
    waits: list[float] = []
    holds: list[float] = []
    all_there = threading.Barrier(THREADS)

    def work() -> None:
        all_there.wait(10.0)
        for _ in range(4):
            asked = time.monotonic()
            with pool.connection():
                began = time.monotonic()
                waits.append(began - asked)
                time.sleep(HOLD)
            holds.append(time.monotonic() - began)

    with ConnectionPool(
        dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, timeout=20.0
    ) as pool:
        pool.wait()
        with ThreadPoolExecutor(THREADS) as executor:
            for future in [executor.submit(work) for _ in range(THREADS)]:
                future.result(30.0)
        ideal = THREADS / CONNECTIONS * sum(holds) / len(holds)
        assert max(waits) <= 3 * ideal
        assert pool.get_stats()["requests_queued"] > 3 * THREADS
        assert_at_rest(pool)


def test_who_came_first_is_served_first(dsn: str) -> None:
    """Row 39: in the order of arrival, without exception."""
    order: list[int] = []

    def work(number: int) -> None:
        with pool.connection():
            order.append(number)

    with ConnectionPool(dsn, max_size=1, timeout=20.0) as pool:
        conn = pool.getconn()
        with ThreadPoolExecutor(20) as executor:
            for number in range(20):
                executor.submit(work, number)
                until(lambda n=number: pool.get_stats()["requests_waiting"] == n + 1)
            pool.putconn(conn)
        assert order == list(range(20))
        assert_at_rest(pool)


def test_a_newcomer_does_not_overtake_the_line(dsn: str) -> None:
    """Row 39: who releases and asks again stands at the end."""
    turns: Counter[int] = Counter()
    ends = time.monotonic() + 1.0

    def work(number: int) -> None:
        while time.monotonic() < ends:
            with pool.connection():
                turns[number] += 1

    with ConnectionPool(dsn, min_size=2, max_size=2, timeout=20.0) as pool:
        pool.wait()
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(work, range(8)))
        assert min(turns.values()) > 10
        assert max(turns.values()) <= 2 * min(turns.values())
        assert_at_rest(pool)


class Storm:
    """Threads that hold, fail, dawdle, give up, forget; sessions that are killed."""

    def __init__(self, pool: ConnectionPool, seed: int) -> None:
        self.pool = pool
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._random = random.Random(seed)
        self._over = threading.Event()

    def run(self, seconds: float, threads: int, killer: connection, name: str) -> None:
        """Let it storm for some seconds."""
        crew = [threading.Thread(target=self._work) for _ in range(threads)]
        for thread in crew:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.errors:
            self._kill_one(killer, name)
            assert_sound(self.pool)
            time.sleep(self._random.random() * 0.05)
        self._over.set()
        for thread in crew:
            thread.join(20.0)

    def _kill_one(self, killer: connection, name: str) -> None:
        alive = [backend.pid for backend in backends(killer, name)]
        if alive:
            with killer.cursor() as cur:
                cur.execute(
                    "SELECT pg_terminate_backend(%s)", (self._random.choice(alive),)
                )
                self.counts["killed"] += bool(cur.fetchone()[0])

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                self._random.choice(
                    (self._query, self._query, self._raise, self._dawdle, self._forget)
                )()
            except PoolTimeout:
                self.counts["timed out"] += 1
            except psycopg2.OperationalError:
                self.counts["lost"] += 1
            except ZeroDivisionError:
                self.counts["raised"] += 1
            except Exception as error:  # noqa: BLE001 - told at the end
                self.errors.append(repr(error))

    def _query(self) -> None:
        with self.pool.connection(self._random.choice((None, 0.01))) as conn:
            with conn.cursor() as cur:
                me = str(random.random())
                cur.execute("SELECT %s", (me,))
                if cur.fetchone() != (me,):
                    self.errors.append("the answer of another query")
            self.counts["queried"] += 1

    def _raise(self) -> None:
        with self.pool.connection() as conn:
            conn.cursor().execute("SELECT 1")
            raise ZeroDivisionError

    def _dawdle(self) -> None:
        conn = self.pool.getconn(0.02)
        try:
            conn.cursor().execute("SELECT pg_sleep(0.02)")
        finally:
            self.pool.putconn(conn)

    def _forget(self) -> None:
        conn = self.pool.getconn()
        if self._random.random() < 0.1:
            self.counts["forgotten"] += 1
            del conn
        else:
            self.pool.putconn(conn)


@pytest.mark.usefixtures("_quiet")
def test_a_storm_leaves_the_pool_whole(
    dsn: str, server_dsn: str, admin: connection, application_name: str
) -> None:
    """Row 39: 32 threads on 6 connections; whatever happened, nothing is lost."""
    seed = random.randrange(10**9)
    with (
        ConnectionPool(dsn, min_size=2, max_size=6, timeout=5.0) as pool,
        observe(server_dsn) as killer,
    ):
        storm = Storm(pool, seed)
        storm.run(3.0, 32, killer, application_name)
        assert not storm.errors, f"seed {seed}"
        assert_that_it_stormed(storm)
        assert_at_rest(pool)
        stats = pool.get_stats()
        held = [pool.getconn() for _ in range(6)]
        pids = {conn.info.backend_pid for conn in held}
        for conn in held:
            pool.putconn(conn)
        assert len(pids) == 6, "all of its places can be held"
        until(lambda: {b.pid for b in backends(admin, application_name)} == pids)
        assert stats["requests_waiting"] == 0


def assert_that_it_stormed(storm: Storm) -> None:
    """Fail if it was too calm to prove anything."""
    counts, stats = storm.counts, storm.pool.get_stats()
    for what in ("killed", "timed out", "lost", "raised", "forgotten"):
        assert counts[what] >= 5, (what, counts)
    assert counts["queried"] > 100, counts
    assert stats["requests_queued"] > 200, stats
    assert stats["connections_lost"] >= 5, stats


def test_a_timeout_of_zero_takes_what_is_idle_and_never_waits(dsn: str) -> None:
    """Row 39: zero means zero."""
    with ConnectionPool(dsn, max_size=1) as pool:
        pool.wait()
        with pool.connection(timeout=0) as conn:
            conn.cursor().execute("SELECT 1")
            with pytest.raises(PoolTimeout):
                pool.getconn(timeout=0)
        with contextlib.closing(pool.getconn(timeout=0)) as conn:
            pass
        pool.putconn(conn)
        assert_at_rest(pool)

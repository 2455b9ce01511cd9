"""A server that goes away and comes back."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from pgdbpool import ConnectionPool, EndpointDown, PoolTimeout
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.watchdog import watchdog
from tests.asking import ask, pid
from tests.proxy import Proxy
from tests.soundness import assert_at_rest
from tests.waiting import until

SIZE = 16


@pytest.fixture
def full(private_server: EmbeddedPostgres) -> Iterator[ConnectionPool]:
    """Give a pool of sixteen idle connections."""
    dsn = private_server.dsn()
    with ConnectionPool(dsn, min_size=SIZE, max_size=SIZE) as pool:
        pool.wait()
        yield pool
        assert_at_rest(pool)


def bounce(server: EmbeddedPostgres) -> None:
    """Restart as an operator would."""
    server.restart("fast")


def crash(server: EmbeddedPostgres) -> None:
    """Restart after the battery was empty."""
    server.kill()
    server.start()


@pytest.mark.parametrize("go_away_and_come_back", [bounce, crash])
def test_sixteen_stale_connections_cost_one_discovery_and_no_error(
    private_server: EmbeddedPostgres,
    full: ConnectionPool,
    go_away_and_come_back: Callable[[EmbeddedPostgres], None],
) -> None:
    """Failure mode 4: the next hundred acquires all succeed, the first soon."""
    go_away_and_come_back(private_server)
    began = time.monotonic()
    for number in range(100):
        with full.connection() as conn:
            assert ask(conn, "SELECT 1") == 1
        if number == 0:
            assert time.monotonic() - began < 1.0  # the prober may be in its pause
    full.wait()
    stats = full.get_stats()
    assert stats["requests_errors"] == 0
    assert stats["connections_lost"] == 1
    assert stats["connections_num"] - stats["connections_errors"] == 2 * SIZE


def test_a_restart_is_over_before_anyone_asks(
    private_server: EmbeddedPostgres,
) -> None:
    """Failure mode 4: nobody calls meanwhile; the first acquire takes no 200 ms."""
    with ConnectionPool(private_server.dsn(), min_size=SIZE, max_size=SIZE) as pool:
        pool.wait()
        private_server.stop("fast")
        until(lambda: pool.get_stats()["connections_errors"])
        private_server.start()
        until(lambda: pool.get_stats()["pool_available"] == SIZE)
        began = time.monotonic()
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1
        assert time.monotonic() - began < 0.2


def until_served(pool: ConnectionPool, holds: int) -> None:
    """Wait until so many more have acquired."""
    enough = pool.get_stats()["requests_num"] + holds
    until(lambda: pool.get_stats()["requests_num"] > enough)


def test_a_restart_shorter_than_grace_costs_nobody_an_error(
    private_server: EmbeddedPostgres,
) -> None:
    """Eight threads acquire all the while; they wait, and are served."""
    errors: list[BaseException] = []
    is_over = threading.Event()

    def load() -> None:
        while not is_over.is_set():
            try:
                pool.putconn(pool.getconn())
            except psycopg2.Error as error:
                errors.append(error)

    with ConnectionPool(private_server.dsn(), max_size=4) as pool:
        with ThreadPoolExecutor(8) as executor:
            for _ in range(8):
                executor.submit(load)
            try:
                until(lambda: pool.get_stats()["requests_num"] > 100)
                for _ in range(2):
                    private_server.stop("fast")
                    until(lambda: pool.get_stats()["requests_waiting"] == 8)
                    private_server.start()
                    until_served(pool, 100)
            finally:
                is_over.set()
        assert errors == []
        assert_at_rest(pool)


@pytest.fixture
def small(private_server: EmbeddedPostgres) -> Iterator[ConnectionPool]:
    """Give a pool whose every timeout is short."""
    dsn = private_server.dsn(connect_timeout=1)
    with ConnectionPool(
        dsn, min_size=2, max_size=4, timeout=0.3, grace=0.2, ping_timeout=0.2
    ) as pool:
        pool.wait()
        yield pool


def refused(pool: ConnectionPool) -> float:
    """Return how long a refusal took, which must be for the server's absence."""
    began = time.monotonic()
    with pytest.raises(EndpointDown) as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolTimeout)
    assert caught.value.__cause__ is not None
    return time.monotonic() - began


def test_callers_are_refused_at_once_after_grace(
    private_server: EmbeddedPostgres, small: ConnectionPool
) -> None:
    """The first wait for their timeout at most; then it takes milliseconds."""
    private_server.stop("fast")
    assert refused(small) < 1.0
    until(lambda: refused(small) < 0.05)
    waits = [refused(small) for _ in range(50)]
    assert sum(wait > 0.05 for wait in waits) <= 2  # one probe may have succeeded


def capacity(pool: ConnectionPool) -> int:
    """Return how many connections can be held and used at once."""
    conns = [pool.getconn(timeout=5.0) for _ in range(pool.max_size)]
    served = {pid(conn) for conn in conns if ask(conn, "SELECT 1") == 1}
    for conn in conns:
        pool.putconn(conn)
    return len(served)


def test_nothing_stays_stuck_after_an_outage_longer_than_every_timeout(
    private_server: EmbeddedPostgres, small: ConnectionPool
) -> None:
    """Failure mode 16: held, waiting and idle when it began; all come back."""
    with ThreadPoolExecutor(8) as executor:
        held = [small.getconn(), small.getconn()]
        private_server.stop("fast")
        waiters = [executor.submit(small.getconn) for _ in range(8)]
        for waiter in waiters:
            with pytest.raises(PoolTimeout):
                waiter.result(2.0)
    for conn in held:
        small.putconn(conn)
    outage_ends = time.monotonic() + 1.5
    while time.monotonic() < outage_ends:
        assert refused(small) < 1.0
    private_server.start()
    # Nobody calls: the prober finds it by itself.
    until(lambda: small.get_stats()["pool_available"] == 2, 5.0)
    began = time.monotonic()
    with small.connection() as conn:
        assert ask(conn, "SELECT 1") == 1
    assert time.monotonic() - began < 0.3
    assert capacity(small) == 4
    assert_at_rest(small)


def kill_the_timer() -> None:
    """End the timer thread by an exception. Blocks until it is gone."""

    def die() -> None:
        raise SystemExit

    later = object()
    watchdog.at(watchdog.clock() + 60.0, later, die)  # so that there is a thread
    alarm = watchdog._alarm
    watchdog.at(watchdog.clock(), object(), die)
    until(lambda: watchdog._alarm is not alarm, message="the timer is dead")
    watchdog.cancel(later)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_dead_timer_thread_keeps_nobody_from_recovering(
    private_server: EmbeddedPostgres, when: str
) -> None:
    """Failure mode 16: it is made anew; who waits in grace is served."""
    with (
        ConnectionPool(private_server.dsn(), timeout=8.0, max_size=4) as pool,
        ThreadPoolExecutor(1) as executor,
    ):
        pool.wait()
        if when == "before":
            kill_the_timer()
        private_server.stop("fast")
        waiter = executor.submit(pool.getconn)
        until(lambda: pool.get_stats()["connections_errors"] > 0)
        if when == "during":
            kill_the_timer()
        private_server.start()
        pool.putconn(waiter.result(5.0))
        assert capacity(pool) == 4
        assert_at_rest(pool)


def test_one_prober_tries_whoever_calls(private_server: EmbeddedPostgres) -> None:
    """Sixteen callers in a loop, and a server that sees one connect at a time.

    With pauses from 0.1 s up, jittered by half: at most ten in 1.5 s.
    """
    connecting: list[int] = []
    with Proxy(private_server.port) as proxy:
        dsn = private_server.dsn(host=proxy.host, port=proxy.port)
        with ConnectionPool(dsn, timeout=0.2, min_size=4, max_size=SIZE) as pool:
            pool.wait()
            private_server.stop("fast")
            until(lambda: pool.get_stats()["connections_errors"])
            before = proxy.accepted
            ends = time.monotonic() + 1.5

            def call() -> None:
                while time.monotonic() < ends:
                    refused(pool)
                    connecting.append(pool.get_stats()["pool_size"])
                    time.sleep(0.001)  # for the others, on two cores

            with ThreadPoolExecutor(SIZE) as executor:
                for future in [executor.submit(call) for _ in range(SIZE)]:
                    future.result()
            assert 1 <= proxy.accepted - before <= 12
            assert len(connecting) > 100
            assert max(connecting) <= 1
            private_server.start()
            until(lambda: pool.get_stats()["pool_available"] == 4)
            assert_at_rest(pool)

"""What can be seen of a pool at any moment: numbers that add up, times, latency."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolExhausted, looking
from pgdbpool.demo.cluster import Cluster
from tests.asking import held, pid, terminate
from tests.endpoints import used
from tests.soundness import assert_at_rest
from tests.waiting import let_pass, until


def counted(pool: ConnectionPool) -> tuple[int, int, int, int]:
    """Return how many asked, were served, were refused, and have released."""
    stats = pool.get_stats()
    names = ("num", "served", "errors", "released")
    asked, served, refused, released = (stats[f"requests_{name}"] for name in names)
    return asked, served, refused, released


@pytest.fixture(params=[True, False])
def one(dsn: str, request: pytest.FixtureRequest) -> Iterator[ConnectionPool]:
    """Give a pool of one, with threads and without."""
    with ConnectionPool(dsn, max_size=1, threaded=request.param) as pool:
        yield pool
        assert_at_rest(pool)


# Who was served, who has released.


def test_who_was_served_and_who_has_released_is_counted(one: ConnectionPool) -> None:
    """Of all who asked: the others were refused, or wait; who released was served."""
    assert counted(one) == (0, 0, 0, 0)
    conn = one.getconn()
    assert counted(one) == (1, 1, 0, 0)
    with pytest.raises(PoolExhausted):
        one.getconn(0.01)
    assert counted(one) == (2, 1, 1, 0)
    one.putconn(conn)
    assert counted(one) == (2, 1, 1, 1)
    held(one)
    assert counted(one) == (3, 2, 1, 2)
    with pytest.raises(ZeroDivisionError), one.connection():
        _ = 1 // 0
    assert counted(one) == (4, 3, 1, 3)


def test_who_waits_is_served_when_it_is(dsn: str) -> None:
    """Not before; also where the counts begin anew meanwhile."""
    with ConnectionPool(dsn, max_size=1) as pool, ThreadPoolExecutor(2) as executor:
        conn = pool.getconn()
        waiting = [executor.submit(held, pool) for _ in range(2)]
        until(lambda: pool.get_stats()["requests_waiting"] == 2)
        assert counted(pool) == (3, 1, 0, 0)
        popped = pool.pop_stats()
        assert popped["requests_served"] == 1
        assert counted(pool) == (0, 0, 0, 0)
        pool.putconn(conn)
        for one in waiting:
            one.result(10.0)
        assert counted(pool) == (0, 2, 0, 3)


@pytest.mark.direct("goes by a session's number on the server")
def test_who_was_given_what_was_lost_is_served_once(
    one: ConnectionPool, admin: connection
) -> None:
    """With the connection that it got in the end."""
    for round_ in range(1, 4):
        backend = held(one)
        terminate(admin, backend)
        assert held(one) != backend
        assert counted(one) == (2 * round_, 2 * round_, 0, 2 * round_)


def test_the_numbers_add_up_after_a_storm(dsn: str) -> None:
    """Whoever asked was served or refused, and who was served has released."""
    with ConnectionPool(dsn, max_size=2, timeout=0.02) as pool:
        pool.wait()

        def ask_on(_: int) -> int:
            refused = 0
            for _ in range(100):
                try:
                    held(pool, lambda _: time.sleep(0.001))
                except PoolExhausted:
                    refused += 1
            return refused

        with ThreadPoolExecutor(8) as executor:
            refused = sum(executor.map(ask_on, range(8)))
        assert_at_rest(pool)
        assert counted(pool) == (800, 800 - refused, refused, 800 - refused)
        assert pool.get_stats()["requests_queued"] > 100


# Since when.


def test_a_holder_has_held_for_no_less_than_no_time(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also who acquires while somebody looks."""
    with ConnectionPool(dsn, max_size=2) as pool:
        first = pool.getconn()
        conns: list[connection] = []

        def clock() -> float:
            now = time.monotonic()
            # What other threads do as soon as they can.
            if not (pool._is_locked_by_me() or conns):
                conns.append(pool.getconn())
            return now

        monkeypatch.setattr(looking, "monotonic", clock)
        found = [holder.seconds for holder in pool.holders()]
        monkeypatch.undo()

        assert conns == []  # nobody could come in between
        assert min(found) >= 0.0
        pool.putconn(first)


# How far away.


def test_the_latency_of_a_single_server_is_that_of_its_ping(
    one: ConnectionPool,
) -> None:
    """There is none before, and the latest counts."""
    (before,) = one.endpoints
    assert before.round_trip is None
    held(one)
    (first,) = one.endpoints
    assert first.round_trip is not None
    assert 0.0 < first.round_trip < 1.0
    held(one)
    (second,) = one.endpoints
    assert second.round_trip != first.round_trip


def test_where_acquires_do_not_ping_a_look_measures(dsn: str) -> None:
    """By the owner's check, or the question of a page."""
    with ConnectionPool(dsn, ping_idle=60.0) as pool:
        held(pool)  # waits for a connect, and pings
        first = pool.endpoints[0].round_trip
        held(pool)
        assert pool.endpoints[0].round_trip == first
        pool.check()
        checked = pool.endpoints[0].round_trip
        assert checked not in {None, first}
        assert [answer for _, answer in pool.ask_idle(pid)] == [held(pool)]
        assert pool.endpoints[0].round_trip not in {None, checked}


def test_what_a_check_hook_takes_is_no_latency(dsn: str) -> None:
    """It is the user's."""
    with ConnectionPool(dsn, check=lambda _: time.sleep(0.2)) as pool:
        held(pool)
        trip = pool.endpoints[0].round_trip
        assert trip is not None
        assert trip < 0.2


def test_what_is_made_clean_is_so_since_its_release(dsn: str) -> None:
    """Not since it was idle before."""
    is_begun, may_end = threading.Event(), threading.Event()

    def reset(_: object) -> None:
        is_begun.set()
        may_end.wait(20.0)

    with (
        ConnectionPool(dsn, max_size=1, reset=reset) as pool,
        ThreadPoolExecutor(1) as executor,
    ):
        conn = pool.getconn()
        let_pass(0.5)
        before = time.monotonic()
        released = executor.submit(pool.putconn, conn)
        try:
            assert is_begun.wait(20.0)
            (session,) = pool.snapshot().sessions
            longest = time.monotonic() - before
        finally:
            may_end.set()
        released.result(20.0)
    assert (session.state, session.holder) == ("in_use", None)
    assert session.seconds <= longest


# Saturated.


def test_a_cluster_whose_primary_is_full_is_saturated(module_cluster: Cluster) -> None:
    """Five wait, and the standbys are idle."""
    with ConnectionPool(module_cluster.dsn(), max_size=2) as pool:
        used(pool)
        until(lambda: all(endpoint.idle for endpoint in pool.endpoints))
        assert not pool.health().saturated
        conns = [pool.getconn(), pool.getconn()]
        with ThreadPoolExecutor(5) as executor:
            waiting = [executor.submit(held, pool) for _ in range(5)]
            until(lambda: pool.get_stats()["requests_waiting"] == 5)
            found = pool.health()
            for conn in conns:
                pool.putconn(conn)
            for one in waiting:
                one.result(10.0)
        assert found.saturated
        assert found.reasons == ("2 connections are all in use",)
        assert not pool.health().saturated
        assert_at_rest(pool)

"""The pool's public API, which is psycopg_pool's wherever the thing is the same."""

import contextlib
import inspect
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import (
    ConnectionPool,
    PoolClosed,
    PoolExhausted,
    PoolTimeout,
    SettingsError,
    TooManyRequests,
)
from pgdbpool.demo.postgres import free_port
from tests.asking import ask, pid, terminate
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

# Version 3.2 of psycopg_pool.
SIGNATURES = {
    "open": ["wait", "timeout"],
    "close": ["timeout"],
    "wait": ["timeout"],
    "connection": ["timeout"],
    "getconn": ["timeout"],
    "putconn": ["conn"],
    "check": [],
    "drain": [],
    "resize": ["min_size", "max_size"],
    "get_stats": [],
    "pop_stats": [],
}
SIZES = {"pool_min", "pool_max", "pool_size", "pool_available", "requests_waiting"}
COUNTERS = {
    "requests_num",
    "requests_queued",
    "requests_wait_ms",
    "requests_errors",
    "requests_served",
    "requests_released",
    "usage_ms",
    "returns_bad",
    "connections_num",
    "connections_ms",
    "connections_errors",
    "connections_lost",
}


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of at most two connections."""
    with ConnectionPool(dsn, max_size=2, timeout=5.0, name="two") as pool:
        yield pool


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Give threads."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


def waiting(pool: ConnectionPool) -> int:
    """Return how many callers stand in line."""
    return pool.get_stats()["requests_waiting"]


@pytest.mark.parametrize("method", SIGNATURES)
def test_a_method_takes_what_psycopg_pools_takes(method: str) -> None:
    """The same names in the same order; what is our own has to be named."""
    parameters = inspect.signature(getattr(ConnectionPool, method)).parameters
    positional = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert positional[1:] == SIGNATURES[method]


def test_the_pool_tells_its_name_and_limits(pool: ConnectionPool) -> None:
    """The attributes are psycopg_pool's."""
    assert (pool.name, pool.min_size, pool.max_size) == ("two", 1, 2)
    assert (pool.timeout, pool.closed) == (5.0, False)


def test_the_stats_have_psycopg_pools_keys(pool: ConnectionPool) -> None:
    """All of them from the start, with two more, and whole numbers."""
    stats = pool.get_stats()
    assert set(stats) == SIZES | COUNTERS
    assert {type(figure) for figure in stats.values()} == {int}


def test_the_stats_count_what_happened(pool: ConnectionPool) -> None:
    """A hold that was served at once, one that waited, one that was refused."""
    pool.wait()
    with pool.connection(), pool.connection(), pytest.raises(PoolExhausted):
        pool.getconn(timeout=0.01)
    stats = pool.get_stats()
    assert stats["requests_num"] == 3
    assert stats["requests_queued"] == 2
    assert stats["requests_errors"] == 1
    assert stats["requests_wait_ms"] >= 10
    assert stats["connections_num"] == stats["pool_size"] == 2
    assert stats["connections_lost"] == stats["returns_bad"] == 0


def test_popped_stats_begin_again(pool: ConnectionPool) -> None:
    """The counters are zero afterwards, the sizes are what they are."""
    with pool.connection():
        pass
    assert pool.pop_stats()["requests_num"] == 1
    stats = pool.get_stats()
    assert {stats[key] for key in COUNTERS} == {0}
    assert stats["pool_size"] == stats["pool_available"] == 1


@pytest.mark.direct("counts sessions of the server")
def test_the_constructor_does_not_connect(
    dsn: str, admin: connection, application_name: str
) -> None:
    """Nor does open=True: the first use does."""
    pool = ConnectionPool(dsn, min_size=2)
    assert pool.get_stats()["connections_num"] == 0
    with pool.connection():
        until(lambda: len(backends(admin, application_name)) == 2)
    pool.close()


def test_a_pool_made_closed_refuses_until_it_is_opened(dsn: str) -> None:
    """PoolClosed tells what to do; open() does it."""
    pool = ConnectionPool(dsn, open=False)
    assert pool.closed
    with pytest.raises(PoolClosed, match="not open yet"):
        pool.getconn()
    pool.open()
    assert not pool.closed
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1
    pool.close()


@pytest.mark.parametrize("way", ["open(wait=True)", "wait()"])
def test_waiting_ends_when_min_size_is_open(dsn: str, way: str) -> None:
    """Both ways return with three idle connections."""
    with ConnectionPool(dsn, min_size=3, max_size=5) as pool:
        if way == "wait()":
            pool.wait(5.0)
        else:
            pool.open(wait=True, timeout=5.0)
        assert pool.get_stats()["pool_available"] == 3


def test_waiting_for_a_server_that_is_down_says_why() -> None:
    """PoolTimeout in time, the driver's error as its cause; the pool stays open."""
    with ConnectionPool(f"host=127.0.0.1 port={free_port()}") as pool:
        began = time.monotonic()
        with pytest.raises(PoolTimeout, match="refused") as caught:
            pool.wait(0.2)
        assert time.monotonic() - began < 1.0
        assert isinstance(caught.value.__cause__, psycopg2.OperationalError)
        assert not pool.closed


def test_a_closed_pool_has_no_sessions_and_refuses(
    dsn: str, admin: connection, application_name: str
) -> None:
    """For good: it cannot be opened again, and closing twice is no error."""
    pool = ConnectionPool(dsn, min_size=2)
    pool.open(wait=True)
    pool.close()
    pool.close()
    until(lambda: not backends(admin, application_name))
    for refused in (pool.getconn, pool.wait, pool.open, pool.connection().__enter__):
        with pytest.raises(PoolClosed, match="is closed"):
            refused()


def test_closing_sends_those_away_who_wait(
    pool: ConnectionPool, executor: ThreadPoolExecutor
) -> None:
    """They get PoolClosed at once, not after their timeout."""
    with pool.connection(), pool.connection():
        waiter = executor.submit(pool.getconn)
        until(lambda: waiting(pool) == 1)
        began = time.monotonic()
        pool.close(timeout=0.0)
        with pytest.raises(PoolClosed):
            waiter.result(1.0)
        assert time.monotonic() - began < 0.5


def ask_and_raise(conn: connection, insert: str, error: Exception) -> None:
    """Store what must not be kept."""
    ask(conn, insert, "undone")
    raise error


def test_the_block_commits_and_an_exception_undoes(
    pool: ConnectionPool, admin: connection, table: str
) -> None:
    """The exception comes out as it was raised."""
    insert = f"INSERT INTO {table} (note) VALUES (%s)"
    with pool.connection() as conn:
        ask(conn, insert, "kept")
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught, pool.connection() as conn:
        ask_and_raise(conn, insert, error)
    assert caught.value is error
    assert ask(admin, f"SELECT string_agg(note, ',') FROM {table}") == "kept"


def test_a_larger_pool_serves_who_waits(
    pool: ConnectionPool, executor: ThreadPoolExecutor
) -> None:
    """resize() opens for the line at once."""
    with pool.connection(), pool.connection():
        waiter = executor.submit(pool.getconn)
        until(lambda: waiting(pool) == 1)
        pool.resize(1, 3)
        pool.putconn(waiter.result(2.0))
    assert (pool.min_size, pool.max_size) == (1, 3)


@pytest.mark.direct("counts sessions of the server")
def test_a_smaller_pool_closes_idle_ones_now_and_others_at_their_release(
    dsn: str, admin: connection, application_name: str
) -> None:
    """No holder notices."""
    with ConnectionPool(dsn, min_size=4, max_size=4) as pool:
        pool.wait()
        with pool.connection() as conn, pool.connection():
            pool.resize(1)
            until(lambda: len(backends(admin, application_name)) == 2)
            assert ask(conn, "SELECT 1") == 1
        until(lambda: len(backends(admin, application_name)) == 1)
        assert (pool.min_size, pool.max_size) == (1, 1)
        assert_at_rest(pool)


def test_sizes_that_make_no_sense_change_nothing(pool: ConnectionPool) -> None:
    """resize() raises what the constructor does."""
    with pytest.raises(SettingsError, match="min_size"):
        pool.resize(3, 2)
    assert (pool.min_size, pool.max_size) == (1, 2)


def test_drained_connections_are_replaced(pool: ConnectionPool) -> None:
    """The idle one now, the one in use at its release, without its holder noticing."""
    with pool.connection() as busy:
        with pool.connection() as idle:
            old = {pid(busy), pid(idle)}
        pool.drain()
        assert ask(busy, "SELECT 1") == 1
    with pool.connection() as one, pool.connection() as two:
        assert not old & {pid(one), pid(two)}


@pytest.mark.direct("goes by a session's number on the server")
def test_check_replaces_what_has_died(
    pool: ConnectionPool, admin: connection, application_name: str
) -> None:
    """Before any caller comes."""
    with pool.connection() as conn:
        dead = pid(conn)
    terminate(admin, dead)
    pool.check()
    until(lambda: pool.get_stats()["pool_available"] == 1)
    (alive,) = backends(admin, application_name)
    assert alive.pid != dead
    pool.check()
    assert [one.pid for one in backends(admin, application_name)] == [alive.pid]


def test_check_leaves_no_transaction_open(
    pool: ConnectionPool, admin: connection, application_name: str
) -> None:
    """The ping's BEGIN is undone (failure mode 7)."""
    pool.wait()
    pool.check()
    (backend,) = backends(admin, application_name)
    assert backend.state == "idle"


def test_one_caller_too_many_is_refused_at_once(
    dsn: str, executor: ThreadPoolExecutor
) -> None:
    """max_waiting=1: the second in line gets TooManyRequests."""
    with ConnectionPool(dsn, max_size=1, max_waiting=1) as pool:
        with pool.connection():
            waiter = executor.submit(pool.getconn)
            until(lambda: waiting(pool) == 1)
            began = time.monotonic()
            with pytest.raises(TooManyRequests, match="max_waiting"):
                pool.getconn()
            assert time.monotonic() - began < 0.5
        pool.putconn(waiter.result(2.0))


@pytest.mark.parametrize(("order", "served"), [("lifo", 2), ("fifo", 0)])
def test_the_order_says_which_idle_one_serves(
    dsn: str, order: Literal["lifo", "fifo"], served: int
) -> None:
    """The newest by default, else the one that has been idle longest."""
    with ConnectionPool(dsn, min_size=3, max_size=3, order=order) as pool:
        pool.wait()
        conns = [pool.getconn() for _ in range(3)]
        for conn in conns:
            pool.putconn(conn)
        with pool.connection() as conn:
            assert conn is conns[served]


def test_no_time_is_enough_for_what_is_idle_and_nothing_else(
    pool: ConnectionPool,
) -> None:
    """timeout=0 serves at once or refuses at once."""
    with pool.connection():
        pass
    with pool.connection(timeout=0), pool.connection():
        began = time.monotonic()
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=0)
        assert time.monotonic() - began < 0.2


def test_no_limit_waits_for_as_long_as_it_takes(
    dsn: str, executor: ThreadPoolExecutor
) -> None:
    """timeout=None of the pool; None given to getconn means the pool's."""
    with ConnectionPool(dsn, max_size=1, timeout=None) as pool:
        with pool.connection():
            waiter = executor.submit(pool.getconn, None)
            until(lambda: waiting(pool) == 1)
        pool.putconn(waiter.result(2.0))
    with (
        ConnectionPool(dsn, max_size=1, timeout=0.05) as pool,
        pool.connection(),
        pytest.raises(PoolExhausted),
    ):
        pool.getconn(None)


def test_a_foreign_connection_is_not_taken(pool: ConnectionPool, dsn: str) -> None:
    """ValueError for psycopg2's own and for another pool's; nothing is changed."""
    pool.wait()
    before = pool.get_stats()
    with (
        ConnectionPool(dsn) as other,
        other.connection() as foreign,
        contextlib.closing(psycopg2.connect(dsn)) as plain,
    ):
        for conn in (plain, foreign):
            with pytest.raises(ValueError, match="does not belong"):
                pool.putconn(conn)
            assert ask(conn, "SELECT 1") == 1
        assert other.get_stats()["pool_available"] == 0
    assert pool.get_stats() == before


def test_a_connection_is_released_once(pool: ConnectionPool) -> None:
    """The second putconn() raises ValueError and changes nothing."""
    conn = pool.getconn()
    pool.putconn(conn)
    before = pool.get_stats()
    with pytest.raises(ValueError, match="already been released"):
        pool.putconn(conn)
    assert pool.get_stats() == before
    assert_at_rest(pool)


def test_a_connection_may_be_released_by_another_thread(
    pool: ConnectionPool, executor: ThreadPoolExecutor
) -> None:
    """getconn() here, putconn() there."""
    conn = pool.getconn()
    executor.submit(pool.putconn, conn).result()
    assert_at_rest(pool)

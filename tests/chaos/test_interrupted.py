"""Exceptions from outside: KeyboardInterrupt, SystemExit, at any point at all."""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.errors
import pytest

from pgdbpool import ConnectionPool, NestedCheckout, PooledConnection
from pgdbpool.settings import SettingsDict
from tests.chaos.holders import fails_to_serve, in_a_block, is_whole
from tests.chaos.interrupting import interrupt
from tests.soundness import assert_at_rest
from tests.waiting import until

# These set a trace function of their own, beside which coverage has no place.
pytestmark = pytest.mark.no_cover

# So many in a row without a point: the call has no more.
MISSES = 3


@pytest.fixture
def make_pool(dsn: str) -> Iterator[Callable[[int], ConnectionPool]]:
    """Give what makes pools of a size whose failed connects are soon forgotten."""
    pools: list[ConnectionPool] = []

    def make(size: int) -> ConnectionPool:
        pool = ConnectionPool(dsn, max_size=size, timeout=2.0)
        # Else each connect that was lost would take six seconds to be noticed.
        pool._roster.endpoints[0].connect_limit = 0.2
        pool.wait()
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(0.1)


def by_hand(pool: ConnectionPool) -> None:
    """Make one transaction and put the connection back."""
    conn = pool.getconn()
    try:
        conn.cursor().execute("SELECT 1")
    finally:
        pool.putconn(conn)


def with_an_error(pool: ConnectionPool) -> None:
    """Make a transaction that fails."""
    try:
        with pool.connection() as conn:
            conn.cursor().execute("SELECT 1 / 0")
    except psycopg2.errors.DivisionByZero:
        pass


def with_a_connect(pool: ConnectionPool) -> None:
    """Make one transaction on a new connection."""
    pool.drain()
    in_a_block(pool)


def in_the_line(pool: ConnectionPool) -> None:
    """Make one transaction after having waited for a release."""
    held = [pool.getconn() for _ in range(pool.max_size)]
    timer = threading.Timer(0.002, lambda: [pool.putconn(held.pop()) for _ in held[:]])
    timer.start()
    try:
        in_a_block(pool)
    finally:
        timer.join()


def in_a_check(pool: ConnectionPool) -> None:
    """Ping what is idle."""
    pool.check()


WORK = [
    in_a_block,
    by_hand,
    with_an_error,
    pytest.param(with_a_connect, marks=pytest.mark.slow),
    in_the_line,
    in_a_check,
]


@pytest.mark.parametrize("work", WORK)
def test_an_interrupt_at_any_bytecode_costs_no_capacity(
    make_pool: Callable[[int], ConnectionPool], work: Callable[[ConnectionPool], None]
) -> None:
    """Row 30: the next holder is served; collection and upkeep mend the rest."""
    pool = make_pool(2)
    found: list[str] = []
    struck, missed = 0, 0
    for n in itertools.count(1):
        place = interrupt(functools.partial(work, pool), n)
        struck, missed = struck + bool(place), 0 if place else missed + 1
        if missed == MISSES or len(found) == 10:
            break
        error = fails_to_serve(pool)
        if error or not mends(pool):
            found.append(f"{place}: {error or pool!r}")
            pool = make_pool(2)
    assert not found
    assert struck > 20
    assert_at_rest(pool)


def mends(pool: ConnectionPool) -> bool:
    """Return whether the pool becomes whole soon."""
    try:
        until(lambda: is_whole(pool), 2.0)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("work", WORK[:3])
def test_an_interrupted_hold_is_never_taken_for_a_nested_one(
    make_pool: Callable[[int], ConnectionPool], work: Callable[[ConnectionPool], None]
) -> None:
    """Row 30: who was interrupted and begins anew does not wait for himself."""
    pool = make_pool(1)
    found: list[str] = []
    missed = 0
    for n in itertools.count(1):
        place = interrupt(functools.partial(work, pool), n)
        missed = 0 if place else missed + 1
        if missed == MISSES or len(found) == 10:
            break
        try:
            with pool.connection(0.2):
                pass
        except NestedCheckout:
            found.append(place)
        except Exception:  # noqa: BLE001 - the promise of another test
            pool = make_pool(1)
    assert not found


@pytest.mark.parametrize("is_dirty", [False, True])
def test_a_release_that_is_interrupted_forgets_no_waiter(
    make_pool: Callable[[int], ConnectionPool], *, is_dirty: bool
) -> None:
    """Row 30: who waits in the line is served, by this connection or another."""
    found: list[str] = []
    struck = missed = 0
    pool = make_pool(1)
    with ThreadPoolExecutor(1) as executor:
        for n in itertools.count(1):
            conn = pool.getconn()
            if is_dirty:
                conn.cursor().execute("SELECT 1")
            waiter = executor.submit(fails_to_serve, pool)
            until(lambda pool=pool: pool.get_stats()["requests_waiting"] == 1)
            place = interrupt(functools.partial(pool.putconn, conn), n)
            del conn
            struck, missed = struck + bool(place), 0 if place else missed + 1
            if waiter.result(10.0):
                found.append(place)
                pool = make_pool(1)
            if missed == MISSES or len(found) == 5:
                break
    assert not found
    assert struck > 10


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("hook", ["check", "reset"])
def test_a_hook_that_is_interrupted_costs_nobody_else_anything(
    dsn: str, hook: str, kind: type[BaseException]
) -> None:
    """Row 30: the caller gets the exception; the waiter behind is served at once."""
    strikes = iter([False, True])
    is_waiting = threading.Event()

    def strike_at_second(_: PooledConnection) -> None:
        if next(strikes, False):
            is_waiting.wait(5.0)
            raise kind

    settings: SettingsDict = {hook: strike_at_second}  # type: ignore[misc]
    pool = ConnectionPool(dsn, max_size=1, timeout=2.0, **settings)
    with pool, ThreadPoolExecutor(2) as executor:
        in_a_block(pool)
        struck = executor.submit(in_a_block, pool)
        until(lambda: pool.get_stats()["requests_num"] == 2)
        waiter = executor.submit(fails_to_serve, pool)
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        is_waiting.set()
        with pytest.raises(kind):
            struck.result(5.0)
        assert waiter.result(10.0) == ""
        assert_at_rest(pool)


def test_a_configure_hook_that_is_interrupted_fails_its_connect(dsn: str) -> None:
    """Row 30: SystemExit in a thread of the pool ends one connect, no more."""
    strikes = iter([True])

    def configure(_: PooledConnection) -> None:
        if next(strikes, False):
            raise SystemExit

    with ConnectionPool(dsn, timeout=5.0, configure=configure) as pool:
        until(lambda: not fails_to_serve(pool))
        assert pool.get_stats()["connections_errors"] == 1
        assert_at_rest(pool)

"""Finalizers release connections wherever the collector happens to run."""

import gc
from collections.abc import Generator, Iterator

import pytest

from pgdbpool import ConnectionPool, PooledConnection, PoolError
from tests.soundness import assert_at_rest
from tests.waiting import until

ABANDONED = 600
CONNECTIONS = 8


@pytest.fixture
def _eager_collector() -> Iterator[None]:
    """Have the collector run at nearly every allocation, also inside the pool."""
    before = gc.get_threshold()
    gc.set_threshold(7, 10, 10)
    yield
    gc.set_threshold(*before)


def in_a_block(pool: ConnectionPool) -> Generator[None, object, None]:
    """Be suspended in a block, and part of a cycle."""
    me = [(yield)]
    with pool.connection():
        yield
    del me


def with_a_finally(pool: ConnectionPool) -> Generator[None, object, None]:
    """Be suspended before a putconn, and part of a cycle."""
    me = [(yield)]
    conn = pool.getconn()
    try:
        yield
    finally:
        pool.putconn(conn)
    del me


@pytest.mark.usefixtures("_eager_collector")
@pytest.mark.parametrize("stream", [in_a_block, with_a_finally])
def test_a_release_in_the_middle_of_the_pools_own_work_locks_nobody_up(
    dsn: str, stream: type[Generator[None, object, None]]
) -> None:
    """An abandoned generator is closed by the collector, with the pool's lock held."""
    with ConnectionPool(dsn, max_size=CONNECTIONS, timeout=10.0) as pool:
        for _ in range(ABANDONED):
            generator = stream(pool)  # type: ignore[call-arg]
            next(generator)
            generator.send(generator)
            del generator
            if len(pool._roster.holds()) > CONNECTIONS // 2:
                gc.collect()  # what the eager collector let grow old
            conn: PooledConnection = pool.getconn()
            pool.putconn(conn)
            del conn
        until(lambda: not gc.collect() or not pool._roster.holds(), 10.0, "all ended")
        assert_at_rest(pool)


def test_a_finalizer_cannot_acquire_inside_the_pool(dsn: str) -> None:
    """It would find the pool in the middle of a step: it is refused, not served."""
    pool = ConnectionPool(dsn)
    with pool._lock, pytest.raises(PoolError, match="finalizer"):
        pool.getconn()
    pool.close()

"""Threads that hold a connection and ask for a second one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pgdbpool import ConnectionPool, NestedCheckout, PoolExhausted
from tests.soundness import assert_at_rest

THREADS = 4


def test_threads_that_all_want_a_second_connection_do_not_wait_for_each_other(
    dsn: str,
) -> None:
    """Row 22, M12: at least one is told at once where it is nested; no timeouts."""
    all_hold = threading.Barrier(THREADS)

    def nest(pool: ConnectionPool) -> str:
        with pool.connection():
            all_hold.wait(5.0)
            try:
                with pool.connection() as conn, conn.cursor() as cur:
                    cur.execute("SELECT 1")
            except NestedCheckout as error:
                return str(error)
        return ""

    with ConnectionPool(dsn, min_size=THREADS, max_size=THREADS, timeout=20.0) as pool:
        pool.wait()
        began = time.monotonic()
        with ThreadPoolExecutor(THREADS) as executor:
            said = list(executor.map(nest, [pool] * THREADS))
        assert time.monotonic() - began < 2.0
        refusals = [text for text in said if text]
        assert refusals
        code = nest.__code__.co_firstlineno
        for text in refusals:
            assert f"chaos/test_nested.py:{code + 1}" in text, "the place of the first"
            assert f"chaos/test_nested.py:{code + 4}" in text, "the place of the second"
            assert pool.name in text
        assert_at_rest(pool)


def test_a_thread_alone_is_told_that_it_waits_for_itself(dsn: str) -> None:
    """Row 22: a pool of one, too."""
    with ConnectionPool(dsn, max_size=1, timeout=20.0) as pool:
        began = time.monotonic()
        with pool.connection(), pytest.raises(NestedCheckout), pool.connection():
            pass
        assert time.monotonic() - began < 2.0
        with pool.connection():
            pass
        assert_at_rest(pool)


def test_a_connection_of_getconn_does_not_count_as_nested(dsn: str) -> None:
    """Row 22: another thread may put it back, so waiting for it makes sense."""
    with ConnectionPool(dsn, max_size=1, timeout=10.0) as pool:
        first = pool.getconn()
        waits = threading.Event()

        def put_back() -> None:
            waits.wait(5.0)
            pool.putconn(first)

        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(put_back)
            waits.set()
            with pool.connection() as second:
                assert second is first
            future.result(5.0)
        assert_at_rest(pool)


def test_getconn_inside_getconn_times_out(dsn: str) -> None:
    """Row 22: what nobody puts back is an ordinary exhaustion."""
    with ConnectionPool(dsn, max_size=1) as pool:
        first = pool.getconn()
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=0.1)
        pool.putconn(first)
        assert_at_rest(pool)


def test_a_second_connection_is_given_while_somebody_can_release(dsn: str) -> None:
    """Row 22: nobody is refused who will be served."""
    with ConnectionPool(dsn, max_size=2, timeout=10.0) as pool:
        holds, may_go = threading.Event(), threading.Event()

        def hold() -> None:
            with pool.connection():
                holds.set()
                may_go.wait(5.0)

        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(hold)
            assert holds.wait(5.0)
            timer = threading.Timer(0.2, may_go.set)
            timer.start()
            with pool.connection(), pool.connection() as second:
                second.cursor().execute("SELECT 1")
            future.result(5.0)
            timer.join()
        assert_at_rest(pool)

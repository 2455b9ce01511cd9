"""A fork within another thread's work leaves the child no lock to wait for."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pgdbpool.compat.dbpool import Connection
from pgdbpool.compat.psycopg2_pool import PoolError, ThreadedConnectionPool
from pgdbpool.compat.singleton import PostgresqlConnection

PATIENCE = 10  # seconds


def put_back_a_stranger() -> None:
    """Take the lock of the adapter."""
    with pytest.raises(PoolError):
        ThreadedConnectionPool(0, 1).putconn("a stranger")  # type: ignore[arg-type]


USES: dict[Any, Callable[[], object]] = {
    Connection: Connection.close,
    PostgresqlConnection: PostgresqlConnection,
    ThreadedConnectionPool: put_back_a_stranger,
}


def use_in_child(use: Callable[[], object]) -> None:
    """Be the child of a fork, and end."""
    status = 1
    signal.alarm(PATIENCE)  # which kills, unless it is over before
    try:
        use()
        status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("kind", USES, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_that_it_has_not(kind: Any) -> None:  # noqa: ANN401 - one of three
    """Which had the lock of its class at the moment of the fork."""
    is_locked, may_unlock = threading.Event(), threading.Event()

    def lock() -> None:
        with kind._lock:
            is_locked.set()
            assert may_unlock.wait(PATIENCE)

    thread = threading.Thread(target=lock)
    thread.start()
    assert is_locked.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        use_in_child(USES[kind])
    may_unlock.set()
    thread.join(PATIENCE)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

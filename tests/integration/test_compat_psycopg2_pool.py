"""`psycopg2.pool` and the adapter of its shape: what both do, what only ours does."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import psycopg2.pool
import pytest
from psycopg2.extensions import connection, make_dsn, parse_dsn
from psycopg2.extras import DictConnection, DictCursor

from pgdbpool import PoolExhausted, SettingsError
from pgdbpool.compat import psycopg2_pool
from tests.asking import ask, pid, terminate
from tests.soundness import assert_at_rest
from tests.waiting import until

pytestmark = pytest.mark.direct("compares with psycopg2's own, and goes by sessions")

Pool = psycopg2_pool.ThreadedConnectionPool

CLASSES = {
    "psycopg2's simple": psycopg2.pool.SimpleConnectionPool,
    "psycopg2's threaded": psycopg2.pool.ThreadedConnectionPool,
    "our simple": psycopg2_pool.SimpleConnectionPool,
    "our threaded": psycopg2_pool.ThreadedConnectionPool,
}
each_class = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    """Give one of ours of two, at rest and closed in the end."""
    pool = Pool(1, 2, dsn)
    yield pool
    if not pool.closed:
        assert_at_rest(pool.pool)
        pool.closeall()


# What both do.


@each_class
def test_what_is_put_back_is_rolled_back_and_used_again(
    kind: Any,  # noqa: ANN401 - psycopg2's class or ours
    dsn: str,
    admin: connection,
    table: str,
) -> None:
    """The same session; what was committed stays."""
    pool = kind(1, 2, dsn)
    assert (pool.minconn, pool.maxconn, pool.closed) == (1, 2, False)
    conn = pool.getconn()
    ask(conn, f"INSERT INTO {table} (note) VALUES ('kept')")
    conn.commit()
    ask(conn, f"INSERT INTO {table} (note) VALUES ('lost')")
    backend = pid(conn)
    pool.putconn(conn)
    again = pool.getconn()
    assert pid(again) == backend
    pool.putconn(conn=again)
    pool.closeall()
    assert pool.closed
    assert ask(admin, f"SELECT string_agg(note, ' ') FROM {table}") == "kept"


@each_class
def test_a_key_has_one_connection_until_it_is_put_back(
    kind: Any,  # noqa: ANN401 - psycopg2's class or ours
    dsn: str,
) -> None:
    """With the key or without; then the key is anybody's."""
    pool = kind(1, 2, dsn)
    conn = pool.getconn("mine")
    other = pool.getconn(key="other")
    assert pool.getconn("mine") is conn
    assert other is not conn
    pool.putconn(conn, "mine")
    pool.putconn(other)
    again, another = pool.getconn("mine"), pool.getconn("another")
    assert pid(again) != pid(another)
    assert ask(again, "SELECT 1") == ask(another, "SELECT 1") == 1
    pool.putconn(again)
    pool.putconn(another, key="another")
    pool.closeall()


@each_class
def test_what_is_put_back_to_be_closed_is_closed(
    kind: Any,  # noqa: ANN401 - psycopg2's class or ours
    dsn: str,
) -> None:
    """And the next one is another."""
    pool = kind(1, 2, dsn)
    conn = pool.getconn()
    backend = pid(conn)
    pool.putconn(conn, close=True)
    assert conn.closed
    again = pool.getconn()
    assert pid(again) != backend
    pool.putconn(again)
    pool.closeall()


@each_class
def test_what_is_not_held_cannot_be_put_back(
    kind: Any,  # noqa: ANN401 - psycopg2's class or ours
    dsn: str,
) -> None:
    """A stranger, and what was put back before; each is left as it is."""
    pool, other = kind(1, 2, dsn), kind(1, 2, dsn)
    conn = pool.getconn()
    for close in (False, True):
        with pytest.raises(psycopg2.pool.PoolError):
            other.putconn(conn, close=close)
    assert ask(conn, "SELECT 1") == 1
    pool.putconn(conn)
    with pytest.raises(psycopg2.pool.PoolError):
        pool.putconn(conn)
    pool.closeall()
    other.closeall()


@each_class
def test_a_closed_pool_refuses(
    kind: Any,  # noqa: ANN401 - psycopg2's class or ours
    dsn: str,
) -> None:
    """To serve, and to be closed once more."""
    pool = kind(1, 2, dsn)
    pool.closeall()
    for use in (pool.getconn, pool.closeall):
        with pytest.raises(psycopg2_pool.PoolError):
            use()


@each_class
def test_it_takes_what_connect_takes(
    kind: Any,  # noqa: ANN401 - psycopg2's class or ours
    dsn: str,
) -> None:
    """By position and by keyword."""
    params: dict[str, Any] = parse_dsn(dsn)
    params["database"] = params.pop("dbname")
    for made in (
        kind(1, 2, dsn, DictConnection, DictCursor),
        kind(1, 2, cursor_factory=DictCursor, **params),
        kind(1, 2, make_dsn(dsn, user="nobody"), user=params["user"]),
    ):
        conn = made.getconn()
        assert ask(conn, "SELECT current_user") == params["user"]
        made.putconn(conn)
        made.closeall()


# What only ours does.


def test_who_finds_all_in_use_waits(pool: Pool) -> None:
    """In psycopg2 that is an error at once; here for as long as the timeout."""
    held = [pool.getconn() for _ in range(2)]
    with ThreadPoolExecutor(1) as executor:
        waiter = executor.submit(pool.getconn)
        until(lambda: pool.pool.get_stats()["requests_waiting"] == 1)
        pool.putconn(held[0])
        held[0] = waiter.result(5.0)
    with pytest.raises(psycopg2_pool.PoolError) as caught:
        pool.pool.getconn(timeout=0.1)
    assert isinstance(caught.value, PoolExhausted)
    assert "test_compat_psycopg2_pool.py" in str(caught.value)
    for conn in held:
        pool.putconn(conn)


def test_threads_with_one_key_get_one_connection(pool: Pool) -> None:
    """Whoever of them is first; what the others had acquired is put back."""
    barrier = threading.Barrier(2)

    def acquire() -> connection:
        barrier.wait(5.0)
        return pool.getconn("shared")

    with ThreadPoolExecutor(2) as executor:
        one, two = [executor.submit(acquire) for _ in range(2)]
        assert one.result(5.0) is two.result(5.0)
    pool.putconn(one.result())


def test_who_comes_second_with_a_key_puts_back_what_it_acquired(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waited for it, somebody else with that key was served."""
    serve, first = pool.pool.serve, []

    def overtaken(*how: Any) -> Any:  # noqa: ANN401 - the pool's own
        monkeypatch.undo()
        conn = serve(*how)
        first.append(pool.getconn("shared"))
        return conn

    monkeypatch.setattr(pool.pool, "serve", overtaken)
    assert pool.getconn("shared") is first[0]
    assert pool.pool.get_stats()["pool_available"] == 1
    pool.putconn(first.pop())


def test_a_dead_session_is_not_handed_out(pool: Pool, admin: connection) -> None:
    """It is replaced."""
    conn = pool.getconn()
    backend = pid(conn)
    pool.putconn(conn)
    terminate(admin, backend)
    conn = pool.getconn()
    assert ask(conn, "SELECT pg_backend_pid()") != backend
    pool.putconn(conn)


@pytest.mark.parametrize("key", [None, "mine"])
def test_a_connection_that_its_holder_lost_comes_back(
    pool: Pool, key: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Four times as many as there are, each with a warning."""
    for _ in range(8):
        assert pid(pool.getconn(key))
        gc.collect()
    assert caplog.text.count("was not released but lost") >= 6


def test_a_wrong_argument_is_named() -> None:
    """And nothing is connected to tell."""
    with pytest.raises(SettingsError, match="min_size: 3 is greater than max_size"):
        Pool(3, 2)
    with pytest.raises(SettingsError, match="no connection parameter 'hots'"):
        Pool(1, 2, hots="db1")

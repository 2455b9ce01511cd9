"""Failing hooks, a failing BEGIN, connections that their holders lose: row 41."""

import contextlib
import gc
import logging
import random
import threading
from collections.abc import Callable, Iterator

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool import ConnectionPool, PooledConnection, PoolTimeout
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint import health
from tests.observer import backends
from tests.proxy import Proxy
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

SIZE = 3
ROUNDS = 100


class HookError(Exception):
    """What a hook of the application raises."""


class Saboteur:
    """A hook that fails in one of several ways, as often as told."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.probability = 0.0
        self.failures = 0

    def __call__(self, conn: PooledConnection) -> None:
        """Fail, or do nothing."""
        if self.random.random() >= self.probability:
            return
        self.failures += 1
        self.random.choice(FAILURES)(conn)


def raise_own(_: connection) -> None:
    """Raise what is no error of the driver."""
    raise HookError


def fail_a_statement(conn: connection) -> None:
    """Let the driver raise, in a transaction that is left open."""
    conn.cursor().execute("SELECT 1 / 0")


def close(conn: connection) -> None:
    """Close the connection."""
    conn.close()


def kill(conn: connection) -> None:
    """Let the server end the session."""
    conn.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")


def leave_open(conn: connection) -> None:
    """Leave a transaction open."""
    conn.cursor().execute("SELECT 1")


FAILURES = (raise_own, fail_a_statement, close, kill, leave_open)


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let connects be tried again at once; keep thousands of tracebacks away."""
    monkeypatch.setattr(health, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(health, "LONGEST_PAUSE", 0.002)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def assert_agreed(pool: ConnectionPool, admin: connection, name: str) -> None:
    """Fail unless all places can be held, and the server sees just these."""
    assert_at_rest(pool)
    held = [pool.getconn() for _ in range(SIZE)]
    pids = {conn.info.backend_pid for conn in held}
    for conn in held:
        pool.putconn(conn)
    assert len(pids) == SIZE
    until(lambda: {b.pid for b in backends(admin, name)} == pids)
    stats = pool.get_stats()
    assert (stats["pool_size"], stats["pool_available"]) == (SIZE, SIZE)
    assert stats["requests_waiting"] == 0


def use(pool: ConnectionPool) -> None:
    """Make a transaction, sometimes one that leaves something to undo."""
    with contextlib.suppress(psycopg2.Error), pool.connection() as conn:
        conn.cursor().execute("SELECT 1")
        conn.rollback()


@pytest.mark.parametrize("hook", ["configure", "check", "reset"])
@pytest.mark.parametrize("probability", [0.4, 1.0])
def test_a_failing_hook_loses_no_place(
    dsn: str, admin: connection, application_name: str, hook: str, probability: float
) -> None:
    """Row 41: whatever a hook does, and however often, counts and server agree."""
    saboteur = Saboteur(random.randrange(10**9))
    with ConnectionPool(dsn, max_size=SIZE, timeout=2.0, **{hook: saboteur}) as pool:
        saboteur.probability = probability
        rounds = ROUNDS if probability < 1 else 3
        for _ in range(rounds):
            if hook == "configure":
                pool.drain()
            with contextlib.suppress(PoolTimeout):
                conn = pool.getconn(0.2 if probability == 1 else None)
                with contextlib.suppress(psycopg2.Error):
                    conn.cursor().execute("SELECT 1")
                pool.putconn(conn)
            assert_sound(pool)
        assert saboteur.failures >= min(rounds // 4, 20), f"seed {saboteur.seed}"
        saboteur.probability = 0.0
        assert_agreed(pool, admin, application_name)


@pytest.mark.parametrize("hook", ["configure", "check"])
def test_the_hook_that_keeps_failing_is_the_cause_that_is_told(
    dsn: str, hook: str
) -> None:
    """Row 41: the caller learns that his own hook raises, and what."""
    with ConnectionPool(dsn, timeout=0.3, **{hook: raise_own}) as pool:
        with pytest.raises(PoolTimeout, match="HookError") as caught:
            pool.getconn()
        assert isinstance(caught.value.__cause__, HookError)


def test_a_failing_begin_loses_no_place(
    dsn: str, admin: connection, application_name: str, server: EmbeddedPostgres
) -> None:
    """Row 41: the session dies at the ping's BEGIN, again and again."""
    with Proxy(server.port) as proxy:
        target = make_dsn(dsn, host=proxy.host, port=proxy.port)
        with ConnectionPool(target, max_size=SIZE, timeout=5.0) as pool:
            for count in range(ROUNDS // 2):
                before = count % 2 == 0
                (proxy.cut_before if before else proxy.cut_after)(b"BEGIN")
                with pool.connection() as conn:
                    conn.cursor().execute("SELECT 1")
                assert_sound(pool)
            assert proxy.cuts == ROUNDS // 2
            assert pool.get_stats()["connections_lost"] == ROUNDS // 2
            assert pool.get_stats()["requests_errors"] == 0
            assert_agreed(pool, admin, application_name)


@pytest.mark.parametrize("pattern", [b"ROLLBACK", b"COMMIT"])
def test_a_session_that_dies_at_its_end_loses_no_place(
    dsn: str,
    admin: connection,
    application_name: str,
    server: EmbeddedPostgres,
    pattern: bytes,
) -> None:
    """Row 41: at the COMMIT or at the rollback of a release."""
    with Proxy(server.port) as proxy:
        target = make_dsn(dsn, host=proxy.host, port=proxy.port)
        with ConnectionPool(target, max_size=SIZE, timeout=5.0) as pool:
            for _ in range(ROUNDS // 4):
                proxy.cut_before(pattern)
                with contextlib.suppress(psycopg2.OperationalError, HookError):
                    end_transaction(pool, pattern)
                assert_sound(pool)
            assert proxy.cuts == ROUNDS // 4
            assert_agreed(pool, admin, application_name)


def end_transaction(pool: ConnectionPool, pattern: bytes) -> None:
    """Make a transaction that ends in one way or the other."""
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")
        if pattern == b"ROLLBACK":
            raise HookError


def test_a_connect_that_fails_at_each_of_its_steps_loses_no_place(
    dsn: str, admin: connection, application_name: str, server: EmbeddedPostgres
) -> None:
    """Row 41: at the login and at the first statement of a new session."""
    with Proxy(server.port) as proxy:
        target = make_dsn(dsn, host=proxy.host, port=proxy.port, sslmode="disable")
        target = make_dsn(target, gssencmode="disable")
        with ConnectionPool(target, max_size=SIZE, timeout=5.0) as pool:
            for pattern in (application_name.encode(), b"client_connection_check"):
                for _ in range(ROUNDS // 10):
                    proxy.cut_before(pattern)
                    pool.drain()
                    with pool.connection() as conn:
                        conn.cursor().execute("SELECT 1")
                    assert_sound(pool)
            assert proxy.cuts == 2 * (ROUNDS // 10)
            assert pool.get_stats()["connections_errors"] == proxy.cuts
            assert pool.get_stats()["requests_errors"] == 0
            assert_agreed(pool, admin, application_name)


class Node:
    """Something that refers to itself, with a connection."""

    def __init__(self, conn: PooledConnection) -> None:
        self.me = self
        self.conn = conn


def lose(pool: ConnectionPool) -> None:
    """Acquire a connection and drop it."""
    pool.getconn().cursor().execute("SELECT 1")


def lose_in_a_cycle(pool: ConnectionPool) -> None:
    """Acquire a connection and leave it to the collector of cycles."""
    Node(pool.getconn()).conn.cursor().execute("SELECT 1")


def lose_in_a_thread(pool: ConnectionPool) -> None:
    """Acquire a connection in a thread that ends."""
    thread = threading.Thread(target=lose, args=(pool,))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "way", [lose, lose_in_a_cycle, lose_in_a_thread], ids=lambda way: way.__name__
)
def test_a_connection_that_its_holder_lost_comes_back_as_capacity(
    dsn: str,
    admin: connection,
    application_name: str,
    caplog: pytest.LogCaptureFixture,
    way: Callable[[ConnectionPool], None],
) -> None:
    """Row 41: with one warning, which names where it was acquired."""
    logging.disable(logging.NOTSET)
    caplog.set_level(logging.WARNING, "pgdbpool")
    place = lose if way is lose_in_a_thread else way
    line = place.__code__.co_firstlineno + 2
    with ConnectionPool(dsn, max_size=SIZE, timeout=5.0) as pool:
        for count in range(1, 2 * SIZE + 1):
            way(pool)
            gc.collect()
            until(lambda n=count: len(caplog.records) == n)
        for record in caplog.records:
            text = record.getMessage()
            assert "was not released but lost" in text
            assert pool.name in text
            assert f"chaos/test_hooks.py:{line}" in text
        assert_agreed(pool, admin, application_name)
        assert len(caplog.records) == 2 * SIZE


def test_a_lost_connection_is_given_to_who_waits(dsn: str) -> None:
    """Row 41: a waiter is served as by a release."""
    with ConnectionPool(dsn, max_size=1, timeout=5.0) as pool:
        held = [pool.getconn()]
        thread = threading.Thread(target=use, args=(pool,))
        thread.start()
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        held.clear()
        thread.join(3.0)
        assert not thread.is_alive()
        assert pool.get_stats()["requests_errors"] == 0
        assert_at_rest(pool)


def test_a_lost_connection_comes_back_when_no_thread_can_be_started(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 41: not even then is its place lost: upkeep finds it."""
    with ConnectionPool(dsn, max_size=1, timeout=2.0) as pool:
        held = [pool.getconn()]

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr("_thread.start_new_thread", refuse)
            patch.setattr("sys.unraisablehook", lambda _: None)
            held.clear()
            gc.collect()
        pool._keep_up()
        use(pool)
        assert pool.get_stats()["requests_errors"] == 0
        assert_at_rest(pool)

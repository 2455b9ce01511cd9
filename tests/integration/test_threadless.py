"""`threaded=False`: no thread, no lock, and all else as ever."""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn, parse_dsn

from pgdbpool import (
    AuthenticationFailed,
    ConnectionPool,
    EndpointDown,
    NestedCheckout,
    NoStandby,
    PoolClosed,
    PoolExhausted,
    PoolMiddleware,
    SettingsError,
)
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask as ask_server
from tests import scripting
from tests.asking import ask, held, pid, terminate
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until
from tests.webtesting import TestApp

PING = 0.5
SLACK = 5.0


def made(dsn: str, **given: Any) -> ConnectionPool:  # noqa: ANN401 - whatever it takes
    """Return a pool without threads."""
    return ConnectionPool(dsn, threaded=False, **given)


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of two; at rest afterwards."""
    with made(dsn, max_size=2, timeout=5.0) as pool:
        yield pool
        assert_at_rest(pool)


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """Give a server to be stopped and frozen."""
    with EmbeddedPostgres() as server:
        yield server


# In a process of its own: the timer thread of another test must not meet these locks.
ALONE = """
import _thread, sys, threading
import psycopg2
from pgdbpool import ConnectionPool
from pgdbpool.endpoint.gate import gate
from pgdbpool.hangups import hangups
from pgdbpool.watchdog import watchdog
from tests.asking import ask, held, terminate
from tests.observer import observe


class Forbidden:
    def __getattr__(self, name):
        raise AssertionError(f"a lock was asked for {name}")

    def __enter__(self):
        raise AssertionError("a lock was taken")

    def __exit__(self, *_):
        pass


def forbid(*_, **__):
    raise AssertionError("a lock was made or a thread was started")


for module in (threading, _thread):
    for name in ("Lock", "RLock", "allocate_lock", "start_new_thread"):
        if hasattr(module, name):
            setattr(module, name, forbid)
locks = [
    (keeper, name)
    for keeper in (watchdog, hangups, gate)
    for name, value in vars(keeper).items()
    if hasattr(value, "acquire")
]
assert len(locks) >= 3
for keeper, name in locks:
    setattr(keeper, name, Forbidden())

dsn = sys.argv[1]
with observe(dsn) as admin, ConnectionPool(dsn, max_size=2, threaded=False) as pool:
    for ping_idle in (0.0, 3600.0):
        pool._ping_idle = ping_idle
        for _ in range(3):
            held(pool, lambda conn: ask(conn, "SELECT 1"))
    conn = pool.getconn()
    try:
        ask(conn, "SELECT 1/0")
    except psycopg2.Error as error:
        print(error.pgcode)
    pool.putconn(conn)
    lost = held(pool)
    terminate(admin, lost)
    assert held(pool) != lost
    pool.check()
    pool.drain()
    held(pool)
print(threading.active_count(), "thread")
"""


def test_no_thread_is_started_and_no_lock_is_taken(embedded: EmbeddedPostgres) -> None:
    """From the first use to the end, a lost session and a rollback among it."""
    ended = scripting.run(ALONE, embedded.dsn())
    assert (ended.stdout, ended.stderr) == ("22012\n1 thread\n", "")


def test_a_hold_is_as_ever(pool: ConnectionPool, table: str) -> None:
    """Committed at its end, rolled back by an exception, made clean."""
    with pool.connection() as conn:
        ask(conn, f"INSERT INTO {table} (note) VALUES ('kept')")
        backend = pid(conn)
    with pytest.raises(psycopg2.DataError), pool.connection() as conn:
        ask(conn, f"INSERT INTO {table} (note) VALUES ('lost'), (1 / 0)")
    with pool.connection() as conn:
        assert pid(conn) == backend
        assert ask(conn, f"SELECT array_agg(note) FROM {table}") == ["kept"]


@pytest.mark.parametrize("order", ["lifo", "fifo"])
def test_the_order_is_kept_without_a_ping(dsn: str, order: Any) -> None:  # noqa: ANN401 - a literal
    """The newest serves, or the oldest."""
    with made(dsn, max_size=2, order=order, ping_idle=3600.0) as pool:
        first, second = pool.getconn(), pool.getconn()
        numbers = [pid(first), pid(second)]
        pool.putconn(first)
        pool.putconn(second)
        assert held(pool) == numbers[0 if order == "fifo" else 1]
        assert held(pool) == numbers[1]
        assert_at_rest(pool)


def test_with_all_in_use_a_block_is_told_at_once(pool: ConnectionPool) -> None:
    """It would wait for itself."""
    with pool.connection(), pool.connection():
        began = time.monotonic()
        with pytest.raises(NestedCheckout, match=r"test_threadless\.py"):
            pool.connection().__enter__()
        assert time.monotonic() - began < 1.0


def test_with_all_in_use_getconn_is_told_at_once(pool: ConnectionPool) -> None:
    """How full it is, and who has it."""
    conns = [pool.getconn(), pool.getconn()]
    began = time.monotonic()
    with pytest.raises(PoolExhausted, match="2 of 2 in use"):
        pool.getconn()
    assert time.monotonic() - began < 1.0
    for conn in conns:
        pool.putconn(conn)


@pytest.mark.direct("goes by a session's number on the server")
def test_a_lost_session_is_replaced_before_it_serves(
    pool: ConnectionPool, admin: connection
) -> None:
    """By the ping, as ever."""
    backend = held(pool)
    terminate(admin, backend)

    assert held(pool, lambda conn: ask(conn, "SELECT 1")) != backend


@pytest.mark.direct("goes by a session's number on the server")
def test_without_a_ping_a_hang_up_is_seen(dsn: str, admin: connection) -> None:
    """By a look at the socket of what has been idle for a moment."""
    with made(dsn, ping_idle=3600.0) as pool:
        backend = held(pool)
        terminate(admin, backend)
        pool._roster.endpoints[0].shelf[0].entry.since -= 1.0

        assert held(pool, lambda conn: ask(conn, "SELECT 1")) != backend
        assert_at_rest(pool)


def test_a_restart_within_grace_costs_no_error(own_server: EmbeddedPostgres) -> None:
    """Whoever comes meanwhile connects again and again."""
    with made(own_server.dsn(), max_size=4, timeout=20.0) as pool:
        held(pool)
        own_server.stop("fast")
        restarter = threading.Timer(0.5, own_server.start)
        restarter.start()
        held(pool, lambda conn: ask(conn, "SELECT 1"))
        restarter.join()
        assert pool.get_stats()["requests_errors"] == 0
        assert_at_rest(pool)


def test_after_grace_callers_are_refused_at_once_and_one_try_opens_the_door(
    own_server: EmbeddedPostgres,
) -> None:
    """With what the server last said."""
    with made(own_server.dsn(), timeout=0.3) as pool:
        held(pool)
        own_server.stop("fast")
        with pytest.raises(EndpointDown, match="refused"):
            held(pool)
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(EndpointDown):
                held(pool)
        assert time.monotonic() - began < SLACK
        own_server.start()
        until(lambda: serves(pool))
        assert_at_rest(pool)


def serves(pool: ConnectionPool) -> bool:
    """Return whether a block is served."""
    try:
        held(pool)
    except EndpointDown:
        return False
    return True


def test_a_frozen_server_is_not_waited_for(own_server: EmbeddedPostgres) -> None:
    """A ping ends within ping_timeout, without a thread that would end it."""
    dsn = own_server.dsn(connect_timeout=2)
    with made(dsn, timeout=2.0, ping_timeout=PING) as pool:
        held(pool)
        own_server.freeze()
        began = time.monotonic()
        with pytest.raises(EndpointDown):
            held(pool)
        took = time.monotonic() - began
        own_server.thaw()
        assert PING <= took < 2.0 + SLACK
        until(lambda: serves(pool))
        assert_at_rest(pool)


def test_what_is_left_in_a_frozen_server_is_given_up(
    own_server: EmbeddedPostgres,
) -> None:
    """The rollback of a release has a limit too."""
    with made(own_server.dsn(), ping_timeout=PING) as pool:
        conn = pool.getconn()
        ask(conn, "SELECT 1")
        own_server.freeze()
        began = time.monotonic()
        pool.putconn(conn)
        assert PING <= time.monotonic() - began < PING + SLACK
        own_server.thaw()
        until(lambda: serves(pool))
        assert_at_rest(pool)


def test_a_refused_login_is_told_at_once(own_server: EmbeddedPostgres) -> None:
    """It is no outage."""
    with made(own_server.dsn(user="nobody_of_that_name"), timeout=20.0) as pool:
        began = time.monotonic()
        with pytest.raises(AuthenticationFailed, match="nobody_of_that_name"):
            pool.getconn()
        assert time.monotonic() - began < SLACK


@pytest.mark.direct("counts sessions of the server")
def test_min_size_is_opened_by_wait(
    dsn: str, admin: connection, application_name: str
) -> None:
    """And by nobody on the way of a request."""
    with made(dsn, min_size=3, max_size=6) as pool:
        held(pool)
        assert len(backends(admin, application_name)) == 1
        pool.wait()
        assert len(backends(admin, application_name)) == 3
        assert_at_rest(pool)


def test_lifetimes_end_on_the_way(dsn: str) -> None:
    """Whoever acquires does what time brings."""
    with made(dsn, max_lifetime=0.05) as pool:
        backend = held(pool)
        until(lambda: held(pool) != backend)
        assert_at_rest(pool)


def test_a_finalizer_in_the_middle_of_the_pools_work_releases_later(
    pool: ConnectionPool,
) -> None:
    """The collector may run it anywhere."""

    class Lost:
        def __init__(self, conn: Any) -> None:  # noqa: ANN401 - a pooled connection
            self.conn = conn

        def __del__(self) -> None:
            pool.putconn(self.conn)

    lost = Lost(pool.getconn())
    backend = pid(lost.conn)
    with pool._lock:
        del lost
    assert held(pool) == backend


def test_what_a_holder_lost_is_taken_back(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning, at the next acquire."""
    for _ in range(5):
        conn: Any = pool.getconn()
        del conn
        gc.collect()
    held(pool)
    assert "was not released but lost" in caplog.text


def test_a_forked_child_begins_anew(pool: ConnectionPool) -> None:
    """And its parent goes on."""
    backend = held(pool)
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        with os.fdopen(sink, "w") as file:
            file.write(str(held(pool)))
        os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        said = file.read()
    os.waitpid(child, 0)
    assert int(said) != backend
    assert held(pool) == backend


def test_a_keyboard_interrupt_while_connecting_is_raised(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs nothing."""
    with made(dsn, max_size=1) as pool:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("pgdbpool.endpoint.endpoint.prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.getconn()
        monkeypatch.undo()
        until(lambda: serves(pool))
        assert_at_rest(pool)


def test_a_closed_pool_says_so(dsn: str) -> None:
    """As ever."""
    pool = made(dsn)
    held(pool)
    pool.close()
    with pytest.raises(PoolClosed):
        held(pool)


@pytest.mark.parametrize("change", [ConnectionPool.drain, ConnectionPool.rotate])
def test_everything_is_replaced(
    pool: ConnectionPool, change: Callable[[ConnectionPool], None]
) -> None:
    """By the use after the next at the latest."""
    backend = held(pool)
    change(pool)
    held(pool)
    assert held(pool) != backend


def test_a_request_is_served_through_the_middleware(pool: ConnectionPool) -> None:
    """As behind gunicorn sync."""

    def app(environ: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        answer = ask(environ["pgdbpool.conn"], "SELECT 'served'")
        start("200 OK", [("Content-Type", "text/plain")])
        return [answer.encode()]

    client = TestApp(PoolMiddleware(app, pool))
    for _ in range(3):
        assert client.get("/").text == "served"


@pytest.mark.direct("names servers besides")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("is_probed", [False, True])
def test_silent_servers_that_are_named_first_leave_time_for_the_next(
    dsn: str, number: int, *, is_probed: bool
) -> None:
    """With the defaults; nobody else tries it meanwhile."""
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(number)
        ]
        info = parse_dsn(dsn)
        ports = [str(one.getsockname()[1]) for one in silent]
        info["port"] = ",".join([*ports, info["port"]])
        info["host"] = ",".join(["127.0.0.1"] * number + [info["host"]])
        pool = stack.enter_context(made(make_dsn(**info)))
        if is_probed:
            assert pool.health().write_ready
        for _ in range(20):
            held(pool, lambda conn: ask(conn, "SELECT 1"))


def test_several_servers_are_met_on_the_way() -> None:
    """Writes find the primary, also the next; reads the standby."""
    with Cluster(standbys=1) as cluster:
        ask_server(cluster.primary, "CREATE TABLE written (i int)")
        cluster.wait_until_replayed()
        with made(cluster.dsn(), max_size=2, timeout=20.0) as pool:
            assert (
                ask_in(pool, "INSERT INTO written VALUES (1)") == cluster.primary.port
            )
            (standby,) = cluster.standbys
            until(lambda: ask_in(pool, "SELECT 1", read_only=True) == standby.port)
            cluster.switch_over()
            assert ask_in(pool, "INSERT INTO written VALUES (2)") == standby.port
            until(lambda: ask_in(pool, "SELECT 1", read_only=True) != standby.port)
            for server in cluster.standbys:
                server.kill()
            with pytest.raises(NoStandby):
                pool.getconn(1.0, read_only=True, strict=True)
            assert_at_rest(pool)


def ask_in(pool: ConnectionPool, statement: str, **how: bool) -> int:
    """Say something in a block; return at which port it was heard."""
    with pool.connection(**how) as conn:
        ask(conn, statement)
        port: int = conn.info.port
        return port


def test_threaded_is_true_or_false(dsn: str) -> None:
    """Nothing else."""
    with pytest.raises(SettingsError, match="threaded: must be bool"):
        ConnectionPool(dsn, threaded="no")  # type: ignore[arg-type]


if sys.version_info < (3, 12):
    pytestmark: list[pytest.MarkDecorator] = []
else:  # forking a process whose other tests had threads
    pytestmark = [pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

"""What stands in environ: the request's connection, when it is needed."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool.errors import ConnectionReleased, NestedCheckout
from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.proxy import ConnectionProxy
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    Environ,
    Exchange,
    Start,
    run,
)

Handler = Callable[[Any], object]


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


def handle(pool: ScriptedPool, handler: Handler, **settings: object) -> Exchange:
    """Run one request whose handler gets the connection; raise what it raised."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        handler(environ["pgdbpool.conn"])
        start(OK, TEXT)
        return [b"ok"]

    exchange = run(PoolMiddleware(app, pool, **settings), pool)
    if exchange.error is not None:
        raise exchange.error
    return exchange


@pytest.mark.parametrize(
    "use",
    [
        lambda _: None,
        repr,
        dir,
        bool,
        lambda conn: hasattr(conn, "__wrapped__"),
        lambda conn: conn.commit(),
        lambda conn: conn.rollback(),
        lambda conn: conn.release(),
        lambda conn: conn.close(),
    ],
)
def test_what_needs_no_connection_acquires_none(
    pool: ScriptedPool, use: Handler
) -> None:
    """A request that never touches the database takes nothing from the pool."""
    handle(pool, use)
    assert "acquire" not in pool.log


@pytest.mark.parametrize(
    "use",
    [
        lambda conn: conn.cursor(),
        lambda conn: conn.closed,
        lambda conn: conn.dbapi_connection,
        lambda conn: conn.__enter__(),
        lambda conn: setattr(conn, "isolation_level", 1),
    ],
)
def test_the_first_use_acquires(pool: ScriptedPool, use: Handler) -> None:
    """Whatever needs the real connection gets one."""
    handle(pool, use)
    assert pool.log[0] == "acquire"


def test_eager_acquires_before_the_app_is_called(pool: ScriptedPool) -> None:
    """With ``eager=True`` the connection is there from the start."""
    handle(pool, lambda _: pool.log.append("handler"), eager=True)
    assert pool.log[:2] == ["acquire", "handler"]


def test_within_a_request_it_is_one_connection(pool: ScriptedPool) -> None:
    """However often it is asked for."""

    def handler(conn: ConnectionProxy) -> None:
        assert conn.dbapi_connection is pool.conn
        assert conn.cursor().connection is pool.conn

    handle(pool, handler)
    assert pool.log.count("acquire") == 1


def test_threads_of_one_request_share_its_connection(pool: ScriptedPool) -> None:
    """The second thread waits for the first one's acquire and takes no other."""
    both = threading.Barrier(2)
    numbers = []

    def handler(conn: ConnectionProxy) -> None:
        def use() -> None:
            both.wait(5)
            numbers.append(conn.number)

        threads = [threading.Thread(target=use) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)

    handle(pool, handler)
    assert numbers == [1, 1]
    assert pool.log.count("acquire") == 1


def test_the_pool_is_told_what_acquires_and_where(pool: ScriptedPool) -> None:
    """Method and path, without the query, and the app's own code."""

    def my_handler(conn: ConnectionProxy) -> None:
        conn.cursor()

    handle(pool, my_handler)
    assert pool.requests == ["GET /report"]
    assert pool.callers == ["my_handler"]


def test_nobody_asks_for_a_route_that_nobody_is_told(pool: ScriptedPool) -> None:
    """It would take microseconds of each request, of Django's ten."""
    asked = []

    class Route:
        @property
        def rule(self) -> str:
            asked.append("rule")
            return "/item/<name>"

    def app(environ: Environ, start: Start) -> list[bytes]:
        environ["bottle.route"] = Route()
        environ["pgdbpool.conn"].cursor()
        start(OK, TEXT)
        return []

    for tells_routes in (False, True):
        pool.tells_routes = tells_routes
        run(PoolMiddleware(app, pool), pool)
        assert bool(asked) is tells_routes


def test_where_the_application_is_mounted_is_told_as_well(pool: ScriptedPool) -> None:
    """Two of them may have the same paths."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        environ["SCRIPT_NAME"] += environ.pop("PATH_INFO")  # as one inside it would
        environ["pgdbpool.conn"].cursor()
        start(OK, TEXT)
        return []

    run(PoolMiddleware(app, pool), pool, path="/list", SCRIPT_NAME="/admin")
    assert pool.requests == ["GET /admin/list"]


def test_a_path_cannot_forge_a_line_of_the_log(pool: ScriptedPool) -> None:
    """What is not printable is quoted as it was on the wire."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        environ["pgdbpool.conn"].cursor()
        start(OK, TEXT)
        return []

    path = "/na\xc3\xafve\nFATAL"
    run(PoolMiddleware(app, pool), pool, path=path, QUERY_STRING="token=secret")
    assert pool.requests == ["GET /na%C3%AFve%0AFATAL"]


def test_attributes_are_read_and_set_on_the_connection(pool: ScriptedPool) -> None:
    """``conn.autocommit = True`` reaches the session, not the proxy."""

    def handler(conn: ConnectionProxy) -> None:
        conn.autocommit = True
        conn.isolation_level = 3
        assert (pool.conn.autocommit, pool.conn.isolation_level) == (True, 3)
        assert conn.isolation_level == 3

    handle(pool, handler)


def test_an_unknown_attribute_is_an_attribute_error(pool: ScriptedPool) -> None:
    """As on a psycopg2 connection."""
    with pytest.raises(AttributeError):
        handle(pool, lambda conn: conn.no_such_thing())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_can_be_copied_no_more_than_a_connection(
    pool: ScriptedPool, duplicate: Handler
) -> None:
    """The attempt acquires nothing."""
    with pytest.raises(TypeError, match="GET /report"):
        handle(pool, duplicate)
    assert "acquire" not in pool.log


def test_dir_names_what_a_connection_has(pool: ScriptedPool) -> None:
    """A console can complete the names of both."""

    def handler(conn: ConnectionProxy) -> None:
        assert {"cursor", "notices", "release", "dbapi_connection"} <= set(dir(conn))

    handle(pool, handler)


class TestBlock:
    """``with conn:`` is psycopg2's: a transaction, not a hold."""

    def test_it_commits_and_keeps_the_connection(self, pool: ScriptedPool) -> None:
        """After the block the connection is still the request's."""

        def handler(conn: ConnectionProxy) -> None:
            with conn as same:
                assert same is conn
                assert pool.conn.is_entered
                same.cursor().execute("first")
            assert not pool.conn.is_entered
            conn.cursor().execute("second")

        handle(pool, handler)
        assert pool.log[:5] == ["acquire", "first", "COMMIT", "second", "COMMIT"]

    def test_it_rolls_back_after_an_exception(self, pool: ScriptedPool) -> None:
        """The exception goes on, the connection stays."""

        def handler(conn: ConnectionProxy) -> None:
            with pytest.raises(sqlstate.UniqueViolation), conn:
                conn.cursor().execute("fail")
            conn.cursor().execute("second")

        handle(pool, handler)
        assert pool.log[:5] == ["acquire", "fail", "ROLLBACK", "second", "COMMIT"]

    def test_a_commit_that_fails_ends_the_block(self, pool: ScriptedPool) -> None:
        """psycopg2 can enter the next one."""
        pool.commit_error = psycopg2.IntegrityError("deferred")

        def handler(conn: ConnectionProxy) -> None:
            with pytest.raises(psycopg2.IntegrityError), conn:
                conn.cursor().execute("first")
            assert not pool.conn.is_entered

        handle(pool, handler)

    def test_release_is_refused_inside(self, pool: ScriptedPool) -> None:
        """Also before its first statement."""

        def handler(conn: ConnectionProxy) -> None:
            with conn, pytest.raises(psycopg2.ProgrammingError, match="release"):
                conn.release()

        handle(pool, handler)


class TestRelease:
    """``release()`` hands the connection back early (row 6)."""

    def test_it_releases_and_the_next_use_acquires_anew(
        self, pool: ScriptedPool
    ) -> None:
        """Between the two the connection is anyone's."""

        def handler(conn: ConnectionProxy) -> None:
            conn.cursor().execute("first")
            conn.commit()
            conn.release()
            assert pool.held == 0
            conn.cursor().execute("second")

        handle(pool, handler)
        assert pool.log[3:7] == ["release", "acquire", "second", "COMMIT"]

    def test_it_is_refused_inside_a_transaction_that_was_used(
        self, pool: ScriptedPool
    ) -> None:
        """The error says what to do, and nothing is lost."""

        def handler(conn: ConnectionProxy) -> None:
            conn.cursor().execute("first")
            with pytest.raises(
                psycopg2.ProgrammingError,
                match=r"GET /report: .*commit\(\) or rollback",
            ):
                conn.release()

        handle(pool, handler)
        assert pool.log[:4] == ["acquire", "first", "COMMIT", "release"]

    def test_its_cursors_are_closed(self, pool: ScriptedPool) -> None:
        """A cursor cannot outlive the hold that opened it."""

        def handler(conn: ConnectionProxy) -> None:
            cur = conn.cursor()
            conn.release()
            with pytest.raises(psycopg2.InterfaceError):
                cur.execute("late")

        handle(pool, handler)

    def test_twice_is_once(self, pool: ScriptedPool) -> None:
        """Without a connection there is nothing to release."""

        def handler(conn: ConnectionProxy) -> None:
            conn.cursor()
            conn.release()
            conn.release()

        handle(pool, handler)
        assert pool.log.count("release") == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda conn: conn.cursor(),
        lambda conn: conn.closed,
        lambda conn: conn.commit(),
        lambda conn: conn.rollback(),
        lambda conn: conn.release(),
        lambda conn: conn.close(),
        lambda conn: conn.__enter__(),
        lambda conn: conn.dbapi_connection,
        lambda conn: setattr(conn, "autocommit", True),
    ],
)
@pytest.mark.parametrize("is_used", [True, False])
def test_after_the_request_every_use_raises_and_names_it(
    pool: ScriptedPool, use: Handler, *, is_used: bool
) -> None:
    """Whoever keeps it cannot touch another request's connection (row 31)."""
    kept: list[Any] = []

    def handler(conn: ConnectionProxy) -> None:
        kept.append(conn)
        if is_used:
            conn.cursor()

    handle(pool, handler)
    acquired = pool.log.count("acquire")
    with pytest.raises(ConnectionReleased, match="GET /report is over"):
        use(kept[0])
    assert pool.log.count("acquire") == acquired
    assert "over" in repr(kept[0])


def test_a_thread_that_outlives_the_request_cannot_leak_a_connection(
    pool: ScriptedPool,
) -> None:
    """An acquire that ends after its request is given back at once."""
    acquiring, over = threading.Event(), threading.Event()
    errors = []

    def wait() -> None:
        acquiring.set()
        assert over.wait(5)

    def use(conn: ConnectionProxy) -> None:
        try:
            conn.cursor()
        except ConnectionReleased as error:
            errors.append(error)

    def handler(conn: ConnectionProxy) -> None:
        pool.on_acquire = wait
        thread = threading.Thread(target=use, args=(conn,))
        threads.append(thread)
        thread.start()
        assert acquiring.wait(5)

    threads: list[threading.Thread] = []
    try:
        handle(pool, handler)
    finally:
        over.set()
        threads[0].join(5)
    assert len(errors) == 1
    assert pool.held == 0


def test_a_nested_acquire_is_the_apps_error(pool: ScriptedPool) -> None:
    """Trying again would repeat the mistake, so it is no 503."""
    pool.refusals.append(NestedCheckout("every holder waits"))
    with pytest.raises(NestedCheckout):
        handle(pool, lambda conn: conn.cursor())

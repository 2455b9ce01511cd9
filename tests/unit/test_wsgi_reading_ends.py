"""What reads is released at every end of a request, and may be tried again."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from wsgiref.util import FileWrapper

import psycopg2
import pytest

from pgdbpool.errors import ConnectionReleased, NestedCheckout
from pgdbpool.wsgi import PoolMiddleware, ReadYourWrites
from pgdbpool.wsgi.reader import Reader
from pgdbpool.wsgi.request import Request
from tests.unit.scripted_standbys import ScriptedStandbys, using
from tests.unit.wsgi_exchange import (
    OK,
    OOPS,
    TEXT,
    Body,
    Environ,
    Exchange,
    Start,
    answering,
    down,
    framework,
    is_refused,
    run,
)
from tests.waiting import until


@pytest.fixture
def pool() -> ScriptedStandbys:
    """Give a pool that writes down what is asked of it."""
    return ScriptedStandbys()


class TestEveryEnd:
    """Both connections are released exactly once, however a request ends."""

    @pytest.mark.parametrize(
        ("error", "keep"), [(ValueError("mine"), True), (SystemExit(1), False)]
    )
    def test_an_exception(
        self, pool: ScriptedStandbys, error: BaseException, *, keep: bool
    ) -> None:
        """It goes on untouched; one from outside costs the connections."""

        def app(environ: Environ, start: Start) -> Body:
            using("read: SELECT", "conn: INSERT")(environ, start)
            raise error

        assert run(PoolMiddleware(app, pool), pool).error is error
        assert (pool.held, pool.kept) == (0, [keep, keep])

    def test_a_release_that_fails(self, pool: ScriptedStandbys) -> None:
        """The other one is released all the same."""
        errors = [KeyboardInterrupt()]

        def fail_once() -> None:
            if errors:
                raise errors.pop()

        pool.on_release = fail_once
        run(PoolMiddleware(using("read: SELECT", "conn: INSERT"), pool), pool, "POST")
        assert pool.log.count("release") == 1

    @pytest.mark.parametrize("is_read_first", [True, False])
    def test_a_stream_that_is_closed_early(
        self, pool: ScriptedStandbys, *, is_read_first: bool
    ) -> None:
        """Also one that begins to read only in the middle."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            if is_read_first:
                environ["pgdbpool.read"].cursor().execute("SELECT")
            yield b"1"
            environ["pgdbpool.read"].cursor().execute("SELECT")
            yield b"2"
            yield b"3"

        exchange = Exchange(PoolMiddleware(app, pool), pool.log).call()
        exchange.take()
        exchange.take()
        assert pool.held == 1
        exchange.close()
        exchange.close()
        assert (pool.held, pool.log.count("release")) == (0, 1)

    def test_a_stream_that_nobody_closes(self, pool: ScriptedStandbys) -> None:
        """The collector gives the standby's back as well."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            environ["pgdbpool.read"].cursor().execute("SELECT")
            yield b"1"
            yield b"2"

        middleware = PoolMiddleware(app, pool)
        exchange = Exchange(middleware, pool.log).call()
        exchange.take()
        assert middleware._rules.streaming
        del exchange
        gc.collect()
        until(lambda: pool.held == 0)
        assert not middleware._rules.streaming

    @pytest.mark.parametrize("shape", [iter, lambda _: FileWrapper(BytesIO(b"ok"))])
    def test_a_body_that_may_read_on_keeps_it(
        self, pool: ScriptedStandbys, shape: Callable[[list[bytes]], Body]
    ) -> None:
        """A file can be a large object of that very transaction."""

        def app(environ: Environ, start: Start) -> Body:
            environ["pgdbpool.read"].cursor().execute("SELECT")
            return answering(b"ok", statement=None, shape=shape)(environ, start)

        middleware = PoolMiddleware(app, pool)
        more = {"wsgi.file_wrapper": FileWrapper}
        exchange = Exchange(middleware, pool.log, **more).call()
        exchange.take()
        assert list(middleware._rules.streaming) == [pool.conn]
        exchange.close()
        assert (pool.held, exchange.content) == (0, b"ok")
        assert not middleware._rules.streaming

    def test_an_acquire_that_ends_after_its_request(
        self, pool: ScriptedStandbys
    ) -> None:
        """A thread that outlives the request cannot leak a connection."""
        acquiring, over = threading.Event(), threading.Event()
        threads: list[threading.Thread] = []
        errors: list[Exception] = []

        def wait() -> None:
            acquiring.set()
            assert over.wait(5)

        def app(environ: Environ, start: Start) -> Body:
            def use() -> None:
                try:
                    environ["pgdbpool.read"].cursor()
                except ConnectionReleased as error:
                    errors.append(error)

            pool.on_acquire = wait
            threads.append(threading.Thread(target=use))
            threads[0].start()
            assert acquiring.wait(5)
            start(OK, TEXT)
            return []

        try:
            run(PoolMiddleware(app, pool), pool)
        finally:
            over.set()
            threads[0].join(5)
        assert (pool.held, len(errors)) == (0, 1)

    @pytest.mark.parametrize("ends_meanwhile", [True, False])
    def test_a_reader_that_its_ending_request_did_not_see(
        self, pool: ScriptedStandbys, *, ends_meanwhile: bool
    ) -> None:
        """Another thread was about to use it; it ends all the same."""
        request = Request(PoolMiddleware(using(), pool)._rules, {})
        reader = Reader(request)
        if ends_meanwhile:
            pool.on_acquire = request.end
        else:
            request.end()
        with pytest.raises(ConnectionReleased):
            reader.connection()
        assert (pool.held, pool.log.count("release")) == (0, int(ends_meanwhile))

    def test_no_cycle_keeps_the_environ_alive(self, pool: ScriptedStandbys) -> None:
        """When the server drops it, it is gone without the collector's help."""

        class Witness:
            """Something in environ whose end can be observed."""

        witness = Witness()
        gone = weakref.ref(witness)
        exchange = Exchange(
            PoolMiddleware(
                using("read: SELECT", "conn: INSERT", "read: SELECT"),
                pool,
                read_your_writes=ReadYourWrites("secret"),
            ),
            pool.log,
            "POST",
            witness=witness,
        )
        del witness
        gc.collect()
        gc.disable()
        try:
            environ = exchange.run().environ
            del exchange, environ
            assert gone() is None
        finally:
            gc.enable()


class TestPromise:
    """Reading commits nothing: its troubles can be tried again."""

    @pytest.mark.parametrize("trouble", ["down", "lost"])
    @pytest.mark.parametrize("wrap", [lambda app: app, framework])
    def test_it_is_answered_503(
        self, pool: ScriptedStandbys, trouble: str, wrap: Callable[[Any], Any]
    ) -> None:
        """A failed acquire and a lost connection, a framework's 500 included."""
        if trouble == "down":
            pool.refusals.append(down())
        app = wrap(using("read: lost"))
        assert is_refused(run(PoolMiddleware(app, pool), pool, "POST"))
        assert pool.held == 0

    def test_its_own_commit_does_not_count(self, pool: ScriptedStandbys) -> None:
        """It wrote nothing."""
        app = using("read: SELECT", "read.commit", "read: lost")
        assert is_refused(run(PoolMiddleware(app, pool), pool, "POST"))

    def test_what_the_request_committed_counts(self, pool: ScriptedStandbys) -> None:
        """Then 503 would not be true."""

        def app(environ: Environ, _start: Start) -> Body:
            read = environ["pgdbpool.read"].cursor()
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            environ["pgdbpool.conn"].commit()
            read.execute("lost")
            return []

        exchange = run(PoolMiddleware(framework(app), pool), pool, "POST")
        assert exchange.status == OOPS

    def test_a_swallowed_loss_loses_nothing(self, pool: ScriptedStandbys) -> None:
        """What the request wrote is committed, and its success is one."""

        def app(environ: Environ, start: Start) -> Body:
            with pytest.raises(psycopg2.OperationalError):
                environ["pgdbpool.read"].cursor().execute("lost")
            return using("conn: INSERT")(environ, start)

        exchange = run(PoolMiddleware(app, pool), pool, "POST")
        assert (exchange.status, "COMMIT" in pool.log) == (OK, True)

    def test_reading_from_its_own_redeems_a_failed_acquire(
        self, pool: ScriptedStandbys
    ) -> None:
        """Then a 500 is about something else."""
        pool.refusals.append(down())

        def app(environ: Environ, start: Start) -> Body:
            with pytest.raises(psycopg2.OperationalError):
                environ["pgdbpool.read"].cursor()
            uses = ("conn: INSERT", "read: SELECT")
            return using(*uses, status=OOPS)(environ, start)

        assert run(PoolMiddleware(app, pool), pool, "POST").status == OOPS

    def test_a_nested_acquire_is_the_apps_error(self, pool: ScriptedStandbys) -> None:
        """Trying again would repeat the mistake."""
        pool.refusals.append(NestedCheckout("every holder waits"))
        exchange = run(PoolMiddleware(using("read: SELECT"), pool), pool)
        assert isinstance(exchange.error, NestedCheckout)

    def test_the_log_says_what_became_of_it(
        self, pool: ScriptedStandbys, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The operator reads the cause."""
        pool.refusals.append(down())
        app = framework(using("read: SELECT"))
        with caplog.at_level(logging.WARNING, "pgdbpool.wsgi"):
            run(PoolMiddleware(app, pool), pool)
        assert "db1 refuses connections" in caplog.text

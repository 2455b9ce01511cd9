"""The response: passed on as it comes, committed before its last byte."""

import io
import sys
from collections.abc import Callable, Iterator
from wsgiref.util import FileWrapper

import pytest
from psycopg2 import errors as sqlstate

from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    Body,
    Environ,
    Exchange,
    Start,
    answering,
    run,
    sized,
    streaming,
)


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


def fail() -> None:
    """Fail inside the app."""
    raise KeyError("mine")


class TestUntouched:
    """Bodies that need no wrapping are not wrapped."""

    @pytest.mark.parametrize("statement", [None, "INSERT"])
    @pytest.mark.parametrize("body", [[b"ok"], (b"o", b"k"), [], ()])
    def test_lists_and_tuples(
        self, pool: ScriptedPool, body: Body, statement: str | None
    ) -> None:
        """A body that is complete is handed on as it is."""
        app = answering(statement=statement, shape=lambda _: body)
        assert run(PoolMiddleware(app, pool), pool).body is body

    @pytest.mark.parametrize("as_function", [False, True])
    def test_a_file_for_the_server(
        self, pool: ScriptedPool, *, as_function: bool
    ) -> None:
        """The server recognizes its own wrapper, also where it is a function."""

        def app(environ: Environ, start: Start) -> Body:
            start(OK, TEXT)
            return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

        wrapper = (lambda file: FileWrapper(file)) if as_function else FileWrapper  # noqa: PLW0108 - a function is what mod_wsgi has
        more = {"wsgi.file_wrapper": wrapper}
        exchange = run(PoolMiddleware(app, pool), pool, **more)
        assert type(exchange.body) is FileWrapper
        assert exchange.content == b"file"

    def test_a_file_after_an_early_release(self, pool: ScriptedPool) -> None:
        """Who looked a permission up and released can still use sendfile."""

        def app(environ: Environ, start: Start) -> Body:
            environ["pgdbpool.conn"].cursor().execute("SELECT")
            environ["pgdbpool.conn"].rollback()
            environ["pgdbpool.conn"].release()
            start(OK, TEXT)
            return FileWrapper(io.BytesIO(b"file"))

        more = {"wsgi.file_wrapper": FileWrapper}
        exchange = run(PoolMiddleware(app, pool), pool, **more)
        assert type(exchange.body) is FileWrapper

    def test_a_file_in_a_transaction_is_wrapped(self, pool: ScriptedPool) -> None:
        """It can be a large object of that very transaction."""
        app = answering(shape=lambda _: FileWrapper(io.BytesIO(b"file")))
        more = {"wsgi.file_wrapper": FileWrapper}
        exchange = run(PoolMiddleware(app, pool), pool, **more)
        assert type(exchange.body) is not FileWrapper
        assert pool.log[-4:] == [OK, "send file", "COMMIT", "release"]

    def test_a_file_is_closed_when_the_server_refuses_the_headers(
        self, pool: ScriptedPool
    ) -> None:
        """Nobody else could close what the server never saw."""
        file = io.BytesIO(b"file")

        def refuse(*_: object) -> None:
            raise ValueError("not a header")

        app = answering(statement=None, shape=lambda _: FileWrapper(file))
        exchange = Exchange(app, pool.log, **{"wsgi.file_wrapper": FileWrapper})
        with pytest.raises(ValueError, match="not a header"):
            PoolMiddleware(app, pool)(exchange.environ, refuse)
        assert file.closed


class TestOrder:
    """The commit comes before the byte that completes the response."""

    def test_a_stream_is_passed_on_at_once_and_committed_at_its_end(
        self, pool: ScriptedPool
    ) -> None:
        """Block by block, without delay; nothing is held after the end."""
        run(PoolMiddleware(streaming(b"1", b"2"), pool), pool)
        assert pool.log == [
            *("acquire", "SELECT", OK, "send 1", "SELECT", "send 2"),
            *("last", "COMMIT", "release"),
        ]

    def test_a_stream_of_announced_length_is_committed_before_its_last_byte(
        self, pool: ScriptedPool
    ) -> None:
        """What is done after it is committed at the end."""
        app = streaming(b"1", b"", b"23", headers=sized(3))
        run(PoolMiddleware(app, pool), pool)
        assert pool.log == [
            *("acquire", "SELECT", OK, "send 1", "SELECT", "send ", "SELECT"),
            *("COMMIT", "send 23", "last", "COMMIT", "release"),
        ]

    def test_a_single_block_of_announced_length_is_committed_before_the_headers(
        self, pool: ScriptedPool
    ) -> None:
        """What Flask and Django return: a COMMIT that fails can still be a 500."""
        app = answering(b"ok", headers=sized(2), shape=iter)
        run(PoolMiddleware(app, pool), pool)
        assert pool.log == [
            *("acquire", "INSERT", "COMMIT", OK, "send ok", "release"),
        ]

    @pytest.mark.parametrize(
        ("method", "status"),
        [("HEAD", OK), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
    )
    def test_without_a_body_it_is_complete_with_its_headers(
        self, pool: ScriptedPool, method: str, status: str
    ) -> None:
        """HEAD, 204 and 304 have nothing after them, whatever Content-Length says."""
        app = answering(b"", status=status, headers=sized(9), shape=iter)
        run(PoolMiddleware(app, pool), pool, method)
        assert pool.log.index("COMMIT") < pool.log.index(status)

    def test_a_length_that_is_no_number_is_ignored(self, pool: ScriptedPool) -> None:
        """Then the end of the body tells."""
        headers = [("Content-Length", "many")]
        app = answering(b"ok", headers=headers, shape=iter)
        run(PoolMiddleware(app, pool), pool)
        assert pool.log[2:] == [OK, "send ok", "COMMIT", "release"]

    def test_a_commit_that_fails_at_a_streams_end_cuts_it(
        self, pool: ScriptedPool
    ) -> None:
        """The error reaches the server, which must not end the response well."""
        pool.commit_error = error = sqlstate.ForeignKeyViolation("deferred")
        exchange = run(PoolMiddleware(streaming(b"1"), pool), pool)
        assert exchange.error is error
        assert exchange.content == b"1"
        assert pool.held == 0

    def test_a_commit_that_fails_holds_the_last_byte_back(
        self, pool: ScriptedPool
    ) -> None:
        """A client that counts sees that something is missing."""
        pool.commit_error = error = sqlstate.ForeignKeyViolation("deferred")
        app = streaming(b"1", b"2", headers=sized(2))
        exchange = run(PoolMiddleware(app, pool), pool)
        assert (exchange.error, exchange.content) == (error, b"1")

    def test_a_body_of_500_is_rolled_back(self, pool: ScriptedPool) -> None:
        """Also when it is a stream."""
        app = streaming(b"1", status="500 Oops", headers=sized(1))
        run(PoolMiddleware(app, pool), pool)
        assert pool.log[-3:] == ["last", "ROLLBACK", "release"]


class TestStartResponse:
    """start_response and write() behave as PEP 3333 says."""

    def test_a_generator_may_call_it_at_its_first_block(
        self, pool: ScriptedPool
    ) -> None:
        """As every application that is a generator does."""
        exchange = run(PoolMiddleware(streaming(b"1"), pool), pool)
        assert (exchange.status, exchange.content) == (OK, b"1")

    def test_exc_info_replaces_what_was_held_back(self, pool: ScriptedPool) -> None:
        """An error page takes the place of the page that failed."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            start(OK, TEXT)
            try:
                fail()
            except KeyError:
                start("500 Oops", TEXT, sys.exc_info())
            return [b"oops"]

        exchange = run(PoolMiddleware(app, pool), pool)
        assert (exchange.error, exchange.status) == (None, "500 Oops")
        assert pool.log[:4] == ["acquire", "INSERT", "ROLLBACK", "release"]

    @pytest.mark.parametrize("is_sent", [True, False])
    def test_exc_info_after_the_headers_is_the_servers_to_judge(
        self, pool: ScriptedPool, *, is_sent: bool
    ) -> None:
        """It raises once something was sent, and replaces the headers before."""

        def app(_environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            yield b"1"
            try:
                fail()
            except KeyError:
                start("500 Oops", TEXT, sys.exc_info())
            yield b"2"

        exchange = Exchange(PoolMiddleware(app, pool), pool.log).call()
        exchange.take()
        if is_sent:
            with pytest.raises(KeyError, match="mine"):
                exchange.take()
        else:
            exchange.blocks.clear()
            exchange.take()
            assert exchange.status == "500 Oops"
        exchange.close()

    def test_a_second_call_without_exc_info_is_an_error(
        self, pool: ScriptedPool
    ) -> None:
        """Held back or not."""

        def app(_environ: Environ, start: Start) -> list[bytes]:
            start(OK, TEXT)
            start(OK, TEXT)
            return []

        exchange = run(PoolMiddleware(app, pool), pool)
        assert isinstance(exchange.error, AssertionError)

    def test_write_sends_at_once(self, pool: ScriptedPool) -> None:
        """And what was written comes before the body."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            write = start(OK, TEXT)
            write(b"1")
            pool.log.append("written")
            write(b"2")
            return [b"3"]

        run(PoolMiddleware(app, pool), pool)
        assert pool.log == [
            *("acquire", "INSERT", OK, "send 1", "written", "send 2"),
            *("COMMIT", "release", "send 3"),
        ]

    def test_write_commits_before_the_byte_that_completes_the_response(
        self, pool: ScriptedPool
    ) -> None:
        """As a body does."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            write = start(OK, sized(2))
            write(b"1")
            write(b"2")
            return []

        run(PoolMiddleware(app, pool), pool)
        assert pool.log[2:] == [OK, "send 1", "COMMIT", "send 2", "release"]

    @pytest.mark.parametrize("shape", [list, iter])
    def test_a_commit_that_fails_in_write_cannot_be_swallowed(
        self, pool: ScriptedPool, shape: Callable[[list[bytes]], Body]
    ) -> None:
        """The response becomes the error all the same."""
        pool.commit_error = error = sqlstate.ForeignKeyViolation("deferred")

        def app(environ: Environ, start: Start) -> Body:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            with pytest.raises(sqlstate.ForeignKeyViolation):
                start(OK, sized(2))(b"ok")
            return shape([])

        exchange = run(PoolMiddleware(app, pool), pool)
        assert (exchange.error, exchange.status) == (error, "")

    def test_nothing_can_be_written_after_the_end(self, pool: ScriptedPool) -> None:
        """What an app keeps of a response leads nowhere."""
        kept = []

        def app(_environ: Environ, start: Start) -> list[bytes]:
            kept.append(start(OK, TEXT))
            return []

        run(PoolMiddleware(app, pool), pool)
        with pytest.raises(AssertionError):
            kept[0](b"late")

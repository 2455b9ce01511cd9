"""503 is a promise: nothing was committed, try again."""

import logging
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from pgdbpool.errors import (
    EndpointDown,
    PoolClosed,
    PoolError,
    PoolExhausted,
    TooManyRequests,
)
from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    OOPS,
    TEXT,
    Body,
    Environ,
    Start,
    answering,
    down,
    framework,
    is_refused,
    raising,
    run,
)


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


@pytest.mark.parametrize(
    "error", [down(), PoolExhausted("all in use"), TooManyRequests(""), PoolClosed("")]
)
def test_a_failed_acquire_is_answered_503(pool: ScriptedPool, error: PoolError) -> None:
    """Status, Retry-After, a short text, and the cause only in the log."""
    pool.refusals.append(error)
    exchange = run(PoolMiddleware(answering(), pool, retry_after=3), pool)
    assert is_refused(exchange)
    headers = dict(exchange.headers)
    assert headers["Retry-After"] == "3"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert int(headers["Content-Length"]) == len(exchange.content) > 0


def test_the_cause_goes_to_the_log_and_not_to_the_client(
    pool: ScriptedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators read which request and why; strangers only to try again."""
    pool.refusals.append(down())
    exchange = run(PoolMiddleware(answering(), pool), pool)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pgdbpool.wsgi", logging.WARNING)
    assert "GET /report" in record.getMessage()
    assert "db1 refuses connections" in record.getMessage()
    assert b"db1" not in exchange.content


def test_head_gets_the_503_without_its_text(pool: ScriptedPool) -> None:
    """HEAD has the headers of GET and no body."""
    pool.refusals.append(down())
    exchange = run(PoolMiddleware(answering(), pool), pool, "HEAD")
    assert is_refused(exchange)
    assert exchange.content == b""


def test_eager_refuses_before_the_app_is_called(pool: ScriptedPool) -> None:
    """An eager request needs its connection, whatever the app would do."""
    pool.refusals.append(down())
    exchange = run(PoolMiddleware(pytest.fail, pool, eager=True), pool)
    assert is_refused(exchange)


def test_a_connection_lost_before_commit_is_answered_503(pool: ScriptedPool) -> None:
    """The transaction is gone as a whole, so it can be tried again."""
    exchange = run(PoolMiddleware(answering(statement="lost"), pool), pool, "POST")
    assert is_refused(exchange)
    assert pool.held == 0


def test_an_error_raised_because_of_the_loss_is_answered_503(
    pool: ScriptedPool,
) -> None:
    """Applications wrap driver errors in their own."""

    def app(environ: Environ, _start: Start) -> list[bytes]:
        try:
            environ["pgdbpool.conn"].cursor().execute("lost")
        except psycopg2.Error as error:
            raise LookupError("no such order") from error
        return []

    assert is_refused(run(PoolMiddleware(app, pool), pool))


def test_an_error_of_another_cause_stays_the_apps(pool: ScriptedPool) -> None:
    """A lost connection does not excuse a bug."""

    def app(environ: Environ, _start: Start) -> list[bytes]:
        with pytest.raises(psycopg2.Error):
            environ["pgdbpool.conn"].cursor().execute("lost")
        raise LookupError("no such order")

    assert isinstance(run(PoolMiddleware(app, pool), pool).error, LookupError)


@pytest.mark.parametrize("shape", [list, tuple, iter])
@pytest.mark.parametrize("trouble", ["down", "lost"])
def test_a_500_that_a_framework_made_of_it_is_replaced(
    pool: ScriptedPool, trouble: str, shape: Callable[[list[bytes]], Body]
) -> None:
    """Flask and Django have turned the exception into a page already."""
    if trouble == "down":
        pool.refusals.append(down())
    app = framework(answering(statement="lost"), shape)
    exchange = run(PoolMiddleware(app, pool), pool)
    assert is_refused(exchange)
    assert b"Oops" not in exchange.content
    assert pool.held == 0


def test_the_replaced_body_is_closed_once(pool: ScriptedPool) -> None:
    """What the framework wanted to send is told that it is over."""
    closed = []

    class Page:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"Oops"])

        def close(self) -> None:
            closed.append(pool.held)

    app = framework(answering(statement="lost"), lambda _: Page())
    assert is_refused(run(PoolMiddleware(app, pool), pool))
    assert closed == [0]


def test_a_replaced_empty_500_gets_its_text(pool: ScriptedPool) -> None:
    """Also a body without a block is replaced."""
    app = framework(answering(statement="lost"), lambda _: iter(()))
    exchange = run(PoolMiddleware(app, pool), pool)
    assert is_refused(exchange)
    assert exchange.content


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Mine", "200 OK", "404 No"])
def test_a_response_the_app_made_of_a_failed_acquire_stands(
    pool: ScriptedPool, status: str
) -> None:
    """An app that serves from its cache while the database is away may do so."""
    pool.refusals.append(down())

    def app(environ: Environ, start: Start) -> list[bytes]:
        with pytest.raises(EndpointDown):
            environ["pgdbpool.conn"].cursor()
        start(status, TEXT)
        return [b"from the cache"]

    exchange = run(PoolMiddleware(app, pool), pool)
    assert (exchange.status, exchange.content) == (status, b"from the cache")


def test_a_second_acquire_that_succeeds_redeems_the_first(pool: ScriptedPool) -> None:
    """Then a 500 is about something else."""
    pool.refusals.append(down())

    def app(environ: Environ, start: Start) -> list[bytes]:
        with pytest.raises(EndpointDown):
            environ["pgdbpool.conn"].cursor()
        environ["pgdbpool.conn"].cursor().execute("SELECT")
        start(OOPS, TEXT)
        return []

    assert run(PoolMiddleware(app, pool), pool).status == OOPS


@pytest.mark.parametrize("shape", [list, iter])
def test_a_swallowed_loss_cannot_be_a_success(
    pool: ScriptedPool, shape: Callable[[list[bytes]], Body]
) -> None:
    """The transaction is gone, so a 200 would be a lie: 503."""

    def app(environ: Environ, start: Start) -> Body:
        with pytest.raises(psycopg2.Error):
            environ["pgdbpool.conn"].cursor().execute("lost")
        start(OK, TEXT)
        return shape([])

    assert is_refused(run(PoolMiddleware(app, pool), pool))


def test_a_loss_found_by_the_commit_is_answered_503(pool: ScriptedPool) -> None:
    """COMMIT was not sent, so nothing was committed."""
    pool.commit_error = "lost"
    assert is_refused(run(PoolMiddleware(answering(), pool), pool, "POST"))


@pytest.mark.parametrize("finally_", ["close", "release"])
def test_a_lost_connection_that_the_handler_put_away_is_remembered(
    pool: ScriptedPool, finally_: str
) -> None:
    """``finally: conn.close()`` hides no loss."""

    def app(environ: Environ, _start: Start) -> list[bytes]:
        conn = environ["pgdbpool.conn"]
        try:
            conn.cursor().execute("lost")
        finally:
            getattr(conn, finally_)()
        return []

    assert is_refused(run(PoolMiddleware(app, pool), pool))


def test_a_swallowed_loss_put_away_with_close_cannot_be_a_success(
    pool: ScriptedPool,
) -> None:
    """close() after the loss does not turn it into the handler's wish."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        conn = environ["pgdbpool.conn"]
        with pytest.raises(psycopg2.Error):
            conn.cursor().execute("lost")
        conn.close()
        start(OK, TEXT)
        return []

    assert is_refused(run(PoolMiddleware(app, pool), pool))


def test_release_after_a_loss_starts_over(pool: ScriptedPool) -> None:
    """A handler that catches the loss and releases has a second chance."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        conn = environ["pgdbpool.conn"]
        with pytest.raises(psycopg2.Error):
            conn.cursor().execute("lost")
        conn.release()
        conn.cursor().execute("again")
        start(OK, TEXT)
        return [b"ok"]

    exchange = run(PoolMiddleware(app, pool), pool)
    assert exchange.content == b"ok"
    assert pool.log[3:6] == ["acquire", "again", "COMMIT"]


class TestBegun:
    """A response that has begun cannot become another."""

    @pytest.mark.parametrize("trouble", ["down", "lost"])
    def test_a_stream_that_fails_later_is_cut(
        self, pool: ScriptedPool, trouble: str
    ) -> None:
        """The server gets the error."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            yield b"one"
            if trouble == "down":
                pool.refusals.append(down())
            environ["pgdbpool.conn"].cursor().execute("lost")

        exchange = run(PoolMiddleware(app, pool), pool)
        assert isinstance(exchange.error, psycopg2.OperationalError)
        assert (exchange.status, exchange.content) == (OK, b"one")

    @pytest.mark.parametrize("trouble", ["down", "lost"])
    def test_a_stream_that_fails_before_its_first_block_is_answered_503(
        self, pool: ScriptedPool, trouble: str
    ) -> None:
        """A lazy generator has called start_response, but nobody saw it."""
        if trouble == "down":
            pool.refusals.append(down())

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            environ["pgdbpool.conn"].cursor().execute("lost")
            yield b"one"

        exchange = run(PoolMiddleware(app, pool), pool)
        assert is_refused(exchange)
        assert b"one" not in exchange.content

    def test_what_was_written_stands(self, pool: ScriptedPool) -> None:
        """After write() the headers are gone."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            start(OK, TEXT)(b"one")
            environ["pgdbpool.conn"].cursor().execute("lost")
            return []

        exchange = run(PoolMiddleware(app, pool), pool)
        assert isinstance(exchange.error, psycopg2.OperationalError)
        assert (exchange.status, exchange.content) == (OK, b"one")


def test_the_apps_own_error_stays_its_own(pool: ScriptedPool) -> None:
    """A healthy connection has nothing to do with it."""
    for error in (ValueError("mine"), psycopg2.OperationalError("mine too")):
        assert run(PoolMiddleware(raising(error), pool), pool).error is error

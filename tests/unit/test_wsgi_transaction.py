"""One transaction a request: what is committed, when, and what is not."""

import logging
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    Environ,
    Start,
    answering,
    raising,
    run,
)


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


@pytest.mark.parametrize("status", [OK, "201 Created", "302 Found", "404 Not Found"])
def test_below_500_the_request_is_committed_and_released(
    pool: ScriptedPool, status: str
) -> None:
    """A request that ends well is one committed transaction."""
    run(PoolMiddleware(answering(b"ok", status=status), pool), pool)
    assert pool.log == ["acquire", "INSERT", "COMMIT", "release", status, "send ok"]


def test_from_500_on_the_request_is_rolled_back(pool: ScriptedPool) -> None:
    """A response that tells of a failure commits nothing."""
    run(PoolMiddleware(answering(b"", status="502 Bad Gateway"), pool), pool)
    assert pool.log[2:4] == ["ROLLBACK", "release"]


def test_an_exception_rolls_back_and_passes_through_untouched(
    pool: ScriptedPool,
) -> None:
    """The app's exception is the very one the server gets."""
    error = ValueError("mine")
    exchange = run(PoolMiddleware(raising(error), pool), pool)
    assert exchange.error is error
    assert pool.log == ["acquire", "INSERT", "ROLLBACK", "release"]


def test_a_driver_error_of_the_app_passes_through_untouched(pool: ScriptedPool) -> None:
    """A handler outside still matches UniqueViolation (row 44)."""
    exchange = run(PoolMiddleware(answering(statement="fail"), pool), pool)
    assert type(exchange.error) is sqlstate.UniqueViolation
    assert pool.kept == [True]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), BaseException()])
def test_an_exception_from_outside_costs_the_connection(
    pool: ScriptedPool, error: BaseException
) -> None:
    """Nobody knows what a session is at after a signal's exception."""
    exchange = run(PoolMiddleware(raising(error), pool), pool)
    assert exchange.error is error
    assert pool.kept == [False]


def test_a_veto_rolls_back(pool: ScriptedPool) -> None:
    """`commit_veto` decides against a commit, knowing request and response."""
    seen: list[Any] = []

    def veto(*args: object) -> bool:
        seen.append(args)
        return True

    exchange = run(PoolMiddleware(answering(b"ok"), pool, commit_veto=veto), pool)
    assert exchange.content == b"ok"
    assert pool.log[2:4] == ["ROLLBACK", "release"]
    assert seen == [(exchange.environ, OK, TEXT)]


def test_a_veto_that_says_no_lets_the_commit_happen(pool: ScriptedPool) -> None:
    """`commit_veto` only ever decides against."""
    app = PoolMiddleware(answering(b""), pool, commit_veto=lambda *_: False)
    run(app, pool)
    assert "COMMIT" in pool.log


def test_a_failing_veto_is_the_apps_error(pool: ScriptedPool) -> None:
    """What cannot be decided is not committed."""
    app = PoolMiddleware(answering(b"ok"), pool, commit_veto=lambda *_: 1 / 0)
    exchange = run(app, pool)
    assert isinstance(exchange.error, ZeroDivisionError)
    assert pool.log == ["acquire", "INSERT", "ROLLBACK", "release"]


def test_a_veto_is_not_asked_where_nothing_is_to_be_committed(
    pool: ScriptedPool,
) -> None:
    """A request without the database, or already lost to a 500, needs no veto."""
    for app in (answering(statement=None), answering(status="500 Oops")):
        veto = pytest.fail
        run(PoolMiddleware(app, pool, commit_veto=veto), pool)


def test_a_failing_commit_becomes_the_response(pool: ScriptedPool) -> None:
    """No client sees a success that was not committed."""
    pool.commit_error = error = sqlstate.ForeignKeyViolation("deferred")
    exchange = run(PoolMiddleware(answering(b"ok"), pool), pool)
    assert exchange.error is error
    assert (exchange.status, exchange.content) == ("", b"")
    assert pool.held == 0


def test_a_success_in_a_failed_transaction_becomes_the_error(
    pool: ScriptedPool,
) -> None:
    """An app that swallows an SQL error cannot answer 200 as if it were stored."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        with pytest.raises(sqlstate.UniqueViolation):
            environ["pgdbpool.conn"].cursor().execute("fail")
        start(OK, TEXT)
        return [b"ok"]

    exchange = run(PoolMiddleware(app, pool), pool)
    assert isinstance(exchange.error, sqlstate.InFailedSqlTransaction)
    assert exchange.status == ""


@pytest.mark.parametrize("statement", ["fail", "lost"])
def test_a_4xx_after_a_failed_transaction_stands(
    pool: ScriptedPool, statement: str
) -> None:
    """A handler that answers 409 to a duplicate need not roll back by itself."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        with pytest.raises(psycopg2.Error):
            environ["pgdbpool.conn"].cursor().execute(statement)
        start("409 Conflict", TEXT)
        return [b"taken"]

    exchange = run(PoolMiddleware(app, pool), pool)
    assert (exchange.error, exchange.status) == (None, "409 Conflict")
    assert "COMMIT" not in pool.log
    assert pool.held == 0


def test_a_handlers_own_commit_counts_and_the_rest_is_committed_at_the_end(
    pool: ScriptedPool,
) -> None:
    """commit() ends a transaction, and what follows is another."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        conn = environ["pgdbpool.conn"]
        conn.cursor().execute("first")
        conn.commit()
        conn.cursor().execute("second")
        start(OK, TEXT)
        return []

    run(PoolMiddleware(app, pool), pool)
    assert pool.log[1:6] == ["first", "COMMIT", "second", "COMMIT", "release"]


def test_a_handlers_own_rollback_undoes_what_was_done_so_far(
    pool: ScriptedPool,
) -> None:
    """rollback() works at once, and the request goes on."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        conn = environ["pgdbpool.conn"]
        conn.cursor().execute("first")
        conn.rollback()
        start(OK, TEXT)
        return []

    run(PoolMiddleware(app, pool), pool)
    assert pool.log == ["acquire", "first", "ROLLBACK", "release", OK]


def test_a_handler_that_closes_the_connection_gave_its_work_up(
    pool: ScriptedPool,
) -> None:
    """close() is psycopg2's: what was not committed is gone, as the handler said."""

    def app(environ: Environ, start: Start) -> list[bytes]:
        environ["pgdbpool.conn"].cursor().execute("first")
        environ["pgdbpool.conn"].close()
        start(OK, TEXT)
        return [b"ok"]

    exchange = run(PoolMiddleware(app, pool), pool)
    assert (exchange.content, pool.held) == (b"ok", 0)


def test_a_response_never_started_commits_nothing(pool: ScriptedPool) -> None:
    """Without a status there is no success."""

    def app(environ: Environ, _start: Start) -> list[bytes]:
        environ["pgdbpool.conn"].cursor().execute("first")
        return []

    run(PoolMiddleware(app, pool), pool)
    assert pool.log == ["acquire", "first", "ROLLBACK", "release"]


class TestManual:
    """With ``transaction="manual"`` the handler commits."""

    def test_what_is_left_is_rolled_back_with_a_warning(
        self, pool: ScriptedPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The warning names the request."""
        run(PoolMiddleware(answering(b""), pool, transaction="manual"), pool)
        assert pool.log[2:4] == ["ROLLBACK", "release"]
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("pgdbpool.wsgi", logging.WARNING)
        assert "GET /report left a transaction open" in record.getMessage()

    def test_what_the_handler_committed_is_committed_without_a_warning(
        self, pool: ScriptedPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A handler that did its duty hears nothing."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            with environ["pgdbpool.conn"] as conn:
                conn.cursor().execute("first")
            start(OK, TEXT)
            return []

        run(PoolMiddleware(app, pool, transaction="manual"), pool)
        assert pool.log == ["acquire", "first", "COMMIT", "release", OK]
        assert not caplog.records

    def test_nobody_is_asked_for_a_veto(self, pool: ScriptedPool) -> None:
        """There is no commit of ours to decide against."""
        app = PoolMiddleware(
            answering(),
            pool,
            transaction="manual",
            commit_veto=pytest.fail,
        )
        assert run(app, pool).error is None


def test_middlewares_over_two_pools_stack(pool: ScriptedPool) -> None:
    """Each has its connection under its key, and each commits."""
    other = ScriptedPool()

    def app(environ: Environ, start: Start) -> list[bytes]:
        environ["pgdbpool.conn"].cursor().execute("here")
        environ["orders.conn"].cursor().execute("there")
        assert environ["pgdbpool.pool"] is pool
        assert environ["orders.pool"] is other
        start(OK, TEXT)
        return [b"ok"]

    inner = PoolMiddleware(app, other, key="orders.conn")
    exchange = run(PoolMiddleware(inner, pool), pool)
    assert exchange.content == b"ok"
    assert other.log == ["acquire", "there", "COMMIT", "release"]
    assert pool.log[:4] == ["acquire", "here", "COMMIT", "release"]

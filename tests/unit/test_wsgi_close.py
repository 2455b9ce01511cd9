"""The body's close() is the contract with HTTP."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2 import errors as sqlstate

from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    Body,
    Closing,
    Environ,
    Exchange,
    Start,
    answering,
    run,
    sized,
)


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


class TestClose:
    """The body's close() is the contract with HTTP: ours comes last, always, once."""

    def test_the_apps_comes_first(self, pool: ScriptedPool) -> None:
        """It finds the connection still there, and what it does is committed."""
        body = Closing(b"1")
        app = answering(shape=lambda _: body)
        exchange = Exchange(PoolMiddleware(app, pool), pool.log)
        body.on_close = lambda: exchange.environ["pgdbpool.conn"].cursor().execute("x")
        exchange.run()
        assert body.closed == 1
        assert pool.log[-3:] == ["x", "COMMIT", "release"]
        assert pool.held == 0

    def test_twice_is_once(self, pool: ScriptedPool) -> None:
        """Whoever closes again changes nothing."""
        body = Closing(b"1")
        exchange = run(PoolMiddleware(answering(shape=lambda _: body), pool), pool)
        exchange.close()
        assert body.closed == 1
        assert pool.log.count("release") == 1

    @pytest.mark.parametrize("blocks", [0, 1])
    def test_before_the_end_it_rolls_back_and_keeps_the_connection(
        self, pool: ScriptedPool, blocks: int
    ) -> None:
        """A client that goes away costs no connection, and commits nothing."""
        app = answering(b"1", b"2", shape=iter)
        exchange = Exchange(PoolMiddleware(app, pool), pool.log).call()
        for _ in range(blocks):
            exchange.take()
        exchange.close()
        assert pool.log[-2:] == ["ROLLBACK", "release"]
        assert pool.kept == [True]

    def test_a_generator_in_a_block_rolls_back_when_the_client_goes(
        self, pool: ScriptedPool
    ) -> None:
        """GeneratorExit ends ``with conn:`` while the connection is still held."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            with environ["pgdbpool.conn"] as conn:
                conn.cursor().execute("INSERT")
                yield b"1"
                yield b"2"

        exchange = Exchange(PoolMiddleware(app, pool), pool.log).call()
        exchange.take()
        exchange.close()
        assert pool.log[-2:] == ["ROLLBACK", "release"]
        assert pool.kept == [True]

    def test_a_block_that_did_not_end_costs_the_connection(
        self, pool: ScriptedPool
    ) -> None:
        """psycopg2 would refuse the next holder a block of its own."""
        pool.commit_error = sqlstate.ForeignKeyViolation("deferred")

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, sized(1))
            with environ["pgdbpool.conn"] as conn:
                conn.cursor().execute("INSERT")
                yield b"1"

        exchange = run(PoolMiddleware(app, pool), pool)
        assert isinstance(exchange.error, sqlstate.ForeignKeyViolation)
        assert pool.kept == [False]

    @pytest.mark.parametrize(
        ("error", "keep"), [(ValueError("mine"), True), (SystemExit(1), False)]
    )
    def test_when_the_apps_raises_ours_still_comes(
        self, pool: ScriptedPool, error: BaseException, *, keep: bool
    ) -> None:
        """The error goes on, the connection does not stay behind."""
        body = Closing(b"1", b"2")
        exchange = Exchange(
            PoolMiddleware(answering(shape=lambda _: body), pool), pool.log
        ).call()
        exchange.take()

        def fail() -> None:
            raise error

        body.on_close = fail
        with pytest.raises(type(error)):
            exchange.close()
        assert pool.kept == [keep]

    @pytest.mark.parametrize(
        ("error", "keep"), [(ValueError("mine"), True), (SystemExit(1), False)]
    )
    def test_when_a_block_raises_everything_is_rolled_back(
        self, pool: ScriptedPool, error: BaseException, *, keep: bool
    ) -> None:
        """The very error reaches the server."""
        body = Closing(error=error)
        exchange = run(PoolMiddleware(answering(shape=lambda _: body), pool), pool)
        assert exchange.error is error
        assert body.closed == 1
        assert pool.log == ["acquire", "INSERT", "ROLLBACK", "release"]
        assert pool.kept == [keep]

    def test_after_an_error_no_block_follows(self, pool: ScriptedPool) -> None:
        """A server that asks on gets the end, and nothing is committed."""
        body = Closing(b"1", error=ValueError("mine"))
        exchange = Exchange(
            PoolMiddleware(answering(shape=lambda _: body), pool), pool.log
        ).call()
        with pytest.raises(ValueError, match="mine"):
            exchange.take()
        body._error = None
        with pytest.raises(StopIteration):
            exchange.take()
        exchange.close()
        assert "COMMIT" not in pool.log

    def test_after_close_no_block_follows(self, pool: ScriptedPool) -> None:
        """The body is over."""
        app = answering(b"1", shape=iter)
        exchange = Exchange(PoolMiddleware(app, pool), pool.log).call()
        exchange.close()
        with pytest.raises(StopIteration):
            exchange.take()

    def test_a_body_without_close_needs_none(self, pool: ScriptedPool) -> None:
        """An iterator is a body too."""
        app = answering(b"1", shape=lambda blocks: map(bytes, blocks))
        exchange = run(PoolMiddleware(app, pool), pool)
        assert (exchange.error, exchange.content, pool.held) == (None, b"1", 0)


SHAPES = st.sampled_from(
    [list, tuple, iter, lambda b: Closing(*b), lambda b: (x for x in b)]
)
LENGTHS = st.sampled_from([None, -1, 0, 1])


@given(
    blocks=st.lists(st.binary(max_size=3), max_size=5),
    shape=SHAPES,
    off=LENGTHS,
    statement=st.sampled_from([None, "INSERT", "lost"]),
    status=st.sampled_from([OK, "404 Not Found", "500 Oops"]),
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    taken=st.integers(min_value=0, max_value=6),
)
def test_whatever_the_body_it_is_released_once_and_arrives_unchanged(  # noqa: PLR0917 - one argument for each dimension
    blocks: list[bytes],
    shape: Callable[[list[bytes]], Body],
    off: int | None,
    statement: str | None,
    status: str,
    method: str,
    taken: int,
) -> None:
    """Any shape, any length announced, however far the client listens."""
    pool = ScriptedPool()
    headers = TEXT if off is None else sized(len(b"".join(blocks)) + off)
    app = answering(
        *blocks, status=status, headers=headers, statement=statement, shape=shape
    )
    middleware = PoolMiddleware(app, pool)
    exchange = Exchange(middleware, pool.log, method)
    try:
        exchange.call()
        for _ in range(taken):
            exchange.take()
    except StopIteration:
        assert exchange.status != status or exchange.blocks == blocks
    finally:
        exchange.close()
    assert pool.held == 0
    assert not middleware._rules.streaming
    assert pool.log.count("acquire") == pool.log.count("release")
    if exchange.status != status:
        assert exchange.status.startswith("503") or not exchange.blocks
    if status.startswith("500"):
        assert "COMMIT" not in pool.log

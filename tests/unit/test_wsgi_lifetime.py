"""Nothing stays behind: no cycle, no abandoned body, no second release."""

import contextlib
import gc
import logging
import threading
import weakref
from collections.abc import Iterator

import pytest
from psycopg2 import errors as sqlstate

from pgdbpool.errors import EndpointDown
from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    App,
    Environ,
    Exchange,
    Start,
    answering,
    make_environ,
)
from tests.waiting import until


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


@pytest.fixture
def _no_gc() -> Iterator[None]:
    """Switch the cycle collector off, so that only what has no cycle goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def stream(environ: Environ, start: Start) -> Iterator[bytes]:
    """Stream two blocks out of the database."""
    start(OK, TEXT)
    environ["pgdbpool.conn"].cursor().execute("SELECT")
    yield b"1"
    yield b"2"


class Witness:
    """Something in environ whose end can be observed."""


@pytest.mark.usefixtures("_no_gc")
@pytest.mark.parametrize(
    "app",
    [
        answering(b"ok", statement=None),
        answering(b"ok"),
        answering(b"ok", shape=iter),
        answering(statement="fail"),
        answering(statement="lost"),
        answering(status="500 Oops", shape=iter),
        stream,
    ],
)
@pytest.mark.parametrize("is_down", [False, True])
def test_no_cycle_keeps_the_environ_of_a_request_alive(
    pool: ScriptedPool, app: App, *, is_down: bool
) -> None:
    """When the server drops it, it is gone without the collector's help."""
    if is_down:
        pool.refusals.append(EndpointDown("down"))
    witness = Witness()
    gone = weakref.ref(witness)
    environ = make_environ(witness=witness)
    del witness

    def start(*_: object, environ: Environ = environ) -> None:
        """Hold on to the environ, as the methods of a server's handler do."""

    def serve(environ: Environ = environ, start: Start = start) -> None:
        body = PoolMiddleware(app, pool)(environ, start)
        for _ in body:
            pass
        getattr(body, "close", list)()

    with contextlib.suppress(sqlstate.UniqueViolation):
        serve()
    del environ, start, serve
    pool.refusals.clear()
    assert gone() is None


def test_a_body_nobody_closes_is_released_when_it_is_collected(
    pool: ScriptedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that names the request (row 10)."""
    exchange = Exchange(PoolMiddleware(stream, pool), pool.log).call()
    exchange.take()
    assert pool.held == 1
    del exchange
    gc.collect()
    until(lambda: pool.held == 0)
    until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pgdbpool.wsgi", logging.WARNING)
    assert "GET /report" in record.getMessage()
    assert pool.log[-2:] == ["ROLLBACK", "release"]
    assert pool.kept == [True]


def test_a_body_in_a_cycle_is_released_when_it_is_collected(
    pool: ScriptedPool,
) -> None:
    """The collector may come at any moment, on any thread."""
    exchange = Exchange(PoolMiddleware(stream, pool), pool.log).call()
    exchange.take()
    exchange.environ["cycle"] = exchange
    del exchange
    gc.collect()
    until(lambda: pool.held == 0)


def test_an_abandoned_body_whose_close_raises_is_released(
    pool: ScriptedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nobody to raise it to, so it is logged."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"1", b"2"])

        def close(self) -> None:
            raise ValueError("mine")

    exchange = Exchange(
        PoolMiddleware(answering(shape=lambda _: Body()), pool), pool.log
    ).call()
    exchange.take()
    del exchange
    gc.collect()
    until(lambda: "closing the body failed" in caplog.text)
    until(lambda: "nobody closed the body" in caplog.text)
    until(lambda: pool.held == 0)


def test_a_body_that_ran_out_and_was_not_closed_needs_no_warning(
    pool: ScriptedPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection was released at its end."""
    exchange = Exchange(PoolMiddleware(stream, pool), pool.log).call()
    exchange.take()
    exchange.take()
    with pytest.raises(StopIteration):
        exchange.take()
    assert pool.held == 0
    del exchange
    gc.collect()
    assert not caplog.records


def test_close_may_come_on_many_threads_at_once(pool: ScriptedPool) -> None:
    """One of them releases."""
    many = 8
    closed = []
    together = threading.Barrier(many)

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"1", b"2"])

        def close(self) -> None:
            closed.append(threading.get_ident())

    exchange = Exchange(
        PoolMiddleware(answering(shape=lambda _: Body()), pool), pool.log
    ).call()
    exchange.take()

    def close() -> None:
        together.wait(5)
        exchange.close()

    threads = [threading.Thread(target=close) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(closed) == 1
    assert pool.log.count("release") == 1

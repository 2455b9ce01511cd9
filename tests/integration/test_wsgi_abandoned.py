"""Streams that nobody closes: the garbage collector gives their connections back."""

import gc
import logging
import random
import threading
from collections.abc import Iterator

import pytest

from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.rules import Application, Environ, StartResponse
from tests.waiting import until

STREAMS = 300
THREADS = 4
ABANDONED = 3  # at most so many by each thread, and not collected


@pytest.fixture
def _eager_collector() -> Iterator[None]:
    """Have the collector run at every few allocations, also under a lock."""
    before = gc.get_threshold()
    gc.set_threshold(5)
    yield
    gc.set_threshold(*before)


def stream(environ: Environ, start: StartResponse) -> Iterator[bytes]:
    """Stream numbers out of the database."""
    start("200 OK", [("Content-Type", "text/plain")])
    with environ["pgdbpool.conn"].cursor() as cur:
        for number in range(3):
            cur.execute("SELECT %s::text", (number,))
            yield cur.fetchone()[0].encode()


def take_some(app: Application) -> None:
    """Read a little of a stream and drop it, sometimes closed."""
    environ: Environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/numbers"}
    body = app(environ, lambda *_: lambda _: None)
    if random.random() < 0.5:
        environ["cycle"] = body
    blocks = iter(body)
    for number in range(random.randrange(4)):
        assert next(blocks) == str(number).encode()
    if random.random() < 0.5:
        body.close()


@pytest.mark.usefixtures("_eager_collector")
def test_a_storm_of_abandoned_streams_leaves_nothing_held(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Finalizers run at any allocation, also inside the pool's own lock."""
    caplog.set_level(logging.WARNING)
    errors: list[BaseException] = []
    with ConnectionPool(dsn, max_size=THREADS * (ABANDONED + 2), timeout=20.0) as pool:
        app = PoolMiddleware(stream, pool)

        def work() -> None:
            try:
                for number in range(STREAMS // THREADS):
                    take_some(app)
                    if number % ABANDONED == 0:
                        # What got old enough is not looked at for long.
                        gc.collect()
            except BaseException as error:  # noqa: BLE001 - the test reports it
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
        gc.collect()
        until(
            lambda: (stats := pool.get_stats())["pool_available"] == stats["pool_size"],
            message="nothing is held",
        )
    assert not errors
    messages = [record.getMessage() for record in caplog.records]
    assert messages, "the storm stormed"
    assert all(m.startswith("GET /numbers: nobody closed") for m in messages)

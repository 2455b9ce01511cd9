"""wsgiref.validate and webtest.lint have nothing to say."""

from collections.abc import Callable
from wsgiref.validate import validator

import pytest

from pgdbpool.errors import EndpointDown
from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    App,
    Body,
    Environ,
    Exchange,
    Start,
    answering,
    run,
    streaming,
)
from tests.webtesting import lint

Checker = Callable[[App], App]


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


def is_valid(app: App, pool: ScriptedPool, method: str, check: Checker) -> Exchange:
    """Run one request between two checkers; return it if both are content."""
    exchange = run(check(PoolMiddleware(check(app), pool)), pool, method)
    if exchange.error is not None:
        raise exchange.error
    return exchange


@pytest.mark.parametrize("check", [validator, lint.middleware])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("trouble", [None, "down", "lost"])
@pytest.mark.parametrize("shape", [list, iter])
def test_the_checkers_find_nothing_inside_or_outside(
    pool: ScriptedPool,
    check: Checker,
    method: str,
    trouble: str | None,
    shape: Callable[[list[bytes]], Body],
) -> None:
    """wsgiref.validate and webtest.lint, around the middleware and within."""
    if trouble == "down":
        pool.refusals.append(EndpointDown("down"))
    app = answering(
        b"" if method == "HEAD" else b"ok",
        statement="lost" if trouble == "lost" else "INSERT",
        shape=shape,
    )
    exchange = is_valid(app, pool, method, check)
    assert exchange.status == (OK if trouble is None else "503 Service Unavailable")
    assert pool.held == 0


@pytest.mark.parametrize("check", [validator, lint.middleware])
def test_the_checkers_find_nothing_in_a_generator_or_in_write(
    pool: ScriptedPool, check: Checker
) -> None:
    """The lazy and the old-fashioned."""

    def writing(environ: Environ, start: Start) -> list[bytes]:
        environ["pgdbpool.conn"].cursor()
        start(OK, TEXT)(b"ok")
        return [b"!"]

    assert is_valid(streaming(b"o", b"k"), pool, "GET", check).content == b"ok"
    assert is_valid(writing, pool, "GET", check).content == b"ok!"

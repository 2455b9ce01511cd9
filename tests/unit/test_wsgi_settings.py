"""A wrong setting of the middleware is an error that names it."""

from typing import Any

import pytest

from pgdbpool.errors import SettingsError
from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    answering,
    run,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", ""),
        ("key", None),
        ("transaction", "auto"),
        ("transaction", None),
        ("eager", 1),
        ("commit_veto", "never"),
        ("retry_after", -1),
        ("retry_after", float("nan")),
        ("retry_after", float("inf")),
        ("retry_after", None),
        ("retry_after", True),
        ("read_methods", "GET"),
        ("read_methods", 1),
        ("read_methods", ["get"]),
        ("read_methods", [b"GET"]),
        ("read_your_writes", "secret"),
        ("read_your_writes", True),
        ("retry_afer", 1),
    ],
)
def test_a_wrong_or_unknown_setting_is_named(name: str, value: object) -> None:
    """SettingsError begins with the setting's name."""
    with pytest.raises(SettingsError, match=rf"^{name}:"):
        PoolMiddleware(answering(), ScriptedPool(), **{name: value})


@pytest.mark.parametrize(
    ("name", "args"),
    [("app", (None, ScriptedPool())), ("pool", (answering(), "postgresql://h/db"))],
)
def test_a_wrong_part_is_named(name: str, args: tuple[Any, Any]) -> None:
    """An app that cannot be called, or a pool that is none, is found at once."""
    with pytest.raises(SettingsError, match=rf"^{name}:"):
        PoolMiddleware(*args)


@pytest.mark.parametrize(
    ("key", "pool_key"),
    [
        ("pgdbpool.conn", "pgdbpool.pool"),
        ("orders.conn", "orders.pool"),
        ("orders", "orders.pool"),
    ],
)
def test_the_pool_stands_beside_the_connection(key: str, pool_key: str) -> None:
    """The pool's key follows from the connection's."""
    pool = ScriptedPool()
    exchange = run(PoolMiddleware(answering(statement=None), pool, key=key), pool)
    assert exchange.environ[pool_key] is pool
    assert key in exchange.environ


def test_retry_after_is_said_in_whole_seconds() -> None:
    """HTTP knows no fractions of a second, so they are rounded up."""
    pool = ScriptedPool()
    middleware = PoolMiddleware(answering(), pool, retry_after=1.5)
    assert ("Retry-After", "2") in middleware._rules.refusal.headers


def test_repr_tells_key_and_pool() -> None:
    """A middleware in a log can be told from another."""
    text = repr(PoolMiddleware(answering(), ScriptedPool(), key="orders.conn"))
    assert "'orders.conn'" in text
    assert "ScriptedPool" in text

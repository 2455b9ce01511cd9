"""What a type checker sees of the public API. Never run: mypy reads it."""

from collections.abc import Iterable

from typing_extensions import assert_type

from pgdbpool import ConnectionPool, PooledConnection, PoolMiddleware, Settings
from pgdbpool.wsgi.rules import Environ, StartResponse


def configure(conn: PooledConnection) -> None:
    """Be a hook."""


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Be an application."""
    start_response("200 OK", [])
    return [repr(environ["pgdbpool.conn"]).encode()]


def use() -> None:
    """Use all of it."""
    pool = ConnectionPool(
        "postgresql://app@db1/shop",
        min_size=0,
        max_size=8,
        timeout=None,
        max_idle=60,
        order="fifo",
        reset="session",
        configure=configure,
    )
    with pool as opened, opened.connection(timeout=1.0) as conn:
        assert_type(opened, ConnectionPool)
        assert_type(conn, PooledConnection)
        assert_type(conn.readonly, bool | None)
        assert_type(conn.in_transaction, bool)
    assert_type(pool.getconn(), PooledConnection)
    assert_type(pool.get_stats(), dict[str, int])
    assert_type(pool.settings, Settings)
    assert_type(pool.timeout, float | None)
    assert_type(pool.closed, bool)
    assert_type(PoolMiddleware(app, pool, eager=True)({}, print), Iterable[bytes])  # type: ignore[arg-type]
    ConnectionPool(max_sise=3)  # type: ignore[call-arg]
    ConnectionPool(order="random")  # type: ignore[arg-type]
    ConnectionPool(timeout="5")  # type: ignore[arg-type]

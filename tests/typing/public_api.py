"""What a type checker sees of the public API. Never run: mypy reads it."""

from collections.abc import Iterable
from pathlib import Path

from typing_extensions import assert_type

from pgdbpool import (
    ConnectionPool,
    EndpointState,
    PooledConnection,
    PoolMiddleware,
    ReadYourWrites,
    Role,
    Settings,
)
from pgdbpool.wsgi.rules import Environ, StartResponse


def count(conn: PooledConnection) -> int:
    """Read something."""
    return conn.closed


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
    assert_type(pool.getconn(read_only=True, strict=True), PooledConnection)
    assert_type(pool.endpoints, list[EndpointState])
    assert_type(pool.endpoints[0].role, Role | None)
    with pool.connection(read_only=True) as reading:
        assert_type(reading, PooledConnection)
    assert_type(pool.read(count, strict=True), int)
    kept = ReadYourWrites(["new key", "old key"], header="X-Written", max_age=5.0)
    reads = PoolMiddleware(app, pool, read_methods=("GET",), read_your_writes=kept)
    assert_type(reads, PoolMiddleware)
    ConnectionPool(["host=db1", "host=db2"], balance="nearest", max_lag=None)
    ConnectionPool(endpoints=["host=db1"], weights={"db1": 2}, balance="weighted")
    ConnectionPool(balance="random")  # type: ignore[arg-type]
    assert_type(pool.get_stats(), dict[str, int])
    assert_type(pool.settings, Settings)
    assert_type(pool.timeout, float | None)
    assert_type(pool.closed, bool)
    assert_type(PoolMiddleware(app, pool, eager=True)({}, print), Iterable[bytes])  # type: ignore[arg-type]
    ConnectionPool(max_sise=3)  # type: ignore[call-arg]
    ConnectionPool(order="random")  # type: ignore[arg-type]
    ConnectionPool(timeout="5")  # type: ignore[arg-type]


def find() -> None:
    """Make a pool of the environment."""
    assert_type(ConnectionPool.from_env("SHOP_", dotenv=True), ConnectionPool)
    ConnectionPool.from_env(conninfo=["host=db1"], dotenv=Path(".env"), max_size=None)
    ConnectionPool.from_env(max_sise=3)  # type: ignore[call-arg]

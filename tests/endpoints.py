"""Pools of several servers: their DSNs, who serves a block, what is known."""

from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres
from tests.asking import ask
from tests.waiting import until


def dsn_of(*servers: EmbeddedPostgres, **more: object) -> str:
    """Return one DSN with the addresses of several servers, in that order."""
    return make_dsn(
        None,
        host=",".join(HOST for _ in servers),
        port=",".join(str(server.port) for server in servers),
        dbname="postgres",
        user="postgres",
        **more,
    )


def name(server: EmbeddedPostgres) -> str:
    """Return what a pool calls a server."""
    return f"{HOST}:{server.port}"


def port(pool: ConnectionPool, **how: Any) -> int:  # noqa: ANN401 - what connection() takes
    """Return which server serves a block."""
    with pool.connection(**how) as conn:
        assert ask(conn, "SELECT 1") == 1
        found: int = conn.info.port
        return found


def ports(servers: Sequence[EmbeddedPostgres]) -> set[int]:
    """Return where servers listen."""
    return {server.port for server in servers}


def is_known(pool: ConnectionPool) -> bool:
    """Return whether every server has said who it is, and how late."""
    return all(one.role is not None and one.lag is not None for one in pool.endpoints)


def used(pool: ConnectionPool) -> ConnectionPool:
    """Return a pool that knows all its servers."""
    pool.open()
    until(lambda: is_known(pool), message="the pool knows all its servers")
    return pool

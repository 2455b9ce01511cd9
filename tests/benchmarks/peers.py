"""The pools that are compared, each behind the same few functions.

``acquire`` and ``release`` are the peer's own functions wherever it has them, not
wrappers: at a microsecond a cycle, a call of ours would be a tenth of what is
measured. Each pool runs with its defaults but for its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dbutils.pooled_db  # type: ignore[import-untyped] # it has no types
import psycopg
import psycopg2
import psycopg2.pool
import psycopg_pool
import sqlalchemy

import pgdbpool

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.benchmarks.connects import Spec

OURS = "pgdbpool"


@dataclass(frozen=True)
class Peer:
    """One pool: how to acquire, release and close, and whether it pings.

    ``block`` is its ``with`` statement, which commits, where it has one.
    """

    name: str
    pings: bool
    acquire: Callable[[], Any]
    release: Callable[[Any], object]
    close: Callable[[], object]
    block: Callable[[], AbstractContextManager[Any]] | None = None
    pool: Any = None


def ours(
    spec: Spec, name: str = OURS, *, ping_idle: float = 0.0, threaded: bool = True
) -> Peer:
    """Return our pool, full; ``ping_idle`` above zero skips the ping."""
    pool = pgdbpool.ConnectionPool(
        spec.dsn,
        kwargs=spec.arguments,
        min_size=spec.idle,
        max_size=spec.size,
        ping_idle=ping_idle,
        threaded=threaded,
    )
    pool.wait()
    return Peer(
        name=name,
        pings=not ping_idle,
        acquire=pool.getconn,
        release=pool.putconn,
        close=pool.close,
        block=pool.connection,
        pool=pool,
    )


def with_psycopg_pool(
    spec: Spec, *, check: bool = False, timeout: float = 30.0
) -> Peer:
    """Return psycopg_pool's pool, full."""
    kind = psycopg.Connection if spec.connects is None else spec.connects.of_psycopg()
    pool = psycopg_pool.ConnectionPool(
        spec.dsn,
        connection_class=kind,
        min_size=spec.idle,
        max_size=spec.size,
        check=psycopg_pool.ConnectionPool.check_connection if check else None,
        timeout=timeout,
        open=True,
    )
    pool.wait()
    return Peer(
        name="psycopg_pool, check" if check else "psycopg_pool",
        pings=check,
        acquire=pool.getconn,
        release=pool.putconn,
        close=pool.close,
        block=pool.connection,
    )


class _Psycopg2Pool(psycopg2.pool.ThreadedConnectionPool):
    """psycopg2's pool with connections made by a function of ours."""

    _pool: list[Any]
    _used: dict[Any, Any]
    _rused: dict[int, Any]

    def __init__(self, minconn: int, maxconn: int, maker: Callable[[], Any]) -> None:
        self._maker = maker
        super().__init__(minconn, maxconn)

    def _connect(self, key: Any = None) -> Any:  # noqa: ANN401 - psycopg2's signature
        conn = self._maker()
        if key is None:
            self._pool.append(conn)
        else:
            self._used[key] = conn
            self._rused[id(conn)] = key
        return conn


def with_psycopg2_pool(spec: Spec) -> Peer:
    """Return psycopg2's pool, full. It refuses where the others wait."""
    pool = _Psycopg2Pool(spec.idle, spec.size, spec.maker)
    return Peer(
        name="psycopg2.pool",
        pings=False,
        acquire=pool.getconn,
        release=pool.putconn,
        close=pool.closeall,
    )


def with_sqlalchemy(spec: Spec, *, pre_ping: bool = False) -> Peer:
    """Return SQLAlchemy's QueuePool, full, used through raw DBAPI connections."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://",
        creator=spec.maker,
        pool_size=max(1, spec.idle),
        max_overflow=spec.size - max(1, spec.idle),
        pool_pre_ping=pre_ping,
    )
    held = [engine.pool.connect() for _ in range(spec.idle)]
    release = type(held[0]).close
    for conn in held:
        release(conn)
    return Peer(
        name="SQLAlchemy, pre_ping" if pre_ping else "SQLAlchemy",
        pings=pre_ping,
        acquire=engine.pool.connect,
        release=release,
        close=engine.dispose,
    )


def with_dbutils(spec: Spec) -> Peer:
    """Return DBUtils' PooledDB, full. Its ping is silently off with psycopg2."""
    maker = spec.maker

    def creator() -> Any:  # noqa: ANN401 - whatever the maker makes
        return maker()

    creator.dbapi = psycopg2  # type: ignore[attr-defined] # where DBUtils looks
    pool = dbutils.pooled_db.PooledDB(
        creator,
        mincached=spec.idle,
        maxcached=spec.size,
        maxconnections=spec.size,
        blocking=True,
    )
    return Peer(
        name="DBUtils",
        pings=False,
        acquire=pool.connection,
        release=dbutils.pooled_db.PooledDedicatedDBConnection.close,
        close=pool.close,
    )


def others(spec: Spec, *, pinging: bool = True) -> list[Peer]:
    """Return every peer but ours; ``pinging`` adds those that ping, made to."""
    peers = [
        with_psycopg2_pool(spec),
        with_psycopg_pool(spec),
        with_sqlalchemy(spec),
        with_dbutils(spec),
    ]
    if pinging:
        peers += [
            with_psycopg_pool(spec, check=True),
            with_sqlalchemy(spec, pre_ping=True),
        ]
    return peers

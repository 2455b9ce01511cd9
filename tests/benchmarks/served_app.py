"""The application of the ``served`` benchmark, the same for every pool.

gunicorn loads ``application``; PGDBPOOL_BENCHMARK_POOL says which pool it uses and
PGDBPOOL_BENCHMARK_DSN where. ``answer`` is all it does with a connection. Around it
stands what a user of that pool writes: our middleware, or acquire, COMMIT and release
in a ``try``.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import psycopg2

import pgdbpool
from pgdbpool.wsgi import PoolMiddleware
from tests.benchmarks import peers, work
from tests.benchmarks.connects import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.benchmarks.peers import Peer

    StartResponse = Callable[..., Callable[[bytes], object]]
    App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

THREADS = 8
FLOOR = "floor: one a thread"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "2")]


def answer(conn: Any, start_response: StartResponse) -> list[bytes]:  # noqa: ANN401
    """Make one query and answer."""
    work.query(conn)
    start_response("200 OK", HEADERS)
    return [b"ok"]


def floor(spec: Spec) -> App:
    """Return the application with one private connection a thread, for ever."""
    local = threading.local()

    def app(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            conn = local.conn
        except AttributeError:
            conn = local.conn = psycopg2.connect(spec.dsn)
        try:
            body = answer(conn, start_response)
            conn.commit()
        except BaseException:
            conn.rollback()
            raise
        return body

    return app


def ours(spec: Spec) -> App:
    """Return the application inside our middleware."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return answer(environ["pgdbpool.conn"], start_response)

    pool = pgdbpool.ConnectionPool(spec.dsn, min_size=spec.size, max_size=spec.size)
    return PoolMiddleware(app, pool)


def by_hand(make: Callable[[Spec], Peer]) -> Callable[[Spec], App]:
    """Return a maker of the application with acquire and release written out."""

    def made(spec: Spec) -> App:
        peer = make(spec)
        acquire, release = peer.acquire, peer.release

        def app(
            _environ: dict[str, Any], start_response: StartResponse
        ) -> Iterable[bytes]:
            conn = acquire()
            try:
                body = answer(conn, start_response)
                conn.commit()
            finally:
                release(conn)
            return body

        return app

    return made


VARIANTS: dict[str, Callable[[Spec], App]] = {
    FLOOR: floor,
    peers.OURS: ours,
    "psycopg2.pool": by_hand(peers.with_psycopg2_pool),
    "psycopg_pool": by_hand(peers.with_psycopg_pool),
    "psycopg_pool, check": by_hand(
        lambda spec: peers.with_psycopg_pool(spec, check=True)
    ),
    "SQLAlchemy": by_hand(peers.with_sqlalchemy),
    "SQLAlchemy, pre_ping": by_hand(
        lambda spec: peers.with_sqlalchemy(spec, pre_ping=True)
    ),
    "DBUtils": by_hand(peers.with_dbutils),
}
PINGING = ("psycopg_pool, check", "SQLAlchemy, pre_ping")

if "PGDBPOOL_BENCHMARK_POOL" in os.environ:
    application = VARIANTS[os.environ["PGDBPOOL_BENCHMARK_POOL"]](
        Spec(os.environ["PGDBPOOL_BENCHMARK_DSN"], THREADS)
    )

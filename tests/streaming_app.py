"""An application that streams out of the database, for tests with real servers."""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.rules import Application, Environ, StartResponse

# Enough that no buffer on the way takes the whole stream.
MANY = 20_000
LINE = "x" * 500

TEXT = [("Content-Type", "text/plain")]


def stream(environ: Environ, start: StartResponse) -> Iterable[bytes]:
    """Stream many rows; at ``/stats``, what the pool is doing."""
    if environ["PATH_INFO"] == "/stats":
        start("200 OK", TEXT)
        return [json.dumps(environ["pgdbpool.pool"].get_stats()).encode()]
    start("200 OK", TEXT)
    return _lines(environ["pgdbpool.conn"])


def _lines(conn: Any) -> Iterator[bytes]:  # noqa: ANN401 - a ConnectionProxy
    for first in range(0, MANY, 1_000):
        with conn.cursor() as cur:
            query = "SELECT n FROM generate_series(%s, %s) n"
            cur.execute(query, (first, first + 999))
            yield "".join(f"{n} {LINE}\n" for (n,) in cur).encode()


def make_app() -> Application:
    """Return it behind the middleware; what gunicorn calls in its worker."""
    return PoolMiddleware(stream, ConnectionPool(os.environ["APP_DSN"], max_size=4))

"""The application that the tests of the hooks have served.

It finds its database in APP_DSN, so that the arbiter is not told of it by
PGDBPOOL_CONNINFO, and the settings of its pool in APP_POOL. The file that APP_SECRET
names has its password.
"""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pgdbpool.auth.file import PasswordFile
from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi import PoolMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@functools.cache
def make_pool() -> ConnectionPool:
    """Return the one pool of this process."""
    settings = json.loads(os.environ.get("APP_POOL", "{}"))
    if "APP_SECRET" in os.environ:
        settings["password"] = PasswordFile(os.environ["APP_SECRET"])
    return ConnectionPool(os.environ["APP_DSN"], **settings)


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Sleep on the server for ``seconds``, if asked to, and say who answered."""
    seconds = parse_qs(environ["QUERY_STRING"]).get("seconds", ["0"])[0]
    conn: Any = environ["pgdbpool.conn"]
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid(), pg_sleep(%s)", (float(seconds),))
        backend = cur.fetchone()[0]
    size = environ["pgdbpool.pool"].max_size
    body = {"worker": os.getpid(), "backend": backend, "max_size": size}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


@functools.cache
def _wrapped() -> WSGIApplication:
    wrapped: WSGIApplication = PoolMiddleware(answer, make_pool())
    return wrapped


def lazy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Construct the pool at the first request, long after the worker's start."""
    return _wrapped()(environ, start_response)


def eager() -> WSGIApplication:
    """Construct the pool when the application is loaded."""
    return _wrapped()


def impatient() -> WSGIApplication:
    """Use the pool when the application is loaded, with --preload in the arbiter."""
    with make_pool().connection() as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")
    return _wrapped()

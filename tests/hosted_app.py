"""The application that the tests of servers have served.

It finds its database in APP_DSN and the settings of its pool in APP_POOL. With
APP_IMPATIENT it uses the pool while it is imported.

    POST /           write the key that is the body; 500 and "unknown" when nobody knows
    GET /key         whether it was written
    GET /flags       what the server says of itself
    GET /stream      many lines, out of the database
    GET /file/plain  this file, by the server's own means
    GET /file/KEY    the same, and the key is written
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pgdbpool import CommitUnknown, ConnectionPool, PoolMiddleware
from tests.streaming_app import stream

Environ = dict[str, Any]
Start = Callable[..., Any]

TABLE = "CREATE TABLE written (key text PRIMARY KEY)"
# Which session, also after a restart that begins to count anew.
SESSION = """
    SELECT pg_backend_pid() || ' of ' || backend_start FROM pg_stat_activity
    WHERE pid = pg_backend_pid()
"""
WRITE = "INSERT INTO written VALUES (%s)"
FILE = Path(__file__)


def serve(environ: Environ, start: Start) -> Iterable[bytes]:
    """Answer one request."""
    path = environ["PATH_INFO"].strip("/")
    if path == "stream":
        return stream(environ, start)
    if path == "flags":
        return _told(start, _flags(environ))
    if path.startswith("file/"):
        return _file(environ, start, path.removeprefix("file/"))
    with environ["pgdbpool.conn"].cursor() as cur:
        if environ["REQUEST_METHOD"] == "POST":
            length = int(environ["CONTENT_LENGTH"])
            cur.execute(WRITE, (environ["wsgi.input"].read(length).decode(),))
            cur.execute(SESSION)
            return _told(start, {"session": cur.fetchone()[0]})
        cur.execute("SELECT count(*) FROM written WHERE key = %s", (path,))
        return _told(start, {"is_there": cur.fetchone()[0] == 1})


def _flags(environ: Environ) -> dict[str, Any]:
    return {
        "multithread": bool(environ["wsgi.multithread"]),
        "multiprocess": bool(environ["wsgi.multiprocess"]),
        "has_file_wrapper": "wsgi.file_wrapper" in environ,
        "stats": environ["pgdbpool.pool"].get_stats(),
    }


def _file(environ: Environ, start: Start, key: str) -> Iterable[bytes]:
    if key != "plain":
        with environ["pgdbpool.conn"].cursor() as cur:
            cur.execute(WRITE, (key,))
    length = str(FILE.stat().st_size)
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", length)])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](FILE.open("rb"))
    return wrapped


def _told(start: Start, what: dict[str, Any]) -> list[bytes]:
    body = json.dumps({**what, "process": os.getpid()}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    ]
    start("200 OK", headers)
    return [body]


def told_when_unknown(app: Callable[..., Any]) -> Callable[..., Any]:
    """Say so where nobody knows whether a request has been committed."""

    def serve(environ: Environ, start: Start) -> Iterable[bytes]:
        try:
            found: Iterable[bytes] = app(environ, start)
        except CommitUnknown:
            body = b"unknown"
            headers = [("Content-Type", "text/plain"), ("Content-Length", "7")]
            start("500 Internal Server Error", headers)
            return [body]
        return found

    return serve


logging.basicConfig(level=logging.INFO)
pool = ConnectionPool(os.environ["APP_DSN"], **json.loads(os.environ["APP_POOL"]))
application = told_when_unknown(PoolMiddleware(serve, pool))
if "APP_IMPATIENT" in os.environ:
    with contextlib.ExitStack() as stack:
        conn = stack.enter_context(pool.connection())
        stack.enter_context(conn.cursor()).execute("SELECT 1")

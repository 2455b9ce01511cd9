"""The application that `test_gevent_gunicorn` has served by greenlets.

It finds its database in APP_DSN and its table in APP_TABLE.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import gevent

from pgdbpool import ConnectionPool, PoolMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

INSERT = f"INSERT INTO {os.environ['APP_TABLE']} (id) VALUES (%s)"


def write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Write the number that was given; give up after a time, in one of two ways."""
    if environ["PATH_INFO"] != "/write":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(environ["pgdbpool.pool"].get_stats()).encode()]
    asked = parse_qs(environ["QUERY_STRING"])
    number, seconds = int(asked["id"][0]), float(asked["seconds"][0])
    timeout = gevent.Timeout(seconds)
    try:
        with timeout:
            insert(environ["pgdbpool.conn"], number)
    except gevent.Timeout:
        if number % 2:
            raise  # which no server expects
        start_response("504 Gateway Timeout", [("Content-Type", "text/plain")])
        return [b"too late"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"written"]


def insert(conn: Any, number: int) -> None:  # noqa: ANN401 - the middleware's proxy
    """Write a number, and take a while."""
    with conn.cursor() as cur:
        cur.execute(INSERT, (number,))
        cur.execute("SELECT pg_sleep(0.005)")


def make_app() -> WSGIApplication:
    """Return the application around a pool of five."""
    pool = ConnectionPool(os.environ["APP_DSN"], max_size=5, timeout=20.0)
    wrapped: WSGIApplication = PoolMiddleware(write, pool)
    return wrapped

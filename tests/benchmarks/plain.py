"""What the middleware adds to a request that never touches the database.

The same application is called directly and through ``PoolMiddleware``, in process,
as a server calls it: a fresh environ, ``start_response``, the body iterated and
closed. Nothing else runs, so the difference is the middleware's own time. No peer
has a middleware; beside it stands what their users do instead, which is to hold a
connection for every request whether it needs one or not.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pgdbpool.wsgi import PoolMiddleware
from tests.benchmarks import peers
from tests.benchmarks.connects import Spec
from tests.benchmarks.measure import (
    Check,
    Report,
    interleave,
    median_difference,
    microseconds,
    one_core,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.benchmarks.peers import Peer
    from tests.benchmarks.server import Setup

    StartResponse = Callable[..., Callable[[bytes], object]]
    App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

NAME = "plain"
BARE = "no middleware"
MOST_ADDED = 4.0
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.url_scheme": "http",
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "2")]


def app(_environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer without a look at the database."""
    start_response("200 OK", HEADERS)
    return [b"ok"]


def run(setup: Setup) -> Report:
    """Measure a plain request with and without the middleware."""
    spec = Spec(setup.dsn, 1)
    number = 1000 if setup.quick else 5000
    with one_core(*setup.pids), contextlib.ExitStack() as stack:
        mine = peers.ours(spec)
        holders = [peers.with_psycopg2_pool(spec), peers.with_sqlalchemy(spec)]
        for peer in (mine, *holders):
            stack.callback(peer.close)
        apps: dict[str, App] = {
            BARE: app,
            peers.OURS: PoolMiddleware(app, mine.pool),
        }
        apps |= {f"{peer.name}, each request": _holding(peer) for peer in holders}
        series = interleave(
            {
                name: microseconds(_request(wrapped), number)
                for name, wrapped in apps.items()
            },
            setup.rounds(40, 15),
        )
    return Report(
        NAME,
        "a request that never touches the database, in process, one core",
        "µs",
        series,
        reference=dict.fromkeys(series, BARE),
        checks=[
            Check(
                "added by PoolMiddleware",
                median_difference(series, peers.OURS, BARE),
                MOST_ADDED,
                unit="µs",
            )
        ],
    )


def _holding(peer: Peer) -> App:
    """Return the application with a connection of the peer held around it."""
    acquire, release = peer.acquire, peer.release

    def wrapped(
        environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        conn = acquire()
        try:
            return app(environ, start_response)
        finally:
            release(conn)

    return wrapped


def _request(wrapped: App) -> Callable[[], None]:
    """Return one request, as a server makes it."""

    def start_response(
        _status: str, _headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], object]:
        return bytes

    def call() -> None:
        body = wrapped(ENVIRON.copy(), start_response)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()

    return call

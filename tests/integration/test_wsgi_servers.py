"""Real servers, and clients that go away in the middle of a stream (row 10)."""

import contextlib
import http.client
import io
import json
import socket
import socketserver
import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import connection, parse_dsn

from pgdbpool.demo.postgres import HOST
from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.rules import Application
from tests.gunicorns import CONF, GREEN_CONF, Gunicorn, sessions
from tests.streaming_app import MANY, stream
from tests.waiting import until
from tests.webtesting import StopableWSGIServer

ABORTS = [25, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(180)])]
Serve = Callable[[Application], "contextlib.AbstractContextManager[int]"]


class Threading(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """wsgiref with a thread for each request."""

    daemon_threads = False

    def handle_error(self, *_: object) -> None:
        """Be silent about clients that went away."""


class Silent(wsgiref.simple_server.WSGIRequestHandler):
    """A handler that keeps no access log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def get_stderr(self) -> io.StringIO:
        """Return where the application's errors go."""
        return io.StringIO()


@contextlib.contextmanager
def in_wsgiref(app: Application) -> Iterator[int]:
    """Serve the app with wsgiref; give the port."""
    server = wsgiref.simple_server.make_server(
        HOST, 0, app, server_class=Threading, handler_class=Silent
    )
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def in_waitress(app: Application) -> Iterator[int]:
    """Serve the app with waitress; give the port."""
    server = StopableWSGIServer.create(app, host=HOST)
    yield server.effective_port
    server.shutdown()


def abort(port: int, path: str = "/") -> None:
    """Ask, read one byte of the body, go away with a reset."""
    with socket.create_connection((HOST, port), timeout=10) as sock:
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1"), head
        assert sock.recv(1)


def get(port: int, path: str = "/") -> bytes:
    """Return the whole body of the answer to a GET."""
    conn = http.client.HTTPConnection(HOST, port, timeout=30)
    with contextlib.closing(conn):
        conn.request("GET", path, headers={"Connection": "close"})
        return conn.getresponse().read()


@pytest.mark.parametrize("aborts", ABORTS)
@pytest.mark.parametrize("serve", [in_wsgiref, in_waitress])
def test_clients_that_go_away_leave_nothing_held(
    dsn: str, serve: Serve, aborts: int
) -> None:
    """After many aborts all connections are back, and a stream arrives whole."""
    with ConnectionPool(dsn, max_size=4, timeout=10.0) as pool:
        with serve(PoolMiddleware(stream, pool)) as port:
            for _ in range(aborts):
                abort(port)
            assert get(port).count(b"\n") == MANY
            until(lambda: is_whole(pool.get_stats()), message="nothing is held")
        assert pool.get_stats()["requests_num"] == aborts + 1


def is_whole(stats: dict[str, int]) -> bool:
    """Whether every connection of the pool is idle."""
    return stats["pool_available"] == stats["pool_size"]


@pytest.mark.direct("its pools are in other processes")
@pytest.mark.parametrize("aborts", ABORTS)
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_clients_that_leave_gunicorn_leave_nothing_held(
    tmp_path: Path,
    dsn: str,
    admin: connection,
    *,
    worker: str,
    aborts: int,
) -> None:
    """With each kind of worker; the server sees no open transaction either."""
    conf = GREEN_CONF if worker == "gevent" else CONF
    with Gunicorn(
        tmp_path,
        dsn,
        app="tests.streaming_app:make_app()",
        conf=f"{conf}worker_class = {worker!r}\nthreads = 4\n",
    ) as gunicorn:
        gunicorn.wait()
        for _ in range(aborts):
            abort(gunicorn.port)
        assert get(gunicorn.port).count(b"\n") == MANY
        until(
            lambda: is_whole(json.loads(get(gunicorn.port, "/stats"))),
            message="nothing is held",
        )
        states = {
            state for _, state, _ in sessions(admin, parse_dsn(dsn)["application_name"])
        }
        assert states <= {"idle"}

"""Status pages, and what is none, on a port; a terminal before them."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import free_port
from pgdbpool.status import StatusApp

COMMAND = (sys.executable, "-c", "from pgdbpool.cli import main; main()", "top")


class _Quiet(WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(app: Any, port: int | None = None) -> Iterator[str]:  # noqa: ANN401 - WSGI
    """Serve an application; give its address."""
    port = port or free_port()
    server = make_server("127.0.0.1", port, app, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def status_of(pool: ConnectionPool, **given: Any) -> Iterator[StatusApp]:  # noqa: ANN401 - StatusApp's
    """Give the page of a pool; leave no thread that samples."""
    app = StatusApp(pool, **given)
    try:
        yield app
    finally:
        app.service.history.stop()


class Answering:
    """An application that always answers the same.

    Attributes:
        asked: the query and the headers of each request, as CGI names them.
    """

    def __init__(self, status: str, body: bytes = b"", **headers: str) -> None:
        self._status = status
        self._body = body
        self._headers = [*headers.items()]
        self.asked: list[dict[str, str]] = []

    def __call__(self, environ: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        """Answer."""
        told = ("HTTP_", "QUERY_")
        self.asked.append({k: v for k, v in environ.items() if k.startswith(told)})
        start(self._status, self._headers)
        return [self._body]


class Terminal:
    """A terminal in which the command runs.

    Attributes:
        process: the command.
        seen: what it has drawn.
    """

    def __init__(
        self,
        *arguments: str,
        width: int = 120,
        height: int = 30,
        kind: str = "xterm",
    ) -> None:
        self._screen, inside = pty.openpty()
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(inside, termios.TIOCSWINSZ, size)
        self.seen = bytearray()
        environ = {**os.environ, "TERM": kind, "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={k: v for k, v in environ.items() if k not in ("COLUMNS", "LINES")},
        )
        os.close(inside)
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> "Terminal":
        """Begin to read."""
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the command if it has not ended."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._screen)

    def ended(self) -> tuple[int, str]:
        """Return with which status it ended, and all that was drawn."""
        status = self.process.wait(10.0)
        self._reader.join(10.0)
        return status, self.seen.decode()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            while data := os.read(self._screen, 4096):
                self.seen.extend(data)

"""A WSGI application on a port of its own, served by threads of its own.

The threads of a server all wait for the database when it is slow, and nobody is left to
say so. What is served here answers still: it competes for the processor only.
"""

import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import BaseServer
from typing import Any, Final

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from pgdbpool import forks, greenlets
from pgdbpool.errors import SettingsError

logger = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# How long a client may take to say what it wants, seconds.
PATIENCE: Final = 5.0
# So many are answered at once; others are hung up on.
MOST_CLIENTS: Final = 64
# How often the thread that listens looks whether it is to end, seconds.
PERIOD: Final = 0.5
LARGEST_PORT: Final = 65535


class Listener:
    """Serves an application in threads of its own, in each process that makes one.

    Several processes of one account share a port, and each new client is given to any
    of them. What is made in gunicorn's arbiter, by a preloaded application, serves in
    the workers alone, if it has the hooks of `pgdbpool.gunicorn`.

    Args:
        app: what is served; by several threads at once.
        port: where; 0: any that is free.
        host: the address to listen at.

    Attributes:
        port: where it listens.

    Raises:
        SettingsError: the port or the address is none.
        OSError: it cannot listen there; the message says where and why.
    """

    def __init__(self, app: Application, port: int, host: str = "127.0.0.1") -> None:
        if isinstance(port, bool) or not isinstance(port, int):
            raise SettingsError(f"port: must be a whole number, not {port!r}")
        if not 0 <= port <= LARGEST_PORT:
            raise SettingsError(f"port: must be 0 to {LARGEST_PORT}, not {port}")
        self._app = app
        self._host = host
        self._server: _Server | None = None
        self.port = port
        self.begin()
        _listeners.append(self)

    def begin(self) -> None:
        """Serve, unless it does already. Raises what the class does."""
        if self._server is not None:
            return
        with self._listening() as sock:
            server = _Server(self._host, self.port, self._app, sock)
            greenlets.start(server.serve_forever)
        self._server = server
        self.port = server.port

    def _listening(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server(
                (self._host, self.port),
                family=family,
                reuse_port=hasattr(socket, "SO_REUSEPORT"),
            )
        except OSError as error:
            reason = error.strerror or error
            raise type(error)(
                error.errno, f"cannot listen at {self._host}:{self.port}: {reason}"
            ) from None

    def rest(self) -> None:
        """Serve no more, until `begin`. Blocks for half a second at most."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def close(self) -> None:
        """Serve no more, for good. Blocks for half a second at most."""
        self.rest()
        with contextlib.suppress(ValueError):  # it was closed before
            _listeners.remove(self)

    def __repr__(self) -> str:
        """Return where it listens."""
        return f"<Listener {self._host}:{self.port}>"

    def _forget(self) -> None:
        """Leave the port to the parent: a forked child has none of its threads."""
        if self._server is not None:
            self._server.socket.close()
            self._server = None


class _Handler(WSGIRequestHandler):
    """Answers one request, and writes to our log alone."""

    # One request a connection: idle ones would keep others out.
    protocol_version = "HTTP/1.0"
    timeout = PATIENCE

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - as it is there
        level = logging.ERROR if type == "error" else logging.DEBUG
        logger.log(level, message.rstrip(), *args)


class _Server(ThreadedWSGIServer):
    """Answers `MOST_CLIENTS` at once."""

    def __init__(
        self, host: str, port: int, app: Application, sock: socket.socket
    ) -> None:
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        # With a copy of the socket; else it would print what is wrong, and exit.
        super().__init__(host, port, app, _Handler, fd=sock.fileno())

    def serve_forever(self, poll_interval: float = PERIOD) -> None:
        # Werkzeug's would close the socket too: nobody would know when it has.
        BaseServer.serve_forever(self, poll_interval)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as it is there
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, _: object, client_address: object) -> None:
        logger.debug("no answer to %s", client_address, exc_info=sys.exc_info())


# In the order in which they were made; those that were closed are gone.
_listeners: list[Listener] = []


def begin_all() -> None:
    """Have all serve in this process."""
    for listener in _listeners:
        listener.begin()


def rest_all() -> None:
    """Have none serve in this process. Blocks for half a second for each at most."""
    for listener in _listeners:
        listener.rest()


def _forget_all() -> None:
    for listener in _listeners:
        listener._forget()  # noqa: SLF001 - its own


forks.in_child(_forget_all)

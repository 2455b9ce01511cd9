"""A WSGI application on a port of its own, served by threads of its own.

The threads of a server all wait for the database when it is slow, and nobody is left to
say so. What is served here answers still: it competes for the processor only.
"""

import contextlib
import logging
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from pgdbpool import forks, greenlets
from pgdbpool.errors import SettingsError

logger = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# How long a client may be silent before it has said what it wants, seconds.
PATIENCE: Final = 5.0
# So many are served at once. One more takes the place of whoever has been saying what
# it wants for longest; where all are being answered already, it is hung up on.
MOST_CLIENTS: Final = 64
# What announces that more comes than the head of a request.
HAS_BODY: Final = {"content-length", "transfer-encoding"}
# How long it waits where nobody can be let in, and for its thread to end, seconds.
PAUSE: Final = 0.1
END_WITHIN: Final = 1.0
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
        SettingsError: the port is none, or there is no host.
        OSError: it cannot listen there; the message says where and why.
    """

    def __init__(self, app: Application, port: int, host: str = "127.0.0.1") -> None:
        if isinstance(port, bool) or not isinstance(port, int):
            raise SettingsError(f"port: must be a whole number, not {port!r}")
        if not 0 <= port <= LARGEST_PORT:
            raise SettingsError(f"port: must be 0 to {LARGEST_PORT}, not {port}")
        if not host or not isinstance(host, str):
            raise SettingsError(f"host: must be an address or a name, not {host!r}")
        self._app = app
        self._host = host
        self._server: _Server | None = None
        self.port = port
        _listeners.append(self)
        try:
            self.begin()
        except BaseException:
            _listeners.remove(self)
            raise

    def begin(self) -> None:
        """Serve, unless it does already. Raises what the class does."""
        if self._server is not None:
            return
        with self._listening() as sock:
            server = self._server = _Server(self._host, self.port, self._app, sock)
        try:
            greenlets.start(server.serve)
        except BaseException:
            self._forget()
            raise
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
            # Python adds the address to what the system says.
            reason = (error.strerror or str(error)).partition(" (while ")[0]
            text = f"cannot listen at {self._host}:{self.port}: {reason}"
            raise type(error)(error.errno, text) from None

    def rest(self) -> None:
        """Serve no more, until `begin`; who has come is let in. Blocks for a moment."""
        server = self._server
        if server is not None:
            server.end()
            # Now: a child that was forked meanwhile had to know what to close.
            if self._server is server:
                self._server = None

    def close(self) -> None:
        """Serve no more, for good; who has come is let in. Blocks for a moment."""
        self.rest()
        with contextlib.suppress(ValueError):  # it was closed before
            _listeners.remove(self)

    def __repr__(self) -> str:
        """Return where it listens."""
        return f"<Listener {self._host}:{self.port}>"

    def _forget(self) -> None:
        """Leave the port to the parent: a forked child has none of its threads."""
        server, self._server = self._server, None
        if server is not None:
            server.forget()


class _Handler(WSGIRequestHandler):
    """Answers one request."""

    # One request a connection: idle ones would keep others out.
    protocol_version = "HTTP/1.0"
    timeout = PATIENCE

    def run_wsgi(self) -> None:
        """Have the application answer."""
        # With a body it goes on saying what it wants.
        if HAS_BODY.isdisjoint(map(str.lower, self.headers)):
            self._note_heard()
        super().run_wsgi()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin to answer."""
        self._note_heard()
        super().send_response(code, message)

    def _note_heard(self) -> None:
        self.server.talking.pop(self.connection, None)  # type: ignore[attr-defined]

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002, ARG002 - as it is there
        # Also what clients do wrong: whoever can reach the port could fill the log.
        logger.debug(message.rstrip(), *args)


class _Server(ThreadedWSGIServer):
    """Answers `MOST_CLIENTS` at once, from `serve` to `end`.

    Attributes:
        talking: the clients that have not said yet what they want, the first first.
    """

    timeout = 0  # seconds: where nobody has come there is nobody to wait for

    def __init__(
        self, host: str, port: int, app: Application, sock: socket.socket
    ) -> None:
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        self.talking: dict[socket.socket, None] = {}
        self._selector: selectors.BaseSelector | None = None
        self._has_ended = threading.Event()
        self._bell, self._button = socket.socketpair()
        # With a copy of the socket; else it would print what is wrong, and exit.
        super().__init__(host, port, app, _Handler, fd=sock.fileno())

    def serve(self) -> None:
        """Answer until the end, and whoever has come by then."""
        try:
            with selectors.DefaultSelector() as selector:
                self._selector = selector
                selector.register(self.socket, selectors.EVENT_READ)
                bell = selector.register(self._bell, selectors.EVENT_READ)
                while all(key is not bell for key, _ in selector.select()):
                    self.handle_request()
            for _ in range(MOST_CLIENTS):
                self.handle_request()
        finally:
            self._has_ended.set()

    def end(self) -> None:
        """Have the thread end that serves, and wait for that. Any thread may."""
        with contextlib.suppress(OSError):  # another has done it
            self._button.send(b"!")
        self._has_ended.wait(END_WITHIN)
        self.let_go()

    def let_go(self) -> None:
        """Close all that it listens to."""
        self.server_close()
        self._bell.close()
        self._button.close()

    def forget(self) -> None:
        """Close all in a process that has none of its threads."""
        self.let_go()
        selector = self._selector
        if selector is not None and hasattr(selector, "fileno"):  # of its own
            selector.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # there are no more descriptors, it may be
            time.sleep(PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as it is there
        if not (self._places.acquire(blocking=False) or self._make_room()):
            self.shutdown_request(request)
            return
        self.talking[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._leave(request)
            raise

    def _make_room(self) -> bool:
        """Hang up on who has been talking for longest, if anybody is."""
        for client in list(self.talking)[:1]:
            with contextlib.suppress(OSError):  # it has just gone
                client.shutdown(socket.SHUT_RDWR)
            return self._places.acquire(timeout=PAUSE)
        return False

    def _leave(self, request: Any) -> None:  # noqa: ANN401 - as it is there
        self.talking.pop(request, None)
        self._places.release()

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def handle_error(self, _: object, client_address: object) -> None:
        logger.debug("no answer to %s", client_address, exc_info=sys.exc_info())

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002, ARG002 - as above
        logger.error(message.rstrip(), *args)  # of the application


# In the order in which they were made; those that were closed are gone.
_listeners: list[Listener] = []


def begin_all() -> None:
    """Have all serve in this process; say of which that cannot be."""
    for listener in tuple(_listeners):
        try:
            listener.begin()
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            logger.error("%r does not serve: %s", listener, reason)  # noqa: TRY400 - it says why


def rest_all() -> None:
    """Have none serve in this process. Blocks for a moment."""
    for listener in tuple(_listeners):
        listener.rest()


def _forget_all() -> None:
    for listener in tuple(_listeners):
        listener._forget()  # noqa: SLF001 - its own


forks.in_child(_forget_all)

"""A network that can break: a TCP proxy in front of a server.

Each connection through it, a link, has one thread, which alone touches the link's
two sockets; the others set its orders and wake it. So a link is cut between two
packets, never inside one.
"""

import contextlib
import enum
import select
import socket
import ssl
import struct
import threading
from types import TracebackType

from pgdbpool.demo.postgres import HOST, free_port

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
_JOIN = 5.0
_TIMEOUT = 5.0  # for a side that takes no bytes or ends no handshake

# PostgreSQL 18 manual, 54.7 "Message Formats"
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_GSS_REQUEST = struct.pack("!ii", 8, 80877104)


class Mode(enum.Enum):
    """What happens to the packets that arrive."""

    PASS = "pass"
    SILENT = "silent"


class Proxy:
    """A proxy on a port of its own that stands for the server at `port`.

    Args:
        port: Where the server listens on 127.0.0.1.
        at: Where to listen; without one on a free port of 127.0.0.1.
        tls: Makes the proxy accept TLS, and speak plainly to the server.
    """

    def __init__(
        self,
        port: int,
        *,
        at: tuple[str, int] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host, self.port = at or (HOST, free_port())
        self.target = (HOST, port)
        self.tls = tls
        self.mode = Mode.PASS
        self.latency = 0.0
        self.accepted = 0
        self.cuts = 0
        self.pattern: bytes | None = None
        self.is_cut_before = False
        self._lock = threading.Lock()  # guards the links and the trigger
        self._links: set[Link] = set()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def __enter__(self) -> "Proxy":
        """Begin to listen."""
        self.pass_through()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Refuse new connections and cut the others."""
        self.refuse()
        self.cut()

    def pass_through(self) -> None:
        """Be a good network again. A link that was silent stays silent until cut."""
        self.latency = 0.0
        self.mode = Mode.PASS
        if self._listener is None:
            self._listener = listener = socket.create_server((self.host, self.port))
            self._acceptor = threading.Thread(
                target=self._accept, args=(listener,), name="proxy-acceptor"
            )
            self._acceptor.start()

    def silence(self) -> None:
        """Swallow every byte both ways, and accept connections without a word."""
        self.mode = Mode.SILENT

    def slow(self, latency: float) -> None:
        """Hold back every packet for `latency` seconds."""
        self.latency = latency

    def refuse(self) -> None:
        """Refuse new connections; the links that are there stay."""
        if self._listener is None or self._acceptor is None:
            return
        # Wakes accept(), which a mere close() does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_JOIN)
        self._listener.close()
        self._listener = self._acceptor = None

    def cut(self) -> None:
        """Reset all links, as seen from both sides. Blocks until it is done."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.end()

    def cut_broken(self) -> None:
        """Reset the links that a silence has broken, and no others; as `cut`."""
        with self._lock:
            links = [link for link in self._links if link.is_broken]
        for link in links:
            link.end()

    def cut_before(self, pattern: bytes) -> None:
        """Cut the next link whose client sends `pattern`, and do not pass it on."""
        with self._lock:
            self.pattern, self.is_cut_before = pattern, True

    def cut_after(self, pattern: bytes) -> None:
        """Cut the next link whose client sends `pattern`, once the server did answer.

        So the server has certainly done it, and the client certainly cannot know.
        """
        with self._lock:
            self.pattern, self.is_cut_before = pattern, False

    @property
    def links(self) -> int:
        """How many connections go through the proxy."""
        with self._lock:
            return len(self._links)

    def take_trigger(self, data: bytes) -> str | None:
        """Return "before" or "after" if `data` is what is waited for: once."""
        with self._lock:
            if self.pattern is None or self.pattern not in data:
                return None
            self.pattern = None
            self.cuts += 1
            return "before" if self.is_cut_before else "after"

    def forget(self, link: "Link") -> None:
        """Drop a link that has ended."""
        with self._lock:
            self._links.discard(link)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            link = Link(self, client)
            with self._lock:
                self.accepted += 1
                self._links.add(link)
                link.thread.start()  # under the lock: cut() joins it


class Link:
    """One connection through the proxy, and the thread that carries its bytes."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.thread = threading.Thread(target=self._run, name="proxy-link")
        self._proxy = proxy
        self._client = client
        self._client.settimeout(_TIMEOUT)
        self._server: socket.socket | None = None
        self._is_silent = False
        self._is_doomed = False  # the answer to a trigger is still awaited
        self._ending = threading.Event()
        self._waker, self._wakened = socket.socketpair()

    @property
    def is_broken(self) -> bool:
        """Whether packets were swallowed, or the end of the server was."""
        return self._is_silent or self._server is None

    def end(self) -> None:
        """Reset both sides. Blocks until it is done."""
        self._ending.set()
        with contextlib.suppress(OSError):  # it may have ended by itself
            self._waker.send(b"!")
        self.thread.join(_JOIN)

    def _run(self) -> None:
        is_reset = True
        try:
            is_reset = self._carry()
        except OSError:
            pass  # a side was reset: so is the other
        finally:
            self._close(is_reset=is_reset)
            self._proxy.forget(self)

    def _carry(self) -> bool:
        """Carry bytes until the link ends; return whether it ends with a reset."""
        if self._proxy.mode is Mode.PASS:
            self._server = socket.create_connection(self._proxy.target, _TIMEOUT)
            self._begin_tls()
        while True:
            ready = self._ready()
            if self._ending.is_set():
                return True
            for source in ready:
                data = source.recv(_CHUNK)
                if not data and not self._swallows_end_of(source):
                    return False
                if data and not self._pass(data, source):
                    return True

    def _swallows_end_of(self, source: socket.socket) -> bool:
        """Keep the end of the server, as all its packets, from a silent link."""
        is_silent = self._is_silent or self._proxy.mode is Mode.SILENT
        if self._server is None or source is not self._server or not is_silent:
            return False
        self._server.close()
        self._server = None
        return True

    def _ready(self) -> list[socket.socket]:
        if isinstance(self._client, ssl.SSLSocket) and self._client.pending():
            return [self._client]
        sides = [side for side in (self._client, self._server) if side is not None]
        readable, _, _ = select.select([*sides, self._wakened], [], [])
        return [side for side in sides if side in readable]

    def _pass(self, data: bytes, source: socket.socket) -> bool:
        """Pass a packet on as ordered; return False if the link shall be cut."""
        if self._ending.wait(self._proxy.latency):
            return False
        if self._proxy.mode is Mode.SILENT or self._server is None:
            self._is_silent = True
        if self._is_silent:
            return True
        if source is self._server:
            if self._is_doomed:
                return False
            self._client.sendall(data)
            return True
        trigger = self._proxy.take_trigger(data)
        if trigger == "before":
            return False
        self._is_doomed = trigger == "after"
        self._server.sendall(data)
        return True

    def _begin_tls(self) -> None:
        """Answer the client's requests for encryption, which come before all else."""
        context = self._proxy.tls
        if context is None:
            return
        request = self._client.recv(8, socket.MSG_WAITALL)
        while request == _GSS_REQUEST:
            self._client.sendall(b"N")
            request = self._client.recv(8, socket.MSG_WAITALL)
        if request != _SSL_REQUEST:
            message = "the client did not ask for TLS"
            raise OSError(message)
        self._client.sendall(b"S")
        self._client = context.wrap_socket(self._client, server_side=True)

    def _close(self, *, is_reset: bool) -> None:
        for side in (self._client, self._server):
            if side is None:
                continue
            with contextlib.suppress(OSError):
                if is_reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.close()
        self._waker.close()
        self._wakened.close()

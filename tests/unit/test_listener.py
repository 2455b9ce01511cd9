"""An application on a port of its own."""

import contextlib
import errno
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from socketserver import TCPServer
from typing import Any

import pytest

from pgdbpool import listener as listeners
from pgdbpool.errors import SettingsError
from pgdbpool.listener import MOST_CLIENTS, PATIENCE, Listener
from tests.waiting import until

HOST = "127.0.0.1"
SHORT = 2.0  # seconds; but long enough for a busy machine to fill all places

StartResponse = Callable[..., Any]


def hello(_: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def fail(_: dict[str, Any], __: StartResponse) -> Iterable[bytes]:
    """Do not answer."""
    raise ValueError("the application is broken")


@contextlib.contextmanager
def serving(app: Any = hello, **more: Any) -> Iterator[Listener]:  # noqa: ANN401 - of `Listener`
    """Give a listener at any port, closed with the block."""
    listener = Listener(app, 0, **more)
    try:
        yield listener
    finally:
        listener.close()


def get(port: int, host: str = HOST) -> tuple[int, bytes]:
    """Return status and body of an answer."""
    client = http.client.HTTPConnection(host, port, timeout=10.0)
    with contextlib.closing(client):
        client.request("GET", "/")
        answer = client.getresponse()
        return answer.status, answer.read()


def test_it_serves_until_it_is_closed() -> None:
    """The port is free then; closing twice does no harm."""
    with serving() as listener:
        assert get(listener.port) == (HTTPStatus.OK, b"hello")
        assert repr(listener) == f"<Listener {HOST}:{listener.port}>"
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        get(listener.port)
    assert listener not in listeners._listeners


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_it_listens_at_an_address_of_ipv6() -> None:
    """As it is written, without brackets."""
    with serving(host="::1") as listener:
        assert get(listener.port, "::1") == (HTTPStatus.OK, b"hello")


@pytest.mark.parametrize("port", ["80", 1.5, True, None, -1, 65536])
def test_what_is_no_port_is_refused(port: Any) -> None:  # noqa: ANN401 - bad on purpose
    """By name, before anything is opened."""
    with pytest.raises(SettingsError, match=r"^port: must be"):
        Listener(hello, port)


def test_a_port_that_is_taken_is_told_so() -> None:
    """By somebody who does not share it."""
    with socket.create_server((HOST, 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match=r"Address already in use$") as caught:
            Listener(hello, port)
        assert f"cannot listen at {HOST}:{port}: " in str(caught.value)
    assert port not in [listener.port for listener in listeners._listeners]


def test_two_share_a_port() -> None:
    """As the workers of a service do; the one that is left serves all."""
    with serving() as listener:
        second = Listener(hello, listener.port)
        second.close()
        for _ in range(20):
            assert get(listener.port) == (HTTPStatus.OK, b"hello")


def test_it_rests_and_begins_again() -> None:
    """At the same port, though any would have done at first."""
    with serving() as listener:
        listeners.rest_all()
        with pytest.raises(ConnectionRefusedError):
            get(listener.port)
        port = listener.port
        listeners.begin_all()
        server = listener._server
        listeners.begin_all()
        assert listener._server is server
        assert listener.port == port
        assert get(port) == (HTTPStatus.OK, b"hello")


def test_an_application_that_fails_fails_that_request_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the next one is answered."""
    with serving(fail) as listener:
        for _ in range(2):
            assert get(listener.port)[0] == HTTPStatus.INTERNAL_SERVER_ERROR
        until(lambda: caplog.text.count("ValueError: the application is broken") == 2)
    assert {record.name for record in caplog.records} == {"pgdbpool.listener"}


def test_a_connection_is_for_one_request() -> None:
    """Idle ones would keep others out."""
    with (
        serving() as listener,
        socket.create_connection((HOST, listener.port), 10.0) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1024), b""))
    assert answer.endswith(b"hello")


def test_a_client_that_talks_nonsense_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else whoever reaches the port could fill the log."""
    with serving() as listener:
        with socket.create_connection((HOST, listener.port)) as client:
            client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            client.settimeout(10.0)
            while client.recv(1024):
                pass
        assert get(listener.port) == (HTTPStatus.OK, b"hello")
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_who_has_come_before_the_end_is_answered() -> None:
    """Though it was not let in yet."""
    with socket.create_server((HOST, 0)) as sock:
        server = listeners._Server(HOST, 0, hello, sock)
    with contextlib.closing(http.client.HTTPConnection(HOST, server.port)) as client:
        client.request("GET", "/")
        server._button.send(b"!")
        server.serve()
        assert client.getresponse().read() == b"hello"
    server.end()


def test_where_nobody_can_be_let_in_it_waits_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would try again at once, for ever, where there are no more descriptors."""
    tries: list[float] = []

    def refuse(_: TCPServer) -> None:
        tries.append(time.monotonic())
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(TCPServer, "get_request", refuse)
    with (
        serving() as listener,
        socket.create_connection((HOST, listener.port)) as client,
    ):
        until(lambda: len(tries) == 3)
        monkeypatch.undo()
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"200" in client.recv(100)
    assert tries[2] - tries[0] >= 2 * listeners.PAUSE


def test_one_that_cannot_begin_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said, with the reason."""
    with serving() as one, serving() as other:
        listeners.rest_all()
        with socket.create_server((HOST, one.port)):
            listeners.begin_all()
            assert get(other.port) == (HTTPStatus.OK, b"hello")
        assert f"{one!r} does not serve: cannot listen" in caplog.text


@pytest.mark.parametrize("host", ["", None])
def test_what_is_no_host_is_refused(host: Any) -> None:  # noqa: ANN401 - bad on purpose
    """An empty one would be every address of the machine."""
    with pytest.raises(SettingsError, match=r"^host: must be"):
        Listener(hello, 0, host)


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HT", b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\na"],
    ids=["nothing", "half a request", "half a body"],
)
def test_clients_that_take_their_time_keep_nobody_out(said: bytes) -> None:
    """Who has been talking for longest makes room for the next, however many."""

    def read(environ: dict[str, Any], start: StartResponse) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return list(hello(environ, start))

    with serving(read) as listener, contextlib.ExitStack() as stack:
        talking = [
            stack.enter_context(socket.create_connection((HOST, listener.port)))
            for _ in range(MOST_CLIENTS)
        ]
        for client in talking:
            client.sendall(said)
        for _ in range(3):
            until(lambda: answers(listener.port))
        talking[0].settimeout(10.0)
        assert talking[0].recv(1) == b""
        talking[-1].setblocking(False)
        with pytest.raises(BlockingIOError):  # it has its time still
            talking[-1].recv(1)


def test_clients_that_say_nothing_are_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the end, though nobody else has come."""
    assert listeners._Handler.timeout == PATIENCE
    monkeypatch.setattr(listeners._Handler, "timeout", SHORT)
    with (
        serving() as listener,
        socket.create_connection((HOST, listener.port), 10.0) as silent,
    ):
        assert silent.recv(1) == b""


def test_who_is_being_answered_is_not_hung_up_on() -> None:
    """One more than there are places for is."""
    is_open = threading.Event()

    def wait(environ: dict[str, Any], start: StartResponse) -> list[bytes]:
        is_open.wait(30.0)
        return list(hello(environ, start))

    with serving(wait) as listener, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((HOST, listener.port), 30.0))
            for _ in range(MOST_CLIENTS)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        server = listener._server
        assert server is not None
        until(lambda: not (server.talking or server._places._value))
        with socket.create_connection((HOST, listener.port), 30.0) as late:
            assert late.recv(1) == b""
        is_open.set()
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.0 200")


def answers(port: int) -> bool:
    """Whether it does; it may hang up."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return get(port) == (HTTPStatus.OK, b"hello")
    return False


def test_a_forked_child_serves_only_when_it_is_told_to() -> None:
    """It has none of the threads, nor what they wait with; the parent goes on."""
    with serving() as listener:
        server: Any = listener._server
        waiting = until(lambda: server._selector).fileno()
        assert is_open(waiting)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            found = b"?"
            try:
                rests = listener._server is None and not is_open(waiting)
                listeners.begin_all()
                found = b"ok" if rests and get(listener.port)[1] == b"hello" else b"no"
            finally:
                os.write(writer, found)
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read() == b"ok"
        for _ in range(20):
            assert get(listener.port) == (HTTPStatus.OK, b"hello")


def is_open(descriptor: int) -> bool:
    """Whether this process has it."""
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        return True
    return False


def test_what_it_serves_is_told_that_there_are_threads() -> None:
    """And which thread it is in is none that anybody waits for."""
    seen: list[tuple[bool, int]] = []

    def look(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        seen.append((environ["wsgi.multithread"], threading.get_ident()))
        return hello(environ, start_response)

    with serving(look) as listener:
        get(listener.port)
    ((is_multithread, thread),) = seen
    assert is_multithread
    assert thread != threading.get_ident()

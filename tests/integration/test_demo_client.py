"""The load's HTTP client against a server that does as it is told."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgdbpool.demo.client import Call, Client, Ending, perform

GET = Call("GET", "/")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
TRUNCATED = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"


class ScriptedServer:
    """Serves one connection after the other: each is a list of answers, then closed."""

    def __init__(self, *connections: list[bytes]) -> None:
        self._connections = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.closed = [threading.Event() for _ in connections]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; every connection of the script must have been made."""
        self._thread.join(10)
        self._listener.close()
        assert all(event.is_set() for event in self.closed)

    def _serve(self) -> None:
        for answers, closed in zip(self._connections, self.closed, strict=True):
            conn, _ = self._listener.accept()
            with conn:
                for answer in answers:
                    conn.recv(65_536)
                    conn.sendall(answer)
            closed.set()


@contextmanager
def scripted(*connections: list[bytes]) -> Iterator[tuple[ScriptedServer, Client]]:
    """Give a server with a script and a client of it."""
    server = ScriptedServer(*connections)
    client = Client("127.0.0.1", server.port, timeout=5)
    try:
        yield server, client
    finally:
        client.close()
        server.close()


def test_connection_is_kept() -> None:
    """Several requests go over one connection."""
    with scripted([OK, OK, OK]) as (_, client):
        assert [client.send(GET).body for _ in range(3)] == [b"ok"] * 3


def test_connection_closed_while_idle_is_replaced() -> None:
    """A server that closes an idle connection costs no request."""
    with scripted([OK], [OK]) as (server, client):
        client.send(GET)
        server.closed[0].wait(5)
        assert client.send(GET).status == 200


def test_503_is_repeated_over_the_wire() -> None:
    """A 503 with Retry-After is repeated and its second answer counts."""
    with scripted([BUSY, OK]) as (_, client):
        outcome = perform(GET, client.send, lambda _: None, bool)
        assert (outcome.ending, outcome.repeats) == (Ending.GOOD, 1)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", TRUNCATED])
def test_cut_response_is_a_failure(answer: bytes) -> None:
    """A response that does not come whole has failed, and is not asked for again."""
    with scripted([answer]) as (_, client):
        outcome = perform(GET, client.send, lambda _: None, bool)
        assert (outcome.ending, outcome.repeats) == (Ending.FAILED, 0)


def test_client_connects_anew_after_a_failure() -> None:
    """What was left of a cut response is never read as the next one's answer."""
    with scripted([TRUNCATED], [OK]) as (_, client):
        with pytest.raises(http.client.IncompleteRead):
            client.send(GET)
        assert client.send(GET).body == b"ok"

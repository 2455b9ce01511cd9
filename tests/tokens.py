"""Token endpoints of the clouds, on loopback: what an SDK would talk to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit


class Call:
    """One request that came.

    Attributes:
        method: GET or POST.
        path: without the query.
        query: with the form of a POST.
        headers: with names in lower case.
    """

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        form = handler.rfile.read(length).decode()
        self.method = handler.command
        self.path = url.path
        self.query = {
            key: values[0]
            for key, values in {**parse_qs(url.query), **parse_qs(form)}.items()
        }
        self.headers = {key.lower(): value for key, value in handler.headers.items()}


class TokenServer:
    """Answers each path with a function of the test's.

    Attributes:
        answers: by path: takes a `Call`, returns a status and what is sent as JSON,
            or as it is if it is a string.
        calls: what came, in order.
        headers: sent along with each answer.
        port: on 127.0.0.1.
    """

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[Call] = []
        self.port = 0

    def count(self, path: str) -> int:
        """Return how many calls a path had."""
        return sum(call.path == path for call in self.calls)

    def answer(self, call: Call) -> tuple[int, Any]:
        """Return what a call gets."""
        self.calls.append(call)
        found = self.answers.get(call.path)
        return (404, {"error": "not_found"}) if found is None else found(call)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Listen on a port of 127.0.0.1."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                call = Call(self)
                status, body = owner.answer(call)
                text = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status)
                for key, value in owner.headers.items():
                    self.send_header(key, value)
                kind = "text/plain" if isinstance(body, str) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET  # noqa: N815 - the name is http.server's

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

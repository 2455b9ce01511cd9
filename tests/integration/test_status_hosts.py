"""The status page in real servers, and behind a proxy that rewrites addresses."""

import contextlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import HOST
from pgdbpool.status import StatusApp
from tests.webtesting import StopableWSGIServer

TOKEN = "open-sesame"


class Quiet(WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def in_wsgiref(app: Any) -> Iterator[int]:  # noqa: ANN401 - WSGI
    """Serve an application; give the port."""
    with make_server(HOST, 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def in_waitress(app: Any) -> Iterator[int]:  # noqa: ANN401 - WSGI
    """Serve an application; give the port."""
    server = StopableWSGIServer.create(app, host=HOST)
    yield server.effective_port
    server.shutdown()


@pytest.fixture
def pool() -> ConnectionPool:
    """Give a pool that never connects."""
    return ConnectionPool("host=nowhere.invalid", open=False, name="shop")


def get(port: int, version: int = 11, **headers: str) -> tuple[int, str]:
    """Return status and text of the figures."""
    conn = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(conn):
        conn._http_vsn, conn._http_vsn_str = version, f"HTTP/1.{version % 10}"  # type: ignore[attr-defined]
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        conn.request("GET", "/status.json", headers=names)
        response = conn.getresponse()
        return response.status, response.read().decode()


def test_what_a_proxy_passes_to_waitress_is_not_local(pool: ConnectionPool) -> None:
    """It removes what tells of the proxy, so a token is needed, and does."""
    with in_waitress(StatusApp(pool)) as port:
        for headers in ({}, {"X_Forwarded_For": "203.0.113.9"}):
            status, text = get(port, **headers)
            assert status == 403
            assert "waitress" in text
    app = StatusApp(pool, token=TOKEN)
    with in_waitress(app) as port:
        assert get(port)[0] == 401
        assert get(port, Authorization=f"Bearer {TOKEN}")[0] == 200
    app.service.history.stop()


def test_an_old_protocol_is_told_why(pool: ConnectionPool) -> None:
    """A program that speaks it is one or a proxy does; others see the page."""
    app = StatusApp(pool)
    with in_wsgiref(app) as port:
        assert get(port)[0] == 200
        status, text = get(port, version=10)
        assert status == 403
        assert "HTTP/1.0 is what proxies ask by" in text
    app.service.history.stop()


def test_who_logs_in_behind_a_proxy_that_rewrites_stays_so(
    pool: ConnectionPool,
) -> None:
    """The cookie goes back to the address that the browser knows, and no other."""
    app = StatusApp(pool, token=TOKEN)

    def rewriting(environ: Any, start: Any) -> Any:  # noqa: ANN401 - WSGI
        # As nginx: location /status/ { proxy_pass http://app/_pgdbpool/; }
        if not environ["PATH_INFO"].startswith("/status/"):
            start("404 Not Found", [])
            return [environ.get("HTTP_COOKIE", "no cookie").encode()]
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/status")
        environ["SCRIPT_NAME"] = "/_pgdbpool"
        return app(environ, start)

    cookies = urllib.request.HTTPCookieProcessor(CookieJar())
    browser = urllib.request.build_opener(cookies)
    body = urlencode({"token": TOKEN}).encode()
    with in_wsgiref(rewriting) as port:
        root = f"http://{HOST}:{port}"
        with browser.open(f"{root}/status/login", body, timeout=10) as answer:
            assert (answer.status, answer.url) == (200, f"{root}/status/")
        with browser.open(f"{root}/status/status.json", timeout=10) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as raised:
            browser.open(f"{root}/other/", timeout=10)
        with raised.value as refused:
            assert refused.read() == b"no cookie"
    app.service.history.stop()

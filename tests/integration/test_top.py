"""`pgdbpool top` before a real status page."""

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from click.testing import CliRunner, Result

from pgdbpool import ConnectionPool
from pgdbpool.commands.top import top
from pgdbpool.demo.postgres import free_port
from pgdbpool.status import StatusApp
from tests.waiting import until

TOKEN = "open-sesame"


class Quiet(WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(app: Any, port: int) -> Iterator[str]:  # noqa: ANN401 - WSGI
    """Serve an application; give its address."""
    server = make_server("127.0.0.1", port, app, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool."""
    with ConnectionPool(dsn, name="shop", max_size=3) as pool:
        pool.wait()
        yield pool


def once(*arguments: str, **environ: str) -> Result:
    """Run the command for one look."""
    runner = CliRunner(env={"COLUMNS": "120", **environ})
    return runner.invoke(top, [*arguments, "--once"])


@pytest.fixture
def _stopped(pool: ConnectionPool) -> Iterator[None]:
    """Leave no thread that samples."""
    yield
    pool.close()


def test_one_look_shows_who_has_a_connection(pool: ConnectionPool) -> None:
    """Pool, server, and the line that acquired."""
    app = StatusApp(pool)
    conn = pool.acquire(request="GET /report")
    with served(app, free_port()) as url:
        told = once(url)
    pool.release(conn, conn.hold)
    app.service.history.stop()

    assert told.exit_code == 0
    assert f"shop  {pool.endpoints[0].name}  primary  up" in told.output
    assert "1/3" in told.output
    assert "GET /report" in told.output
    assert "integration/test_top.py:" in told.output


def test_a_page_with_a_token_is_opened_by_it(pool: ConnectionPool) -> None:
    """By option or variable; without, the way to give it is told, and no token."""
    app = StatusApp(pool, token=TOKEN)
    with served(app, free_port()) as url:
        assert once(url, "--token", TOKEN).exit_code == 0
        assert once(url, PGDBPOOL_STATUS_TOKEN=TOKEN).exit_code == 0
        for refused in (once(url), once(url, "--token", "wrong-one")):
            assert refused.exit_code == 1
            assert "is closed to you (401): give its token" in refused.output
            assert "wrong-one" not in refused.output
    app.service.history.stop()


def test_what_is_no_status_page_is_told() -> None:
    """Neither a traceback nor an endless wait."""

    def other(_: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    with served(other, free_port()) as url:
        told = once(url)
    assert (told.exit_code, told.output) == (
        1,
        f"pgdbpool top: {url}status.json is no status page\n",
    )
    nobody = once(f"http://127.0.0.1:{free_port()}/")
    assert nobody.exit_code == 1
    assert "Connection refused" in nobody.output


def test_it_lives_through_a_restart_of_the_service(pool: ConnectionPool) -> None:
    """It says that it tries again, and goes on."""
    port = free_port()
    app = StatusApp(pool)
    screen, terminal = pty.openpty()
    seen = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            while data := os.read(screen, 4096):
                seen.extend(data)

    with contextlib.ExitStack() as stack:
        serving = stack.enter_context(contextlib.ExitStack())
        url = serving.enter_context(served(app, port))
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from pgdbpool.cli import main; main()"),
                *("top", url, "--interval", "0.1"),
            ],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        os.close(terminal)
        reader = threading.Thread(target=read)
        reader.start()
        stack.callback(reader.join)
        stack.callback(process.kill)
        until(lambda: b"primary" in seen, 20.0)
        serving.close()
        until(lambda: b"trying again" in seen, 20.0)
        del seen[:]
        with served(app, port):
            until(lambda: b"primary" in seen and b"trying" not in seen[-2000:], 20.0)
            process.send_signal(2)
            assert process.wait(10.0) == 0
    os.close(screen)
    app.service.history.stop()

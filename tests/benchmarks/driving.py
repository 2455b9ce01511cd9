"""A server under gunicorn, and clients in a process of their own that drive it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks import served_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS = 16
SECONDS = 0.6
WARMUP = 0.2
START_WITHIN = 15.0


def driven(port: int) -> dict[str, Any]:
    """Let the clients loose; return what they saw. Blocks."""
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    command += ["--port", str(port), "--clients", str(CLIENTS)]
    command += ["--seconds", str(SECONDS), "--warmup", str(WARMUP)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextlib.contextmanager
def serving(
    app: str, environ: dict[str, str], options: Sequence[str] = ()
) -> Iterator[int]:
    """Run gunicorn for the length of the block; give its port.

    Args:
        app: module and name of the application.
        environ: what it finds in its environment, besides.
        options: of gunicorn, besides.
    """
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread"]
    command += ["--workers", "1", "--threads", str(served_app.THREADS)]
    command += ["--bind", f"127.0.0.1:{port}", "--keep-alive", "60"]
    command += ["--log-level", "error", "--graceful-timeout", "2"]
    process = subprocess.Popen([*command, *options, app], env=os.environ | environ)
    try:
        _answering(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answering(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server has answered a request. Blocks, at most for a while."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), START_WITHIN) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if sock.recv(64):
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"gunicorn did not answer within {START_WITHIN:g} s")

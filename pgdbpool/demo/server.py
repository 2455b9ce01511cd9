"""The shop under gunicorn, as a child process with a group of its own."""

from __future__ import annotations

import contextlib
import errno
import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from pgdbpool.demo.app import DSN_VARIABLE, OWNER_VARIABLE
from pgdbpool.demo.errors import DemoError

if TYPE_CHECKING:
    from pathlib import Path

    from pgdbpool.demo.signals import Signals

HOST = "127.0.0.1"
READY_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
KILL_TIMEOUT = 2.0


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a port (0: any free one) of this machine.

    The demo binds and hands the socket on to gunicorn, so that a taken port is
    found before anything is started, and nobody can take it in between.

    Raises:
        DemoError: The port is taken, or not ours to take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise DemoError(_why_not(port, error)) from None
    return listener


class Server:
    """gunicorn serving the shop; `stop` leaves no process of it."""

    def __init__(
        self, listener: socket.socket, folder: Path, *, is_ours: bool = False
    ) -> None:
        """Take the listening socket, which `start` hands on, and where to write.

        Args:
            listener: Where to serve.
            folder: For log and notes.
            is_ours: Whether the database may be disturbed by buttons of the page.
        """
        self._owner = str(os.getpid()) if is_ours else ""
        self.port: int = listener.getsockname()[1]
        self.address = f"http://{HOST}:{self.port}"
        self._listener = listener
        self.log = folder / "server.log"
        self._ready = folder / "ready"  # gets a byte of every worker
        self._metrics = folder / "metrics"  # of all workers, for whichever is asked
        self._workers = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, dsn: str, workers: int, threads: int) -> None:
        """Start gunicorn; `wait_until_ready` tells when it serves.

        Raises:
            DemoError: gunicorn is not installed.
        """
        if importlib.util.find_spec("gunicorn") is None:
            raise DemoError("gunicorn is not installed: pip install 'pgdbpool[demo]'")
        self._workers = workers
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "python:" + _conf()],
                stdin=subprocess.PIPE,  # see `pgdbpool.demo.parent`
                stdout=log,
                stderr=log,
                env=self._environment(dsn, workers, threads),
                pass_fds=[self._listener.fileno()],
                # Ctrl-C is the demo's: it ends its children in the right order.
                start_new_session=True,
            )
        # gunicorn's alone from now on: when it ends, clients are refused at once.
        self._listener.close()

    def wait_until_ready(self, signals: Signals) -> None:
        """Block until all workers are ready and one answers, 30 s at most.

        Raises:
            DemoError: gunicorn ended, or does not answer.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while not (self._are_ready() and self._answers()):
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"gunicorn does not answer:\n{self.tail()}")
            signals.pause(0.05)

    def check(self) -> None:
        """Raise `DemoError` when gunicorn has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise DemoError(f"gunicorn ended by itself:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """Return the end of what gunicorn and the pool said."""
        with contextlib.suppress(OSError):
            text = self.log.read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def stop(self) -> None:
        """End gunicorn and all its processes; blocks for 7 s at most."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
        _kill_group(process.pid)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        _await_group(process.pid)

    def _environment(self, dsn: str, workers: int, threads: int) -> dict[str, str]:
        """Return the environment that `pgdbpool.demo.serving` reads."""
        environment = os.environ | {
            DSN_VARIABLE: dsn,
            "PGDBPOOL_DEMO_LISTENER": str(self._listener.fileno()),
            "PGDBPOOL_DEMO_READY": str(self._ready),
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
            OWNER_VARIABLE: self._owner,
            "PGDBPOOL_DEMO_WORKERS": str(workers),
            "PGDBPOOL_DEMO_THREADS": str(threads),
        }
        # It would override what the demo asks for.
        environment.pop("GUNICORN_CMD_ARGS", None)
        return environment

    def _are_ready(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._ready.stat().st_size >= self._workers
        return False

    def _answers(self) -> bool:
        client = http.client.HTTPConnection(HOST, self.port, timeout=1)
        try:
            client.request("GET", "/")
            return client.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()


def _conf() -> str:
    """Return the module that stands for gunicorn.conf.py."""
    return f"{__package__}.serving"


def _why_not(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: choose another with --port (0: any free one)"
    return f"cannot listen on port {port}: {error.strerror}"


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _await_group(group: int) -> None:
    """Wait until the last process of a killed group is gone."""
    deadline = time.monotonic() + KILL_TIMEOUT
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)

"""A real gunicorn for the tests of its hooks."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from psycopg2.extensions import connection

from pgdbpool.demo.postgres import HOST, free_port
from tests.waiting import until

ROOT = Path(__file__).parent.parent
CONF = """
from pgdbpool.gunicorn import *
control_socket_disable = True
graceful_timeout = 5
"""
GREEN_CONF = (
    CONF
    + """
from pgdbpool import gunicorn as hooks

def post_fork(server, worker):
    from psycogreen.gevent import patch_psycopg
    patch_psycopg()
    hooks.post_fork(server, worker)
"""
)


class Gunicorn:
    """A gunicorn in a process group of its own, ended with the block.

    Args:
        directory: for its configuration and its log.
        dsn: where the application finds its database.
        options: of gunicorn's command line.
        conf: the text of gunicorn.conf.py.
        app: the application.
        pool: the settings of the application's pool.
        environ: more variables for its environment.
    """

    def __init__(
        self,
        directory: Path,
        dsn: str,
        *options: str,
        conf: str = CONF,
        app: str = "tests.gunicorn_app:eager()",
        pool: dict[str, object] | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self._log = directory / "gunicorn.log"
        (directory / "gunicorn.conf.py").write_text(conf)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        config = ["-c", str(directory / "gunicorn.conf.py")]
        config += ["--bind", f"{HOST}:{self.port}"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *config, *options, app],
                cwd=ROOT,
                env={
                    **inherited,
                    "PYTHONPATH": str(ROOT),
                    "APP_DSN": dsn,
                    "APP_POOL": json.dumps(pool or {}),
                    **(environ or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> "Gunicorn":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = self.family()
            self.process.terminate()
            try:
                self.process.wait(20)
            finally:
                if error is not None:
                    # A failed test may leave a worker in a long query.
                    self._kill(family)
            until(lambda: not any(map(is_alive, family)), message="all have ended")

    def _kill(self, family: list[psutil.Process]) -> None:
        self.process.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def log(self) -> str:
        """What gunicorn and its workers have written so far."""
        return self._log.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """Return the living children of the arbiter."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Return the living workers."""
        return [p for p in self.family() if not _is_reaper(p)]

    def reaper(self) -> psutil.Process:
        """Return the reaper, for which it waits."""
        (reaper,) = until(lambda: [p for p in self.family() if _is_reaper(p)])
        return reaper

    def get(self, path: str = "/", timeout: float = 30.0) -> tuple[int, dict[str, Any]]:
        """Return status and content of the answer to a GET."""
        conn = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            conn.request("GET", path, headers={"Connection": "close"})
            response = conn.getresponse()
            body = response.read()
        finally:
            conn.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(body) if is_json else {}

    def status(self, path: str = "/") -> int:
        """Return the status of the answer to a GET, 0 while there is none."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get(path)[0]
        return 0

    def wait(self, status: int = 200, timeout: float = 20.0) -> None:
        """Wait until requests are answered with this status."""
        message = f"requests are answered {status}"
        try:
            until(lambda: self.status() == status, timeout, message)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def wait_log(self, text: str, timeout: float = 10.0) -> str:
        """Wait for a line in the log and return it."""
        lines: list[str] = until(
            lambda: [line for line in self.log.splitlines() if text in line],
            timeout,
            f"{text!r} in the log",
        )
        return lines[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the arbiter."""
        self.process.send_signal(number)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; a zombie that init has not noticed does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _is_reaper(process: psutil.Process) -> bool:
    try:
        return any(part.endswith("reaper.py") for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def sessions(admin: connection, name: str) -> list[tuple[int, str, str]]:
    """Return pid, state and worker's token of the sessions of a service."""
    with admin.cursor() as cur:
        cur.execute(
            "SELECT pid, state, split_part(application_name, ':', 2) "
            "FROM pg_stat_activity WHERE split_part(application_name, ':', 1) = %s",
            (name,),
        )
        return list(cur.fetchall())


def busy(admin: connection, name: str) -> list[int]:
    """Return the sessions of a service in the middle of a query."""
    return [pid for pid, state, _ in sessions(admin, name) if state == "active"]


@contextlib.contextmanager
def asking(gunicorn: Gunicorn, path: str) -> Iterator[http.client.HTTPConnection]:
    """Have a request under way, whose answer nobody needs to wait for."""
    conn = http.client.HTTPConnection(HOST, gunicorn.port, timeout=30.0)
    try:
        conn.request("GET", path)
        yield conn
    finally:
        conn.close()

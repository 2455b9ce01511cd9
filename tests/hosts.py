"""What the servers of WSGI applications have in common when a test starts one.

Each is a real server on a port of its own, with a directory of its own for what it
writes, in a process group of its own. What it serves is `tests.hosted_app`, or what it
is told to; what that needs to know stands in its environment.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from pgdbpool.demo.postgres import HOST, free_port
from pgdbpool.demo.programs import unprivileged_account
from tests.waiting import until

ROOT = Path(__file__).parent.parent
APP = "tests.hosted_app"
PATIENCE = 30.0

# Where pgdbpool and what it needs can be imported from by another Python.
_paths = sysconfig.get_paths()
PYTHON_PATH = tuple({str(ROOT): 0, _paths["purelib"]: 0, _paths["platlib"]: 0})
# What the server is told comes from the test; where it runs as another account, it may
# not write what coverage has found.
UNWANTED = ("PG", "COVERAGE_")


def lacks_debian_python() -> Iterator[str]:
    """Yield why Debian's Python, of which its servers are, cannot import pgdbpool."""
    own = sys.version_info[:2]
    found = {file.name for file in Path("/usr/bin").glob("python3.*")}
    if f"python{own[0]}.{own[1]}" not in found:
        yield f"Debian's Python is not {own[0]}.{own[1]}, for which psycopg2 is here"


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, as the application tells things."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Host:
    """A server in a process group of its own, ended with the block.

    Args:
        directory: for its configuration, its log, its sockets; it becomes its own.
        dsn: where the application finds its database.
        pool: the settings of the application's pool.
        environ: more variables for its environment.
    """

    # Told to the first process: to end, and to take new ones in the place of all.
    stop_signal = signal.SIGTERM
    reload_signal = signal.SIGHUP
    # Whether it is run by the account `nobody` where a test is run by root.
    is_unprivileged = False
    # Whether a reload cuts no request off.
    is_graceful = True

    def __init__(
        self,
        directory: Path,
        dsn: str,
        pool: dict[str, object],
        environ: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.directory = directory
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(UNWANTED)},
            "PYTHONPATH": str(ROOT),
            "APP_DSN": dsn,
            "APP_POOL": json.dumps(pool),
            **(environ or {}),
        }
        self._log = directory / "log"
        self._log.touch()

    def command(self) -> Sequence[str]:
        """Return what starts it, in the foreground."""
        raise NotImplementedError

    def __enter__(self) -> "Host":
        """Start it and wait until it serves. Blocks."""
        options: dict[str, Any] = {}
        account = unprivileged_account() if self.is_unprivileged else None
        if account is not None:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, account.user, account.group)
            options = {"user": account.user, "group": account.group, "extra_groups": []}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )
        try:
            until(self._serves, PATIENCE, "it serves")
        except BaseException:
            sys.stderr.write(self.log)
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it. Blocks."""
        if error is not None:
            sys.stderr.write(self.log)
        self.stop()

    def _serves(self) -> bool:
        assert self.process.poll() is None, f"it has ended:\n{self.log}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/flags").status == http.HTTPStatus.OK
        return False

    def stop(self) -> None:
        """End it as an operator would; may be called twice. Blocks."""
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(PATIENCE)
            until(lambda: not _alive(family), message="all its processes have ended")
        finally:
            self._kill()

    def _kill(self) -> None:
        # What it left, if anything, is in its group: it has no other children.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def reload(self) -> None:
        """Have new processes take the place of all; their work is finished. Blocks."""
        before = _alive(self.family())
        self.process.send_signal(self.reload_signal)
        until(lambda: not _alive(before), PATIENCE, "the old processes have ended")
        until(self._serves, PATIENCE, "it serves again")

    def family(self) -> list[psutil.Process]:
        """Return its other processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    @property
    def log(self) -> str:
        """What it and the application have written so far."""
        return self._log.read_text(errors="replace")

    def ask(
        self, method: str, path: str, body: bytes = b"", timeout: float = PATIENCE
    ) -> Answer:
        """Return the answer to a request. Blocks."""
        conn = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        with contextlib.closing(conn):
            conn.request(method, path, body, headers={"Connection": "close"})
            response = conn.getresponse()
            return Answer(response.status, response.read())


class Waitress(Host):
    """One process with threads, from PyPI."""

    threads = 8

    def command(self) -> Sequence[str]:
        """Return what starts it."""
        options = [f"--listen={HOST}:{self.port}", f"--threads={self.threads}"]
        return [sys.executable, "-m", "waitress", *options, f"{APP}:application"]


class GunicornSync(Host):
    """Eight processes of one thread, from PyPI, without the hooks of pgdbpool."""

    processes = 8

    def command(self) -> Sequence[str]:
        """Return what starts it."""
        options = ["-k", "sync", "-w", str(self.processes), "--graceful-timeout=5"]
        options += ["--bind", f"{HOST}:{self.port}", "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", *options, f"{APP}:application"]


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that run; a zombie that init has not noticed does not."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found

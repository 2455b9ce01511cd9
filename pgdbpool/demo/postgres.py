"""A real PostgreSQL in a temporary directory, gone without a trace afterwards.

`EmbeddedPostgres` is what the demo and the tests run on. The server is a child of
this process, reached on 127.0.0.1 or a unix socket; a guardian beside it ends it
when this process is killed.
"""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import psutil
from psycopg2.extensions import make_dsn

from pgdbpool.demo import guardian
from pgdbpool.demo.programs import (
    EmbeddedPostgresError,
    Programs,
    find_programs,
    is_open_to_all,
    unprivileged_account,
)
from pgdbpool.demo.running import Running

StopMode = Literal["smart", "fast", "immediate"]

HOST = "127.0.0.1"
SETTINGS: Mapping[str, str] = {
    # The data are thrown away, so nothing needs to survive a power cut.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    # In the data directory, not in /dev/shm, where a killed server leaves them.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_SIGNALS = {  # PostgreSQL 18 manual, 18.5 "Shutting Down the Server"
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_POLL = 0.01
_PORTS = range(20_000, 32_000)
_PORT_TRIES = 5
_TAIL = 15  # lines of the log in an error
_PATH_LIMIT = 80  # of 107 bytes for a unix socket: room for the socket's own name

# Not the module's own generator: a test runner that seeds it would have two
# servers at the same time try the same ports.
_random = random.SystemRandom()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on.

    It lies below the ephemeral ports: one of those could become the port of a
    client that looks for the stopped server, and the client then be connected to
    itself and the server's port be taken.
    """
    for port in _random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    numbers = f"from {_PORTS[0]} to {_PORTS[-1]}"
    raise EmbeddedPostgresError(f"no free port on {HOST} {numbers}")


class EmbeddedPostgres(Running):
    """A PostgreSQL server of this process's own; to be used by one thread at a time.

    It keeps port and data over a stop and a start. It has no TLS: the programs are
    built without it. Its superuser is `postgres`.

    Args:
        version: The major version, 18 or 16.
        settings: Lines of postgresql.conf, beside and before those of `SETTINGS`.
        hba: The lines of pg_hba.conf; by default everybody is trusted, or with
            `password` everybody must give one (scram-sha-256).
        password: The superuser's password.
    """

    def __init__(
        self,
        version: int = 18,
        *,
        settings: Mapping[str, object] | None = None,
        hba: Sequence[str] | None = None,
        password: str | None = None,
    ) -> None:
        self.version = version
        self.port = free_port()
        self.directory: Path | None = None
        self._settings = {**SETTINGS, **(settings or {})}
        self._hba = hba
        self._password = password
        self._owner = os.getpid()
        self._programs: Programs | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def _begin(self) -> None:
        """Start the server if it does not run. Blocks."""
        if not self.is_running:
            self.start()

    def start(self, timeout: float = 30.0) -> None:
        """Start the server, and make its data at the first time. Blocks.

        Raises:
            EmbeddedPostgresError: It is not installed, or did not start within
                `timeout` seconds; the message has the end of its log.
        """
        if self.is_running:
            raise EmbeddedPostgresError("the embedded PostgreSQL is running already")
        may_move = self._programs is None  # nobody knows the port yet
        directory, programs = self._prepare()
        for _ in range(_PORT_TRIES):
            begin = len(self.log)
            if self._launch(directory, programs, timeout):
                return
            self._server = None
            said = self.log[begin:]
            if not may_move or "Address already in use" not in said:
                break
            self.port = free_port()
        tail = "\n".join(said.splitlines()[-_TAIL:])
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL did not start on port {self.port}:\n{tail}"
        )

    def stop(self, mode: StopMode = "fast", timeout: float = 30.0) -> None:
        """Shut the server down as `pg_ctl stop -m mode` does. Blocks.

        One that does not end within `timeout` seconds is killed.

        Raises:
            ValueError: There is no such mode.
        """
        if mode not in _SIGNALS:
            raise ValueError(f"mode must be one of {', '.join(_SIGNALS)}, not {mode!r}")
        if self._server is None:
            return
        self._server.send_signal(_SIGNALS[mode])
        self.thaw()
        try:
            self._server.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._server = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server in `mode` and start it on the same port. Blocks."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the server and all its processes, as an empty battery would. Blocks."""
        if self._server is None:
            return
        # The postmaster first and halted: it would replace what it sees die.
        self._server.send_signal(signal.SIGSTOP)
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._server.wait()
        guardian.wait_ended(processes)
        self._server = None

    def freeze(self) -> None:
        """Halt all processes of the server: its kernel answers, it does not."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGSTOP)  # before it starts another child
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let a frozen server run on."""
        for process in reversed(self._processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """End the server and remove all it had; may be called twice. Blocks.

        In a forked child it does nothing: the server is the parent's.
        """
        if self.directory is None or os.getpid() != self._owner:
            return
        self.stop("immediate", timeout=5.0)
        guardian.remove_shared_memory(self.directory / "data")
        if self._guardian is not None:
            self._guardian.kill()
            self._guardian.wait()
            self._guardian = None
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = None
        self._programs = None
        atexit.unregister(self.close)

    @property
    def is_running(self) -> bool:
        """Whether there is a server process, frozen or not."""
        return self._server is not None and self._server.poll() is None

    @property
    def pids(self) -> list[int]:
        """The processes of the server and its guardian; empty when there are none."""
        guard = [self._guardian.pid] if self._guardian is not None else []
        return [*(process.pid for process in self._processes()), *guard]

    @property
    def log(self) -> str:
        """What the server has written, since its first start."""
        if self.directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text(errors="replace")
        return ""

    @property
    def data(self) -> Path:
        """The data directory of a server that has been started before."""
        if self.directory is None:
            raise EmbeddedPostgresError("the server has never been started")
        return self.directory / "data"

    def run(self, name: str, *arguments: str) -> None:
        """Run a program of the server's version as its account. Blocks.

        Raises:
            EmbeddedPostgresError: It failed.
        """
        directory, programs = self._prepare()
        programs.run(name, *arguments, cwd=directory)

    def dsn(
        self, dbname: str = "postgres", user: str = "postgres", **more: object
    ) -> str:
        """Return a connection string; `more` are further parameters of libpq.

        `host=str(server.directory)` takes the unix socket.
        """
        parameters: dict[str, object] = {"host": HOST, "port": self.port}
        parameters.update(dbname=dbname, user=user)
        if self._password is not None and user == "postgres":
            parameters["password"] = self._password
        parameters.update(more)
        return make_dsn(None, **parameters)

    def __repr__(self) -> str:
        state = f"pid {self._server.pid}" if self._server else "stopped"
        return f"<EmbeddedPostgres {self.version} on {HOST}:{self.port}, {state}>"

    def _prepare(self) -> tuple[Path, Programs]:
        """Make the directory, the guardian and the data, unless they are there."""
        if self.directory is not None and self._programs is not None:
            return self.directory, self._programs
        atexit.register(self.close)
        account = unprivileged_account()
        self.directory = directory = _make_directory(is_shared=account is not None)
        if account is not None:
            os.chown(directory, account.user, account.group)
        self._guardian = _start_guardian(directory)
        programs = find_programs(self.version, account, directory / "programs")
        self._make_data(directory, programs)
        self._programs = programs
        return directory, programs

    def _make_data(self, directory: Path, programs: Programs) -> None:
        data = directory / "data"
        secret = directory / "password"
        arguments = [f"--pgdata={data}", "--username=postgres", "--encoding=UTF8"]
        arguments += ["--no-locale", "--no-sync", "--no-instructions"]
        if self._password is None:
            arguments += ["--auth=trust"]
        else:
            arguments += ["--auth=scram-sha-256", f"--pwfile={secret}"]
            secret.write_text(self._password)
            _give(secret, to=directory)
        programs.run("initdb", *arguments, cwd=directory)
        secret.unlink(missing_ok=True)
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(
                f"{name} = {quoted(setting)}\n"
                for name, setting in {
                    "listen_addresses": HOST,
                    **self._settings,
                }.items()
            )
        if self._hba is not None:
            (data / "pg_hba.conf").write_text("\n".join(self._hba) + "\n")

    def _launch(self, directory: Path, programs: Programs, timeout: float) -> bool:
        """Start the server process and wait until it serves, or return False."""
        log: BinaryIO
        # Not in a file what is this server's alone: files are copied to standbys.
        own = ["-D", str(self.data), "-p", str(self.port), "-k", str(directory)]
        with (directory / "log").open("ab") as log:
            self._server = server = programs.spawn(
                "postgres", *own, cwd=directory, log=log
            )
        deadline = time.monotonic() + timeout
        while server.poll() is None:
            if _is_serving(directory / "data", server.pid):
                return True
            if time.monotonic() > deadline:
                self.kill()
                return False
            time.sleep(_POLL)
        return False

    def _processes(self) -> list[psutil.Process]:
        """Return the postmaster and, after it, its children."""
        if self._server is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._server.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        return []


def _make_directory(*, is_shared: bool) -> Path:
    """Make a directory with a path short enough for a socket and open to nobody."""
    parent = Path(tempfile.gettempdir()).resolve()
    is_reachable = not is_shared or is_open_to_all(parent)
    if len(os.fsencode(parent)) > _PATH_LIMIT or not is_reachable:
        parent = Path("/tmp")  # noqa: S108 - made by mkdtemp, so safe in there
    return Path(tempfile.mkdtemp(prefix="pgdbpool-", dir=parent))


def _start_guardian(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", guardian.__name__, str(os.getpid()), str(directory)],
        # It must find what this process has found, however that was.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _give(path: Path, *, to: Path) -> None:
    """Close a file to all but the owner of the directory `to`, and make it theirs."""
    path.chmod(0o600)
    owner = to.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def quoted(setting: object) -> str:
    """Return a value as postgresql.conf has it."""
    return "'" + str(setting).replace("\\", "\\\\").replace("'", "''") + "'"


def _is_serving(data: Path, pid: int) -> bool:
    """Tell whether the server says so, the way `pg_ctl start --wait` asks it.

    The file may be a killed predecessor's, so the number must be right.
    """
    with contextlib.suppress(OSError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")
    return False

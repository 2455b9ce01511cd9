"""A real PgBouncer in transaction mode in front of a server, gone afterwards.

It is Debian's package `pgbouncer`; where the program is not on the PATH, nor where
Debian puts it, the tests that need it are skipped.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, free_port
from pgdbpool.demo.programs import unprivileged_account
from pgdbpool.demo.running import Running
from tests.waiting import until

PROGRAM = shutil.which(
    "pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
)
MISSING = "pgbouncer is missing: apt-get install pgbouncer"
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

# Of pgbouncer.ini; seconds. What is not here is PgBouncer's own default.
SETTINGS: dict[str, object] = {
    "pool_mode": "transaction",
    "auth_type": "any",
    "unix_socket_dir": "",
    "default_pool_size": 1,
    "server_login_retry": 0.1,
}


class PgBouncer(Running):
    """A PgBouncer of this process's own, to be used by one thread at a time.

    It keeps its port over a kill and a start. All its clients become one user.

    Args:
        server: where it leads.
        user: whom it logs in as.
        settings: lines of pgbouncer.ini, beside and before those of `SETTINGS`.
    """

    def __init__(
        self, server: EmbeddedPostgres, user: str = "postgres", **settings: object
    ) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="pgdbpool-bouncer-"))
        self._ini = self.directory / "pgbouncer.ini"
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        lines = {"listen_addr": HOST, "listen_port": self.port, **SETTINGS, **settings}
        self._ini.write_text(
            f"[databases]\n* = host={HOST} port={server.port} user={user}\n"
            "[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )

    def _begin(self) -> None:
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens. Blocks."""
        assert PROGRAM is not None, "pgbouncer is missing"
        account = unprivileged_account()  # it refuses to run as root
        rights = {}
        if account is not None:
            os.chown(self.directory, account.user, account.group)
            rights = {"user": account.user, "group": account.group, "extra_groups": []}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "--quiet", str(self._ini)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **rights,  # type: ignore[call-overload] # mypy does not see which
            )
        until(self._listens, message="PgBouncer listens")

    def kill(self) -> None:
        """Kill it, as an empty battery would. Blocks."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and remove its directory. Blocks."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PgBouncer has ended:\n{self.log}"
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((HOST, self.port)).close()
            return True
        return False

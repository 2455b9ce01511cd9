"""A cluster that a real Patroni runs on a real etcd, gone without a trace afterwards.

etcd is Debian's package `etcd-server`. Patroni is PyPI's `patroni[etcd3]`, which
needs a driver beside it, or Debian's package `patroni`. They are looked for beside
this Python, on the PATH, and where Debian puts them; where one is missing, the tests
that need them are skipped. The servers are those of `pgdbpool.demo`.
"""

import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgdbpool.demo import cluster, postgres
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, StopMode, free_port
from pgdbpool.demo.programs import (
    EmbeddedPostgresError,
    Programs,
    unprivileged_account,
)
from pgdbpool.demo.running import Running
from pgdbpool.demo.standby import ask
from tests import leftovers
from tests.endpoints import dsn_of
from tests.waiting import until

_PLACES = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/bin"]
_PROGRAMS = {
    name: shutil.which(name, path=os.pathsep.join(_PLACES))
    for name in ("etcd", "patroni")
}
_INSTALL = {
    "etcd": "apt-get install etcd-server",
    "patroni": "pip install 'patroni[etcd3]' psycopg2-binary, or "
    "apt-get install patroni",
}

# How long a leader that says nothing keeps its part, and how often Patroni looks;
# the shortest that it allows (Patroni manual, "Dynamic Configuration Settings").
TTL = 20
LOOP_WAIT = 1
RETRY_TIMEOUT = 3

_TIMEOUT = 60.0  # of what Patroni does, beyond the `TTL`
_POLL = 0.05

_WRITTEN = "SELECT pg_current_wal_lsn()"
_REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %s"
_STREAMS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"


def _lacks() -> Iterator[str]:
    """Yield what keeps the programs from being run, and the way out."""
    root = Path("/")
    for name, program in _PROGRAMS.items():
        if program is None:
            yield f"{name} is missing: {_INSTALL[name]}"
            continue
        try:
            Programs(root, unprivileged_account()).run(program, "--version", cwd=root)
        except EmbeddedPostgresError:
            # A virtual environment of root's may be below a private home.
            yield f"{program} cannot be run by the account `nobody`, as root does"


_missing = list(_lacks())
needs_patroni = pytest.mark.skipif(bool(_missing), reason="; ".join(_missing))


class Etcd:
    """An etcd of one member, to be used by one thread at a time."""

    def __init__(self) -> None:
        self.port = free_port()
        self._directory: Path | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves. Blocks."""
        account = unprivileged_account()
        shared = account is not None
        self._directory = directory = postgres._make_directory(is_shared=shared)
        if account is not None:
            os.chown(directory, account.user, account.group)
        self._guardian = postgres._start_guardian(directory)
        own, peer = f"http://{HOST}:{self.port}", f"http://{HOST}:{free_port()}"
        with (directory / "log").open("ab") as log:
            self._process = Programs(directory, account).spawn(
                str(_PROGRAMS["etcd"]),  # absolute, so it is found
                f"--data-dir={directory / 'data'}",
                f"--listen-client-urls={own}",
                f"--advertise-client-urls={own}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                cwd=directory,
                log=log,
            )
        until(self._serves, _TIMEOUT, "etcd serves")

    def freeze(self) -> None:
        """Halt it: its kernel answers, it does not."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on, if it was frozen."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its directory; may be called twice. Blocks."""
        for process in (self._process, self._guardian):
            if process is not None:
                process.kill()
                process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._process = self._guardian = self._directory = None

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._directory is not None
        if self._process.poll() is not None:
            log = (self._directory / "log").read_text(errors="replace")
            raise AssertionError(f"etcd has ended:\n{log}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return _call(self.port, "GET", "/health")[0] == http.HTTPStatus.OK
        return False


class Member(EmbeddedPostgres):
    """A Patroni and the server that it runs, to be used by one thread at a time.

    What is done to it is done to both: `start` and `stop` are Patroni's, `kill` and
    `freeze` leave nobody who could help.

    Args:
        etcd: where Patroni finds the others.
        dynamic: the dynamic configuration, if it is the first of them.
    """

    def __init__(self, etcd: Etcd, dynamic: Mapping[str, object]) -> None:
        super().__init__()
        self.api_port = free_port()
        self._etcd = etcd
        self._dynamic = dynamic

    @property
    def name(self) -> str:
        """What Patroni calls it."""
        return f"member{self.port}"

    def stop(self, mode: StopMode = "fast", timeout: float = _TIMEOUT) -> None:
        """End Patroni, which shuts its server down first. Blocks.

        `immediate` kills both, as does a Patroni that does not end within `timeout`
        seconds.
        """
        if self._server is not None and mode != "immediate":
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill Patroni, the server and all their processes. Blocks."""
        self.freeze()  # or the server would start a process while others are killed
        super().kill()

    def kill_patroni(self) -> None:
        """Kill Patroni alone: its server goes on, and nobody looks after it. Blocks."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def _make_data(self, directory: Path, programs: Programs) -> None:
        """Leave them to Patroni."""

    def _launch(self, directory: Path, programs: Programs, timeout: float) -> bool:
        """Start Patroni and wait until its server serves, or return False."""
        self.api_port = free_port()
        config = directory / "patroni.yml"
        config.write_text(json.dumps(self._config(directory, programs)))
        config.chmod(0o644)
        with (directory / "log").open("ab") as log:
            self._server = patroni = programs.spawn(
                str(_PROGRAMS["patroni"]),  # absolute, so it is found
                str(config),
                cwd=directory,
                log=log,
            )
        deadline = time.monotonic() + timeout
        while patroni.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if _call(self.api_port, "GET", "/health")[0] == http.HTTPStatus.OK:
                    return True
            time.sleep(_POLL)
        self.kill()
        return False

    def _config(self, directory: Path, programs: Programs) -> dict[str, object]:
        api = f"{HOST}:{self.api_port}"
        own = f"{HOST}:{self.port}"
        user = {"username": "postgres"}
        initdb = ["no-sync", {"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}]
        return {
            "scope": "test",
            "name": self.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": f"{HOST}:{self._etcd.port}"},
            "watchdog": {"mode": "off"},
            "bootstrap": {"dcs": self._dynamic, "initdb": initdb},
            "postgresql": {
                "listen": own,
                "connect_address": own,
                "data_dir": str(self.data),
                "bin_dir": str(programs.tree / "bin"),
                "pgpass": str(directory / "pgpass"),
                "authentication": dict.fromkeys(
                    ("superuser", "replication", "rewind"), user
                ),
                "parameters": {"unix_socket_directories": str(directory)},
                "pg_hba": [
                    f"host {whose} all {HOST}/32 trust"
                    for whose in ("all", "replication")
                ],
                "basebackup": ["no-sync", {"checkpoint": "fast"}],
            },
        }

    def _processes(self) -> list[psutil.Process]:
        """Return Patroni, the server, which is not its child, and their children."""
        found = super()._processes()
        with contextlib.suppress(OSError, IndexError, ValueError, psutil.Error):
            words = (self.data / "postmaster.pid").read_text().split()
            server = psutil.Process(int(words[0]))
            if str(self.data) in server.cmdline():  # else a dead one's number
                found += [server, *server.children(recursive=True)]
        return found


class PatroniCluster(Running):
    """A leader and its standbys; to be used by one thread at a time.

    Replication is synchronous, so Patroni promotes nobody who lacks an acknowledged
    commit. It is used as `pgdbpool.demo.cluster.Cluster` is.

    Args:
        members: how many.
    """

    def __init__(self, members: int = 3) -> None:
        settings = {**postgres.SETTINGS, **cluster.SETTINGS}
        dynamic = {
            "ttl": TTL,
            "loop_wait": LOOP_WAIT,
            "retry_timeout": RETRY_TIMEOUT,
            "synchronous_mode": True,
            "postgresql": {"use_pg_rewind": True, "parameters": settings},
        }
        self.etcd = Etcd()
        self.servers = [Member(self.etcd, dynamic) for _ in range(members)]

    def _begin(self) -> None:
        """Start all members and wait until they follow the leader. Blocks."""
        self.etcd.start()
        for server in self.servers:
            server.start(_TIMEOUT)
        self.wait_until_whole()

    def switch_over(self) -> None:
        """Let Patroni make a standby the primary, as planned. Blocks."""
        old = self.primary
        asked = {"leader": old.name}
        status, said = _call(old.api_port, "POST", "/switchover", asked)
        assert status == http.HTTPStatus.OK, said

    def wait_until_whole(self) -> None:
        """Block until all stream from the leader, one of them in step with it."""
        until(self._is_whole, TTL + _TIMEOUT, f"{self!r} is whole")

    def wait_until_replayed(self) -> None:
        """Block until all standbys show what the primary has written before."""
        written = ask(self.primary, _WRITTEN)
        for server in self.standbys:
            has_it = functools.partial(ask, server, _REPLAYED, written)
            until(has_it, _TIMEOUT, f"{server!r} has replayed {written}")

    def mend(self) -> None:
        """Undo what a test did: all run, and have what is written. Blocks."""
        self.etcd.thaw()
        for server in self.servers:
            server.thaw()
            if not server.is_running:
                server.start(_TIMEOUT)
            leftovers.permitted_pids.update(server.pids)
        self.wait_until_whole()
        self.wait_until_replayed()

    def close(self) -> None:
        """End all and remove their directories; may be called twice. Blocks."""
        for server in reversed(self.servers):
            server.close()
        self.etcd.close()

    @property
    def primary(self) -> Member:
        """Who is the leader, as Patroni has it: a dead one is, until its ttl ends."""
        (leader,) = self._members("leader")
        return leader

    @property
    def standbys(self) -> list[Member]:
        """All others, running or not."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def dsn(self, **more: object) -> str:
        """Return a connection string with the addresses of all servers."""
        return dsn_of(*self.servers, **more)

    def __repr__(self) -> str:
        return f"<PatroniCluster of {', '.join(map(repr, self.servers))}>"

    def _members(self, role: str) -> list[Member]:
        """Return who has a role, as whoever runs knows it."""
        running = next(server for server in self.servers if server.is_running)
        _, said = _call(running.api_port, "GET", "/cluster")
        found = json.loads(said)["members"]
        ports = {one.get("port") for one in found if one["role"] == role}
        return [server for server in self.servers if server.port in ports]

    def _is_whole(self) -> bool:
        # Who has no leader yet, or lost one a moment ago, says so in many ways.
        with contextlib.suppress(
            EmbeddedPostgresError, OSError, LookupError, ValueError
        ):
            if len(self._members("sync_standby")) == 1:
                streams: int = ask(self.primary, _STREAMS)
                return streams == len(self.servers) - 1
        return False


def _call(
    port: int, method: str, path: str, asked: Mapping[str, Any] | None = None
) -> tuple[int, str]:
    """Return the status and the body of an answer of Patroni or etcd. Blocks."""
    conn = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT)
    with contextlib.closing(conn):
        conn.request(method, path, None if asked is None else json.dumps(asked))
        answer = conn.getresponse()
        return answer.status, answer.read().decode()

"""How the arbiter and its workers reach the reaper, and start it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from pgdbpool.environment import find_outline
from pgdbpool.gunicorn import reaper
from pgdbpool.routing.servers import known_params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgdbpool.gunicorn.reaper import Target
    from pgdbpool.gunicorn.server import Config
    from pgdbpool.pool import ConnectionPool
    from pgdbpool.settings import Settings

# Any of these tells libpq where to connect.
PLACE_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT")
# What tells one server from another, for libpq and in its environment.
PLACE_PARAMETERS = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "service": "PGSERVICE",
}
# POSIX: writes up to this size are never torn apart or mixed with others.
LONGEST_LINE = select.PIPE_BUF


def targets_of(settings: Settings, environ: Mapping[str, str]) -> list[Target]:
    """Return where a pool is to connect to, each of its endpoints, with the secrets.

    What a provider of passwords would give is not there.
    """
    return _targets(known_params(settings), environ)


def logins_of(pool: ConnectionPool, environ: Mapping[str, str]) -> list[Target]:
    """Return where a pool connects to now, with what was fetched to log in."""
    return _targets(pool.login_params(), environ)


def _targets(each: list[dict[str, str]], environ: Mapping[str, str]) -> list[Target]:
    variables = _libpq_variables(environ)
    return [{"params": params, "environ": variables} for params in each]


def settings_of_environ(environ: Mapping[str, str]) -> Settings | None:
    """Return where the environment says the database is, and the sizes, if it does.

    Raises:
        SettingsError: it does, but in a way that cannot be understood.
    """
    found = find_outline(environ)
    is_said = "conninfo" in found.values or "endpoints" in found.values
    if not is_said and not any(environ.get(name) for name in PLACE_VARIABLES):
        return None
    return found.settings()


def place_of(target: Target) -> tuple[str | None, ...]:
    """Return what two targets on the same server have in common."""
    params, environ = target["params"], target["environ"]
    return tuple(
        params.get(name) or environ.get(variable)
        for name, variable in PLACE_PARAMETERS.items()
    )


def _libpq_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith("PG") and not name.startswith("PGDBPOOL_")
    }


class ReaperPipe:
    """The writing end of the pipe to the reaper, shared with all workers.

    Nothing here blocks but `ask`, for as long as it is told; nothing raises but
    `start`. A line is written whole or not at all, from any process or thread.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._answers = -1

    def start(self, cfg: Config) -> None:
        """Start the reaper, unless it is running already; for the arbiter.

        Raises:
            OSError: there is no process or descriptor to be had.
        """
        if self._fd >= 0:
            return
        source, self._fd = os.pipe()
        self._answers, answers = os.pipe()
        try:
            os.set_blocking(self._fd, False)
            _run(source, answers)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(source)
            os.close(answers)
        is_other = os.geteuid() == 0 and cfg.uid != 0
        self.tell(path=sys.path, user=[cfg.uid, cfg.gid] if is_other else None)

    def tell(self, **line: object) -> bool:
        """Write one line; return whether the reaper will get it."""
        if self._fd < 0:
            return False
        data = json.dumps(line).encode() + b"\n"
        if len(data) > LONGEST_LINE:
            return False
        try:
            os.write(self._fd, data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                # It was killed: the next start() starts another.
                self._close()
            return False
        return True

    def ask(
        self, target: Target, service: str, timeout: float
    ) -> dict[str, Any] | None:
        """Ask how many connections ``target`` has free; None if no answer came.

        Blocks up to ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        if not self.tell(ask=target, service=service):
            return None
        data = b""
        while not data.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._answers], [], [], left)[0]:
                return None
            more = os.read(self._answers, 65536)
            if not more:
                return None
            data += more
        answer: dict[str, Any] = json.loads(data.splitlines()[-1])
        return answer

    def _close(self) -> None:
        for fd in (self._fd, self._answers):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fd = self._answers = -1


def _run(source: int, answers: int) -> None:
    # A session of its own: what kills the whole group of gunicorn is exactly
    # what it has to survive. Closing all descriptors leaves the listeners alone.
    process = subprocess.Popen(
        [sys.executable, reaper.__file__],
        stdin=source,
        stdout=answers,
        close_fds=True,
        start_new_session=True,
    )
    # gunicorn reaps all children of the arbiter and ignores unknown ones. To
    # ask for this one later could take the status of a worker with its number.
    process.returncode = 0

"""The demo's side of the load: starts its process and listens to it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from pgdbpool.demo.errors import DemoError
from pgdbpool.demo.tally import Figures

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

RATE = 400
MOST_CLIENTS = 32


@dataclasses.dataclass(frozen=True)
class Seen:
    """All that the load has seen."""

    total: Figures
    acknowledged: list[str]
    unknown: list[str]
    reasons: list[str]


class Driver:
    """The process of the load; a thread takes in what it tells."""

    def __init__(self, log: Path) -> None:
        """Take the file for what goes wrong in it; nothing is started yet."""
        self.latest = Figures()
        self._log = log
        self._seen: Seen | None = None
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Return it; `start` starts."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process, if it still runs."""
        self.stop()

    def start(self, port: int, seconds: float, clients: int, run: str) -> None:
        """Start asking: 400 calls a second at most, whatever the clients."""
        arguments = {
            "--port": port,
            "--seconds": seconds,
            "--clients": min(clients, MOST_CLIENTS),
            "--rate": RATE,
            "--run": run,
        }
        command = [sys.executable, "-m", f"{__package__}.load"]
        for name, value in arguments.items():
            command += [name, str(value)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._listener = threading.Thread(
            target=self._listen, args=(self._process,), daemon=True
        )
        self._listener.start()

    @property
    def is_running(self) -> bool:
        """Whether there is more to come."""
        return self._listener is not None and self._listener.is_alive()

    def seen(self) -> Seen:
        """Return all that was seen, once it has ended.

        Raises:
            DemoError: It ended without telling.
        """
        if self._seen is None:
            text = self._log.read_text(errors="replace")
            raise DemoError(f"the load ended without a result:\n{text}")
        return self._seen

    def stop(self) -> None:
        """End the process; it owns nothing that would have to be saved."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._listener is not None:
            self._listener.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            message: dict[str, Any] = json.loads(line)
            if "total" in message:
                message["total"] = Figures(**message["total"])
                self._seen = Seen(**message)
            else:
                self.latest = Figures(**message)

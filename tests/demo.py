"""The demo as a process of its own, and what it leaves behind."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil

from pgdbpool.demo.client import Call, Client, Ending, perform
from tests import templates
from tests.waiting import until

ROOT = Path(__file__).parent.parent
# The demo leaves SIGHUP alone where it is ignored, as under nohup, where these tests
# may well run themselves.
MAIN = (
    "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from tests import templates; templates.install(); "
    "from pgdbpool.cli import main; main()"
)
SHOP_IS_OPEN = "The shop is open at "
COMMAND = (sys.executable, "-c", MAIN)
# For the environment of a demo that runs initdb, as everybody's does.
INITDB = {templates.VARIABLE: ""}


# Of the JSON object that it ends with.
KEYS = [
    "requests",
    "failed",
    "retried",
    "unknown",
    "p50_ms",
    "p99_ms",
    "restarts",
    "switch_overs",
    "longest_wait_ms",
    "acknowledged_writes",
    "lost_writes",
]


class DemoProcess:
    """`pgdbpool demo` with its temporary files in a directory of the test's own."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.home = home
        self.lines: list[str] = []
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [*COMMAND, "demo", "--port", "0", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(home), "FORCE_COLOR": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        """What it has written so far, as far as somebody has waited for it."""
        return "".join(self.lines)

    def wait_for(self, text: str, timeout: float = 30.0) -> str:
        """Return the next line with `text` in it."""
        while True:
            line = self._unread.get(timeout=timeout)
            assert line is not None, f"{text!r} was never written:\n{self.output}"
            self.lines.append(line)
            if text in line:
                return line

    def interrupt(self, signum: int = signal.SIGINT, *, group: bool = False) -> None:
        """Send a signal to the process, or as a terminal does to its group."""
        if group:
            os.killpg(self.process.pid, signum)
        else:
            self.process.send_signal(signum)

    def wait(self, timeout: float = 40.0) -> int:
        """Return the exit status, once it has ended and all it wrote is read."""
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        while (line := self._unread.get(timeout=timeout)) is not None:
            self.lines.append(line)
        return status

    def leftovers(self) -> list[str]:
        """Return the processes and files that are still there."""
        files = [str(path) for path in self.home.iterdir()]
        return files + [
            f"{process.pid}: {' '.join(process.info['cmdline'] or ())}"
            for process in psutil.process_iter(["cmdline"])
            if self._started(process)
        ]

    def close(self) -> None:
        """Kill what is left of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _started(self, process: psutil.Process) -> bool:
        """Whether a process has to do with our directory.

        PostgreSQL's processes overwrite their environment, but work in it.
        """
        home = str(self.home)
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            places = [process.cwd(), *process.cmdline()]
            environment = process.environ().get("TMPDIR")
            return environment == home or any(home in place for place in places)
        return False

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._unread.put(line)
        self._unread.put(None)


def address(demo: DemoProcess) -> str:
    """Return where the demo serves, once it does."""
    line = demo.wait_for(SHOP_IS_OPEN)
    return line.removeprefix(SHOP_IS_OPEN).split()[0]


def ask(url: str, **order: int) -> Any:  # noqa: ANN401 - whatever the shop says
    """Return the JSON of a GET, or of a POST when there is something to order.

    A 503 is repeated after its Retry-After, as good clients do.
    """
    where = urlsplit(url)
    path = f"{where.path}?{where.query}"
    call = Call("GET", path)
    if order:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        call = Call("POST", path, urlencode(order).encode(), headers)
    client = Client(where.hostname or "", where.port or 0)
    try:
        outcome = perform(call, client.send, time.sleep, lambda _: True)
    finally:
        client.close()
    assert outcome.ending is Ending.GOOD, outcome.reason
    assert outcome.answer is not None
    return json.loads(outcome.answer.body)


@contextmanager
def running_demo(*arguments: str, **environment: str) -> Iterator[DemoProcess]:
    """Run a demo; it has to have ended and to leave nothing behind."""
    # A short path that every account can reach, for the server's socket and user.
    home = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    home.chmod(0o755)
    demo = DemoProcess(home, *arguments, **environment)
    try:
        yield demo
        until(lambda: not demo.leftovers(), 5.0, "the demo leaves nothing behind")
    finally:
        demo.close()
        shutil.rmtree(home, ignore_errors=True)

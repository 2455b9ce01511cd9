"""Interpreters that gevent patches before all else, and a look at their sessions."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from psycopg2.extensions import connection

from tests import scripting
from tests.observer import observe

PATCH = "from gevent import monkey; monkey.patch_all()\n"
GREEN = "from psycogreen.gevent import patch_psycopg; patch_psycopg()\n"
RUN = "from tests.chaos import greenlets; greenlets.main()\n"

# Of the storm: the pool's size, where greenlets are struck and how often at least.
SIZE = 5
PLACES = ("line", "ping", "query", "commit", "release")
ENOUGH = 20

Findings = dict[Any, Any]


def findings(
    scenario: str, *arguments: object, source: str = PATCH + GREEN + RUN
) -> Findings:
    """Run a scenario of `tests.chaos.greenlets`, where all is patched."""
    done = scripting.run(
        source,
        scenario,
        *arguments,
        timeout=50.0,
        is_measured=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    found: Findings = json.loads(done.stdout.splitlines()[-1])
    return found


@contextlib.contextmanager
def script(
    *arguments: object, source: str = PATCH + GREEN + RUN
) -> Iterator["subprocess.Popen[str]"]:
    """Run a scenario beside the test; its output is read by the test."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            source,
            *map(str, arguments),
        ],
        env=scripting.environ(is_measured=False),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def read(process: "subprocess.Popen[str]") -> Findings:
    """Return what a script says next."""
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said, "the script has ended, see its errors"
    found: Findings = json.loads(said)
    return found


@contextlib.contextmanager
def counting(dsn: str, sessions: Callable[[connection], Sized]) -> Iterator[list[int]]:
    """Count what a function finds at the server, all the time; give the counts."""
    counts, over = [0], threading.Event()

    def count() -> None:
        with observe(dsn) as admin:
            while not over.wait(0.01):
                counts.append(len(sessions(admin)))

    with ThreadPoolExecutor(1) as executor:
        counted = executor.submit(count)
        try:
            yield counts
        finally:
            over.set()
        counted.result()

"""The example of FalconAS, in processes that behave as its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask
from tests.observer import backends, observe
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PROCESSES = 8
NAME = "falconas"


class Host:
    """A stand-in for FalconAS with eight processes.

    Args:
        server: the database.
    """

    def __init__(self, server: EmbeddedPostgres) -> None:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        environ["PGDBPOOL_CONNINFO"] = make_dsn(server.dsn(), application_name=NAME)
        folder = str(ROOT / "examples" / "falconas")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.falconas", folder, str(PROCESSES)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, process: int, payload: str) -> Any:  # noqa: ANN401 - what the app answers
        """Have a process serve a request; it must have one thread then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([process, payload]) + "\n")
        self._process.stdin.flush()
        _, answer, threads = json.loads(self._process.stdout.readline())
        assert threads == 1
        return json.loads(answer)

    def write(self, process: int) -> int:
        """Have a process write a note; return how many there are."""
        answer = self.ask(process, json.dumps({"payload": {"note": "written"}}))
        count: int = answer["count"]
        return count

    def close(self) -> None:
        """End it. Blocks."""
        self._process.communicate()


@pytest.fixture
def host(private_server: EmbeddedPostgres) -> Iterator[Host]:
    """Give a host with a table."""
    with observe(private_server.dsn()) as admin:
        ask(admin, "CREATE TABLE notes (note text)")
    host = Host(private_server)
    yield host
    host.close()


def sessions(server: EmbeddedPostgres) -> int:
    """Return how many sessions the processes have."""
    with observe(server.dsn()) as admin:
        return len(backends(admin, NAME))


def test_eight_processes_serve_through_restarts(
    host: Host, private_server: EmbeddedPostgres
) -> None:
    """Each with one thread and one session; no request hears of the restarts."""
    count = 0
    for is_restarted in (False, True, True):
        if is_restarted:
            private_server.restart()
        for _ in range(3):
            for process in range(PROCESSES):
                count += 1
                assert host.write(process) == count
        assert sessions(private_server) == PROCESSES


def test_nothing_is_left_when_they_are_gone(
    host: Host, private_server: EmbeddedPostgres
) -> None:
    """They leave without a word: no atexit, no finalizer."""
    for process in range(PROCESSES):
        host.write(process)
    host.close()
    until(lambda: sessions(private_server) == 0)


@pytest.mark.parametrize("payload", ["", "{}", "[]", "null", '{"payload": 5}'])
def test_whatever_is_sent_gets_an_answer(host: Host, payload: str) -> None:
    """A string, or the client would see an empty success."""
    assert "error" in host.ask(0, payload)


def test_an_outage_is_answered_and_over_when_it_is(
    host: Host, private_server: EmbeddedPostgres
) -> None:
    """By words, within the timeout; the next request after it is served."""
    host.write(0)
    private_server.stop("fast")
    answer = host.ask(0, json.dumps({"payload": {"note": "lost"}}))
    assert answer == {"error": "try again"}
    private_server.start()
    until(lambda: "count" in host.ask(0, json.dumps({"payload": {"note": "kept"}})))

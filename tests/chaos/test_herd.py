"""Row 27: a crowd of processes whose server comes back does not trample it."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint.health import LONGEST_PAUSE
from pgdbpool.planning import MOST_CONNECTING

PROCESSES = 16
SIZE = 10
ROOT = Path(__file__).parents[2]

# Who loses all connections tries a few at once. From then on one connect at a time,
# after pauses that grow from 0.1 s to 2 s, each shortened by half at most: that is
# seven in the first two seconds, then one a second.
MOST_TRIES = MOST_CONNECTING + 7
SLACK = 8.0  # seconds, on a busy machine

LINE = re.compile(r"\[(\d+)\] (?:LOG:  connection (received|authorized)|FATAL)")


@pytest.fixture
def crowded() -> Iterator[EmbeddedPostgres]:
    """Give a server that has room for all, and writes down who comes."""
    settings = {"max_connections": PROCESSES * SIZE + 20, "log_connections": "on"}
    with EmbeddedPostgres(settings=settings) as server:
        yield server


class Crowd:
    """Processes that each have a full pool.

    Args:
        dsn: of their server.
    """

    def __init__(self, dsn: str) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.crowd", dsn, str(SIZE)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROCESSES)
        ]

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        """End all of them. Blocks."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def hear(self) -> list[dict[str, Any]]:
        """Return what each says next. Blocks."""
        lines = []
        for process in self._processes:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
        return [json.loads(line) for line in lines]

    def go_on(self) -> None:
        """Tell each to go on."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()


def most_at_once(log: str) -> int:
    """Return how many logins were under way at most, by the server's own log."""
    most, under_way = 0, set()
    for backend, what in LINE.findall(log):
        if what == "received":
            under_way.add(backend)
        else:
            under_way.discard(backend)
        most = max(most, len(under_way))
    return most


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("down", [0.0, 4.0])
def test_a_crowd_does_not_trample_who_comes_back(
    crowded: EmbeddedPostgres, down: float
) -> None:
    """One prober for each process, then few connects at a time, until all are full."""
    with Crowd(crowded.dsn()) as crowd:
        assert [one["opened"] for one in crowd.hear()] == [SIZE] * PROCESSES
        heard = len(crowded.log)
        crowd.go_on()
        crowded.stop("fast")
        with contextlib.suppress(subprocess.TimeoutExpired):
            crowd._processes[0].wait(down)  # it goes on; so the server is away so long
        crowded.start()
        found = crowd.hear()
    assert 1 < most_at_once(crowded.log[heard:]) <= PROCESSES * MOST_CONNECTING
    for one in found:
        assert one["failed"] <= MOST_TRIES + one["seconds"]
        assert one["tried"] == SIZE + one["failed"]
        assert one["seconds"] < down + LONGEST_PAUSE + SLACK

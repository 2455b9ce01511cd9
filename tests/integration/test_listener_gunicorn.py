"""Probes on a port of their own, under gunicorn: answered when all threads are held."""

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from pgdbpool.demo.postgres import HOST, free_port
from tests.asking import ask
from tests.gunicorns import Gunicorn
from tests.observer import observe
from tests.waiting import until

pytestmark = [
    pytest.mark.direct("its pools are in other processes"),
    pytest.mark.timeout(90),
]

# How long a client waits for an answer, seconds.
PATIENCE = 4.0
WORKERS = 2
CLIENTS = 12  # of four threads, that wait in two queues of different length
SLEEPS = "/?seconds=60"
CANCEL = """
    SELECT nullif(count(pg_cancel_backend(pid)), 0) FROM pg_stat_activity
    WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()
"""


def get(port: int, path: str = "/") -> Any:  # noqa: ANN401 - what it says
    """Return what is answered, as JSON; None: nobody does."""
    client = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    with contextlib.closing(client), contextlib.suppress(OSError):
        client.request("GET", path)
        answer = client.getresponse()
        assert answer.status == HTTPStatus.OK
        return json.loads(answer.read())
    return None


@pytest.fixture(params=[(), ("--preload",)], ids=["each", "preload"])
def beside(
    tmp_path: Path, dsn: str, request: pytest.FixtureRequest
) -> Iterator[tuple[Gunicorn, int]]:
    """Give a gunicorn with two workers of two threads, and the port of its probes."""
    port = free_port()
    options = ("-k", "gthread", "-w", "2", "--threads", "2", *request.param)
    with Gunicorn(
        tmp_path,
        dsn,
        *options,
        app="tests.listening_app:make()",
        environ={"APP_LISTENER": str(port)},
    ) as gunicorn:
        gunicorn.wait()
        yield gunicorn, port


def running(gunicorn: Gunicorn) -> set[int]:
    """Return both workers; none while there are fewer or more."""
    pids = {process.pid for process in gunicorn.workers()}
    return pids if len(pids) == WORKERS else set()


def who(port: int, times: int = 100) -> set[int]:
    """Return which processes answer at a port."""
    return {get(port) for _ in range(times)} - {None}


def test_they_are_answered_while_all_threads_hold_a_connection(
    beside: tuple[Gunicorn, int], dsn: str
) -> None:
    """At the port of the application nobody is left to answer."""
    gunicorn, port = beside
    until(lambda: who(port) == running(gunicorn))  # not the arbiter, with --preload
    with ThreadPoolExecutor(CLIENTS) as clients, observe(dsn) as admin:
        asked = [clients.submit(gunicorn.status, SLEEPS) for _ in range(CLIENTS)]
        try:
            until(lambda: (get(port, "/health/readyz") or {}).get("saturated"))
            assert get(gunicorn.port, "/health/readyz") is None
            for _ in range(10):
                assert get(port, "/health/readyz")["ready"]
        finally:
            until(lambda: not ask(admin, CANCEL) and all(one.done() for one in asked))


def test_a_worker_that_is_killed_is_followed_by_one_that_answers(
    beside: tuple[Gunicorn, int],
) -> None:
    """And a reload by new ones; at the end the port is free."""
    gunicorn, port = beside
    old = until(lambda: running(gunicorn))
    os.kill(min(old), signal.SIGKILL)
    until(lambda: len(who(port) - {min(old)}) == WORKERS, 20.0)
    gunicorn.process.send_signal(signal.SIGHUP)
    until(lambda: len(who(port)) == WORKERS and not who(port) & old, 20.0)
    gunicorn.process.send_signal(signal.SIGTERM)
    gunicorn.process.wait(20.0)
    assert get(port) is None

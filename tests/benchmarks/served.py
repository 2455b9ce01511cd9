"""Requests per second under gunicorn: gthread, 1 worker, 8 threads, 16 clients.

One query a request, HTTP keep-alive, the clients in a process of their own. The same
application for every pool (``served_app``). A server of every variant runs, the
clients drive one after the other for a short while, round after round; an idle
server costs the others nothing. Then all are started afresh, because a server keeps
the luck of its sessions for life.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks import peers, served_app
from tests.benchmarks.measure import Report, interleave, joined, ratio_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.measure import Series
    from tests.benchmarks.server import Setup

NAME = "served"
CLIENTS = 16
SECONDS = 0.6
WARMUP = 0.2
START_WITHIN = 15.0
QUICK_VARIANTS = (
    served_app.FLOOR,
    peers.OURS,
    "psycopg2.pool",
    *served_app.PINGING,
)


def run(setup: Setup) -> Report:
    """Measure every variant under gunicorn. Blocks for a minute or two."""
    names = QUICK_VARIANTS if setup.quick else tuple(served_app.VARIANTS)
    rounds = setup.rounds(6, 5)
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    runs = []
    for _ in range(1 if setup.quick else 2):
        with contextlib.ExitStack() as stack:
            ports = {
                name: stack.enter_context(_serving(name, setup.dsn)) for name in names
            }
            batches = {name: _batch(ports[name], seen[name]) for name in names}
            runs.append(interleave(batches, rounds))
    series = joined(runs)
    return Report(
        NAME,
        f"gunicorn gthread, 1 worker, {served_app.THREADS} threads,"
        f" {CLIENTS} keep-alive clients, one query a request",
        "requests/s",
        series,
        reference=dict.fromkeys(names, served_app.FLOOR),
        checks=_checks(series),
        notes=[_told(name, found) for name, found in seen.items()],
    )


def _checks(series: Series) -> list[Any]:
    checks = [ratio_check(series, peers.OURS, served_app.FLOOR, 0.95, at_most=False)]
    return checks + [
        ratio_check(series, peers.OURS, name, 1.0, at_most=False)
        for name in served_app.PINGING
    ]


def _told(name: str, runs: list[dict[str, Any]]) -> str:
    slowest = max(run["longest_ms"] for run in runs)
    p99 = sorted(run["p99_ms"] for run in runs)[len(runs) // 2]
    errors = sum(run["errors"] for run in runs)
    return f"{name}: p99 {p99:.1f} ms, longest {slowest:.0f} ms, {errors} errors"


def _batch(port: int, seen: list[dict[str, Any]]) -> Callable[[], float]:
    def batch() -> float:
        found = _driven(port)
        seen.append(found)
        return float(found["per_second"])

    return batch


def _driven(port: int) -> dict[str, Any]:
    """Let the clients loose; return what they saw. Blocks."""
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    command += ["--port", str(port), "--clients", str(CLIENTS)]
    command += ["--seconds", str(SECONDS), "--warmup", str(WARMUP)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextlib.contextmanager
def _serving(name: str, dsn: str) -> Iterator[int]:
    """Run gunicorn with that variant for the length of the block."""
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread"]
    command += ["--workers", "1", "--threads", str(served_app.THREADS)]
    command += ["--bind", f"127.0.0.1:{port}", "--keep-alive", "60"]
    command += ["--log-level", "error", "--graceful-timeout", "2"]
    command += ["tests.benchmarks.served_app:application"]
    environ = os.environ | {
        "PGDBPOOL_BENCHMARK_POOL": name,
        "PGDBPOOL_BENCHMARK_DSN": dsn,
    }
    process = subprocess.Popen(command, env=environ)
    try:
        _answering(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answering(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server has answered a request. Blocks, at most for a while."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), START_WITHIN) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if sock.recv(64):
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"gunicorn did not answer within {START_WITHIN:g} s")

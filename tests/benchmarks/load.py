"""Keep-alive HTTP clients in one process: ``python -m tests.benchmarks.load``.

One thread, one selector, plain sockets: as little work as possible, because this
shares the machine with the server it drives. Each client sends its next request
when it has its answer. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GOOD = b"HTTP/1.1 200 "
END = b"\r\n\r\nok"
PATIENCE = 10.0


@dataclass
class Client:
    """One client: its connection, what came of its answer, since when it waits."""

    sock: socket.socket
    asked: float = 0.0
    answer: bytes = b""


@dataclass
class Count:
    """What all clients saw since the warm-up."""

    took: list[float] = field(default_factory=list)
    errors: int = 0


def main(arguments: list[str]) -> int:
    """Drive a server and print what came of it. Blocks for as long as asked."""
    parser = argparse.ArgumentParser(description="keep-alive clients for benchmarks")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args(arguments)
    with selectors.DefaultSelector() as selector:
        for _ in range(options.clients):
            _begin(selector, options.port)
        _drive(selector, options.port, Count(), options.warmup)
        count = Count()
        took = _drive(selector, options.port, count, options.seconds)
    sys.stdout.write(json.dumps(_summary(count, took)) + "\n")
    return 0


def _begin(selector: selectors.BaseSelector, port: int) -> None:
    """Open one more client and send its first request."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = Client(sock)
    selector.register(sock, selectors.EVENT_READ, client)
    _ask(client)


def _ask(client: Client) -> None:
    client.answer = b""
    client.asked = time.perf_counter()
    client.sock.sendall(REQUEST)


def _drive(
    selector: selectors.BaseSelector, port: int, count: Count, seconds: float
) -> float:
    """Answer every answer with the next request; return the seconds it took."""
    started = now = time.perf_counter()
    while now - started < seconds:
        ready = selector.select(PATIENCE)
        if not ready:
            raise TimeoutError(f"no answer within {PATIENCE:g} s")
        for key, _ in ready:
            if not _heard(key.data, count):
                selector.unregister(key.fileobj)
                key.data.sock.close()
                _begin(selector, port)
        now = time.perf_counter()
    return now - started


def _heard(client: Client, count: Count) -> bool:
    """Read what came; return whether the client is still good."""
    try:
        data = client.sock.recv(4096)
    except OSError:
        data = b""
    client.answer += data
    good = client.answer.startswith(GOOD[: len(client.answer)])
    if not data or not good:
        count.errors += 1
        return False
    if client.answer.endswith(END):
        count.took.append(time.perf_counter() - client.asked)
        _ask(client)
    return True


def _summary(count: Count, seconds: float) -> dict[str, float]:
    """Return the figures; the times are of a whole request."""
    took = sorted(count.took)
    last = len(took) - 1
    return {
        "requests": len(took),
        "errors": count.errors,
        "per_second": len(took) / seconds,
        "p50_ms": took[last // 2] * 1e3 if took else 0.0,
        "p99_ms": took[last * 99 // 100] * 1e3 if took else 0.0,
        "longest_ms": took[last] * 1e3 if took else 0.0,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

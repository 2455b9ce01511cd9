"""What `test_gevent` runs in interpreters of their own, which gevent has patched.

`main` runs the scenario that the first argument names, with the others, and writes
what it found as JSON.
"""

import contextlib
import json
import logging
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import gevent
import psutil
import psycopg2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from psycopg2.extensions import make_dsn, parse_dsn

from pgdbpool import ConnectionPool, PooledConnection
from pgdbpool.endpoint.gate import gate
from pgdbpool.metrics.opentelemetry import OpenTelemetryMetrics
from pgdbpool.metrics.prometheus import PrometheusMetrics
from tests.chaos.greenlet_storm import Storm
from tests.chaos.patched import SIZE, Findings
from tests.chaos.ticking import Ticker, sockets_to
from tests.soundness import assert_at_rest
from tests.waiting import until

PING = 0.4
USE_TIME = "db.client.connection.use_time"


def storm(dsn: str, table: str, seconds: str) -> Findings:
    """Have five hundred greenlets share five connections while they are killed."""
    made = Storm(dsn, table)
    ticker = Ticker()
    made.rage(float(seconds))
    ticked = ticker.end()
    pool, errors = made.pool, made.errors
    assert_at_rest(pool)
    held = [pool.getconn(2.0) for _ in range(SIZE)]
    backends = {conn.info.backend_pid for conn in held}
    for conn in held:
        pool.putconn(conn)
    assert_at_rest(pool)
    with pool.connection() as conn, conn.cursor() as cur:
        cur.execute(f"SELECT id FROM {table}")
        written = {number for (number,) in cur}
    say({"idle": pool.get_stats()["pool_available"]})
    sys.stdin.readline()
    pool.close()
    return {
        **ticked,
        "errors": errors[:5],
        "warnings": made.warnings.said[:5],
        "counts": made.counts,
        "lost": sorted(set(made.acknowledged) - written)[:5],
        "acknowledged": len(made.acknowledged),
        "sockets": made.most_sockets,
        "capacity": len(backends),
    }


def timed(call: Callable[[], object]) -> tuple[str, float]:
    """Return the name of what a call raises, empty if nothing, and its seconds."""
    began = time.monotonic()
    name = ""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is named
        name = type(error).__name__
    return name, time.monotonic() - began


def together(calls: int, call: Callable[[], object]) -> Findings:
    """Return what so many greenlets were answered, and the longest one's seconds."""
    greenlets = [gevent.spawn(timed, call) for _ in range(calls)]
    gevent.joinall(greenlets, timeout=20.0, raise_error=True)
    found = [one.value or ("hangs", 20.0) for one in greenlets]
    seconds = [spent for _, spent in found]
    names = sorted({name for name, _ in found})
    return {"raised": names, "first": min(seconds), "last": max(seconds)}


def ask(pool: ConnectionPool) -> int:
    """Make one transaction and return its backend."""
    with pool.connection() as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        pid: int = cur.fetchone()[0]
        return pid


def line(dsn: str) -> Findings:
    """Wait for what does not come back in time."""
    with ConnectionPool(dsn, max_size=1, timeout=0.4) as pool, pool.connection():
        ticker = Ticker()
        found = together(50, lambda: pool.getconn())  # noqa: PLW0108 - needs a caller
        nested, _ = timed(lambda: ask(pool))
        return {**found, **ticker.end(), "nested": nested}


@contextlib.contextmanager
def halted(*pids: int) -> Iterator[None]:
    """Stop processes for the time of a block: their kernel still acknowledges."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def ping(dsn: str) -> Findings:
    """Ping a backend that is halted; the next connection serves."""
    pool = ConnectionPool(dsn, min_size=2, max_size=2, timeout=5.0, ping_timeout=PING)
    with pool:
        pool.wait()
        with halted(ask(pool)):
            ticker = Ticker()
            found = together(1, lambda: ask(pool))
            found |= ticker.end()
        assert_at_rest(pool)
    return found


def frozen(dsn: str, postmaster: str) -> Findings:
    """Go on while the whole server is halted, and after it."""
    logging.disable(logging.WARNING)  # of the server that cannot be reached
    server = psutil.Process(int(postmaster))
    port = int(parse_dsn(dsn)["port"])
    pool = ConnectionPool(
        make_dsn(dsn, connect_timeout=2), min_size=SIZE, max_size=SIZE, timeout=1.5
    )
    with pool:
        pool.wait()
        family = [server, *server.children(recursive=True)]
        with halted(*(one.pid for one in family)):
            ticker = Ticker()
            found = together(50, lambda: ask(pool))
            most = 0
            for _ in range(60):  # longer than any connect may take
                gevent.sleep(0.1)
                most = max(most, sockets_to(port))
            found |= ticker.end()
        until(lambda: pool.get_stats()["pool_available"] == SIZE, 20.0)
        after = together(50, lambda: ask(pool))
        assert_at_rest(pool)
        return {**found, "sockets": most, "after": after, "left": gate._inside}


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Give a port whose queue of connects is full, so that more are not answered."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        yield port


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """Give a port where everybody is let in and nobody is answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def silence(dsn: str, kind: str) -> Findings:
    """Connect to where nobody answers, while another pool works."""
    logging.disable(logging.WARNING)
    place = {"black hole": black_hole, "mute": mute}[kind]
    with place() as port, ConnectionPool(dsn, max_size=2) as good:
        target = make_dsn(dsn, port=port, connect_timeout=2)
        ticker, served = Ticker(), Counter[str]()

        def work() -> None:
            while True:
                ask(good)
                served["holds"] += 1

        worker = gevent.spawn(work)
        with ConnectionPool(target, max_size=2, timeout=6.0, grace=6.0) as pool:
            found = together(20, lambda: ask(pool))
            told = pool.endpoints[0].last_error
        until(lambda: not gate._inside, 10.0, "every connect has ended")
        worker.kill()
        return {**found, **ticker.end(), "holds": served["holds"], "told": str(told)}


def second(dsn: str) -> Findings:
    """Connect by a list of which the first address is silent."""
    place = parse_dsn(dsn)
    with black_hole() as port:
        target = make_dsn(
            dsn,
            host=f"127.0.0.1,{place['host']}",
            port=f"{port},{place['port']}",
            connect_timeout=2,
        )
        began = time.monotonic()
        conn = gevent.spawn(connect_as_the_pool, target).get(timeout=20.0)
        conn.retire()
        return {"seconds": time.monotonic() - began}


def connect_as_the_pool(dsn: str) -> PooledConnection:
    """Open a connection of the pool's class, which libpq alone finds a server for."""
    conn: PooledConnection = psycopg2.connect(dsn, connection_factory=PooledConnection)
    return conn


def restart(dsn: str) -> Findings:
    """Work until the server was restarted and for some time after."""
    logging.disable(logging.WARNING)
    pool = ConnectionPool(dsn, min_size=SIZE, max_size=SIZE)
    failed, counts = Counter[str](), Counter[str]()
    with pool:
        pool.wait()

        def live() -> None:
            while counts["after"] < 500:
                was_lost = bool(pool.get_stats()["connections_lost"])
                try:
                    ask(pool)
                except Exception as error:  # noqa: BLE001 - counted
                    failed[type(error).__name__] += 1
                counts["after" if was_lost else "before"] += 1

        greenlets = [gevent.spawn(live) for _ in range(100)]
        say({"works": True})
        gevent.joinall(greenlets, timeout=30.0, raise_error=True)
        assert_at_rest(pool)
        return {"failed": failed, "after": counts["after"]}


def aside(dsn: str) -> Findings:
    """Use a pool first in gevent's threads, then in both; then halt a backend."""
    pool = ConnectionPool(dsn, max_size=2, timeout=8.0, ping_timeout=PING)
    threads = gevent.get_hub().threadpool
    with pool:
        first = threads.apply(ask, (pool,))

        def work() -> int:
            return len([ask(pool) for _ in range(50)])

        both = [gevent.spawn(work) for _ in range(5)]
        both += [threads.spawn(work) for _ in range(5)]
        done = [one.get(timeout=20.0) for one in both]
        with halted(ask(pool)):
            found = together(1, lambda: ask(pool))
        assert_at_rest(pool)
        return {**found, "first": first > 0, "done": sum(done)}


class Warnings(logging.Handler):
    """Keeps what is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())


def observed(dsn: str) -> Findings:
    """Have greenlets share a pool that tells all it can, while one keeps a connection.

    More of them hold and wait than are ever told of: what is counted is compared.
    """
    warnings, ticker = Warnings(), Ticker()
    logging.getLogger("pgdbpool").addHandler(warnings)
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    pool = ConnectionPool(dsn, name="green", max_size=2, leak_warn_after=0.1)
    PrometheusMetrics(pool, registry=registry)
    OpenTelemetryMetrics(pool, meter_provider=MeterProvider([reader]))
    with pool:
        kept = gevent.spawn(pool.getconn).get(timeout=10.0)
        found = together(100, lambda: ask(pool))
        until(lambda: warnings.said)
        pool.putconn(kept)
        until(lambda: len(warnings.said) == 2)
        assert_at_rest(pool)
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        (told,) = [m for m in scope.metrics if m.name == USE_TIME]
        counted = registry.get_sample_value(
            "pgdbpool_acquires_total", {"pool": "green"}
        )
    uses = sum(point.count for point in told.data.data_points)
    ticked = ticker.end()
    return {**found, **ticked, "said": warnings.said, "uses": uses, "asked": counted}


def spawned(dsn: str) -> Findings:
    """Have greenlets that are nothing but one method of a pool."""
    with ConnectionPool(dsn, max_size=2) as pool:
        gevent.spawn(pool.wait).get(timeout=10.0)
        pool.putconn(gevent.spawn(pool.getconn).get(timeout=10.0))
        read = gevent.spawn(pool.read, lambda conn: conn.info.backend_pid)
        return {"read": read.get(timeout=10.0) > 0}


def works(dsn: str) -> Findings:
    """Have more greenlets than connections."""
    with ConnectionPool(dsn, max_size=2) as pool:
        found = together(20, lambda: ask(pool))
        assert_at_rest(pool)
        return found


def request(port: int, number: int) -> int:
    """Ask for a number to be written; return the status, 0 if there came none.

    Some hang up, some wait for a short time only, and most for an answer.
    """
    hurry = random.choice((0.05, 0.3, 1.0))
    seconds = hurry if number % 3 == 0 else 30.0
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as sock:
        path = f"/write?id={number}&seconds={seconds}"
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        if number % 5 == 0:
            gevent.sleep(hurry)
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return 0
        with contextlib.suppress(ConnectionError):
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
            return int(answer.split()[1]) if answer else 0
    return 0


def clients(port: str, crowd: str) -> Findings:
    """Be a crowd of clients all at once; return their numbers by status."""
    found: dict[int, list[int]] = {}

    def ask_for(number: int) -> None:
        found.setdefault(request(int(port), number), []).append(number)

    asking = [gevent.spawn(ask_for, number) for number in range(1, int(crowd) + 1)]
    gevent.joinall(asking, timeout=40.0, raise_error=True)
    return found


def say(findings: Findings) -> None:
    """Write one line, at once."""
    sys.stdout.write(f"{json.dumps(findings)}\n")
    sys.stdout.flush()


SCENARIOS: dict[str, Callable[..., Findings]] = {
    "aside": aside,
    "clients": clients,
    "frozen": frozen,
    "line": line,
    "observed": observed,
    "ping": ping,
    "restart": restart,
    "second": second,
    "silence": silence,
    "storm": storm,
    "spawned": spawned,
    "works": works,
}


def main() -> None:
    """Run a scenario."""
    say(SCENARIOS[sys.argv[1]](*sys.argv[2:]))

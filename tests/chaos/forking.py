"""What `test_fork` does in a process of its own, which can be forked as it is.

`python -m tests.chaos.forking SCENARIO DSN` prints its findings as JSON.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2

from pgdbpool import ConnectionPool, PooledConnection

Findings = dict[str, Any]

CHILDREN = 4
QUERIES = 50
HANGS = 15  # seconds; whoever hangs is killed by SIGALRM


def fork(child: Callable[[], Findings]) -> Callable[[], Findings]:
    """Run a function in a forked child; return one that waits for its findings."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(HANGS)
        try:
            findings = child()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            findings = {"error": repr(error)}
        os.write(sink, json.dumps(findings).encode())
        os._exit(0)
    os.close(sink)

    def result() -> Findings:
        with os.fdopen(source) as file:
            text = file.read()
        status = os.waitpid(pid, 0)[1]
        findings: Findings = json.loads(text) if text else {"error": f"died {status}"}
        return findings

    return result


def backend(pool: ConnectionPool) -> int:
    """Make one transaction and return whose it was."""
    with pool.connection() as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        pid: int = cur.fetchone()[0]
        return pid


def raised(call: Callable[[], object]) -> str:
    """Return the name of the exception that a call raises, empty if none."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is named
        return type(error).__name__
    return ""


def sessions(dsn: str, pids: list[int]) -> list[list[str]]:
    """Return what the server has of sessions, and since when it is so."""
    conn = psycopg2.connect(dsn, application_name="forking-observer")
    try:
        with conn.cursor() as cur:
            cur.execute(
                "SELECT pid::text, state, state_change::text FROM pg_stat_activity "
                "WHERE pid = ANY(%s) ORDER BY pid",
                (pids,),
            )
            return [list(row) for row in cur.fetchall()]
    finally:
        conn.close()


class Family:
    """A parent with one connection in use and three idle ones."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.pool = ConnectionPool(dsn, min_size=4, max_size=6, timeout=8.0)
        self.pool.wait()
        conns = [self.pool.getconn() for _ in range(4)]
        self.sockets = [conn.fileno() for conn in conns]
        self.pids = [conn.info.backend_pid for conn in conns]
        self.held = conns[0]
        self.cursor = self.held.cursor()
        self.cursor.execute("CREATE TEMP TABLE inherited (id int)")
        for conn in conns[1:]:
            self.pool.putconn(conn)

    def child(self) -> Findings:
        """Look at what was inherited, then work."""
        return {
            "size at first": self.pool.get_stats()["pool_size"],
            "sockets": [
                str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in self.sockets
            ],
            "held": self.misuse(self.held),
            "pids": sorted({backend(self.pool) for _ in range(QUERIES)}),
        }

    def misuse(self, conn: PooledConnection) -> dict[str, str]:
        """Return what each use of the connection held across the fork raises."""
        return {
            "cursor": raised(conn.cursor),
            "execute": raised(lambda: self.cursor.execute("SELECT 1")),
            "commit": raised(conn.commit),
            "putconn": raised(lambda: self.pool.putconn(conn)),
        }

    def afterwards(self) -> Findings:
        """Return how the parent is."""
        self.cursor.execute("INSERT INTO inherited VALUES (1)")
        self.held.commit()
        self.pool.putconn(self.held)
        held = [self.pool.getconn() for _ in range(4)]
        pids = [conn.info.backend_pid for conn in held]
        errors = [raised(lambda c=c: c.cursor().execute("SELECT 1")) for c in held]
        for conn in held:
            self.pool.putconn(conn)
        return {"pids": sorted(pids), "errors": errors}


def children(dsn: str) -> Findings:
    """Fork children that query while the parent is idle, then let it work."""
    family = Family(dsn)
    before = sessions(dsn, family.pids)
    results = [fork(family.child) for _ in range(CHILDREN)]
    found = [result() for result in results]
    after = sessions(dsn, family.pids)
    return {
        "before": before,
        "after": after,
        "parent": sorted(family.pids),
        "children": found,
        "afterwards": family.afterwards(),
    }


def ending(dsn: str) -> Findings:
    """Fork children that end in each of the ways there are."""
    family = Family(dsn)
    statuses = {}
    for name in ("os._exit", "sys.exit", "block", "exception in a block"):
        pid = os.fork()
        if pid == 0:
            signal.alarm(HANGS)
            end(name, family)
        statuses[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {
        "statuses": statuses,
        "sessions": sessions(dsn, family.pids),
        "parent": sorted(family.pids),
        "afterwards": family.afterwards(),
    }


def end(name: str, family: Family) -> None:
    """End the process."""
    backend(family.pool)
    if name == "os._exit":
        os._exit(0)
    if name == "exception in a block":
        with family.pool.connection():
            sys.exit(1)
    sys.exit(0)


def in_a_block(dsn: str) -> Findings:
    """Fork inside a block, which the child leaves as well."""
    with ConnectionPool(dsn, max_size=2) as pool:
        pid = 0
        with pool.connection() as conn, conn.cursor() as cur:
            cur.execute("CREATE TEMP TABLE inherited AS SELECT 1 AS id")
            pid = os.fork()
            if pid:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                cur.execute("SELECT count(*) FROM inherited")
                return {"status": status, "rows": cur.fetchone()[0]}
        backend(pool)
    sys.exit(7)


def by_multiprocessing(dsn: str) -> Findings:
    """Use the pool in processes that multiprocessing forks."""
    family = Family(dsn)
    context = multiprocessing.get_context("fork")
    found = context.Queue()

    def work() -> None:
        signal.alarm(HANGS)
        found.put(sorted({backend(family.pool) for _ in range(QUERIES)}))

    processes = [context.Process(target=work) for _ in range(CHILDREN)]
    for process in processes:
        process.start()
    pids = [found.get(timeout=HANGS) for _ in processes]
    for process in processes:
        process.join()
    return {
        "exits": [process.exitcode for process in processes],
        "children": [{"pids": each} for each in pids],
        "parent": sorted(family.pids),
        "afterwards": family.afterwards(),
    }


def storm(dsn: str) -> Findings:
    """Fork while other threads acquire, release and connect, until it was enough."""
    pool = ConnectionPool(dsn, min_size=2, max_size=4, timeout=10.0)
    pool.wait()
    over = threading.Event()
    errors: list[str] = []
    counts = {"holds": 0, "drains": 0}

    def work() -> None:
        while not over.is_set() and not errors:
            if error := raised(lambda: backend(pool)):
                errors.append(error)
            counts["holds"] += 1

    def drain() -> None:
        while not over.wait(0.05):
            pool.drain()
            counts["drains"] += 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    threads.append(threading.Thread(target=drain))
    for thread in threads:
        thread.start()
    found = fork_until(
        lambda: min(counts.values()) >= 20, lambda: {"pid": backend(pool)}
    )
    over.set()
    for thread in threads:
        thread.join()
    return {"errors": errors, "children": found, **counts, **pool.get_stats()}


def fork_until(
    is_enough: Callable[[], bool], child: Callable[[], Findings]
) -> list[Findings]:
    """Run a function in pairs of children, 24 or more of them."""
    found: list[Findings] = []
    while len(found) < 24 or not is_enough():
        results = [fork(child), fork(child)]
        found += [result() for result in results]
    return found


SCENARIOS = {
    "children": children,
    "ending": ending,
    "in_a_block": in_a_block,
    "by_multiprocessing": by_multiprocessing,
    "storm": storm,
}

if __name__ == "__main__":
    signal.alarm(60)
    sys.stdout.write(json.dumps(SCENARIOS[sys.argv[1]](sys.argv[2])))

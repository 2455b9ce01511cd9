"""The process that ends, on the server, what a killed worker left running.

A worker killed in a query leaves its backend at work: the server notices only
when it has something to say. So gunicorn's arbiter starts this script once, and
tells it through a pipe who works where and who has gone; lines of JSON:

* ``{"path": [...], "user": [uid, gid]}``, first of all: where Python's modules
  are, and the user to become, for the arbiter may be root and its workers not
* ``{"hello": token, "target": {...}}``: a worker and a server of its pools, in the
  place of what was told before with another password
* ``{"left": token, "target": {...}}``: there it has nothing any more
* ``{"bye": token}``: it has closed all its connections itself
* ``{"gone": token}``: its process has ended
* ``{"ask": target, "service": id}``: how many connections has the server free?

A target is ``{"params": {...}, "environ": {...}}``: parameters of libpq, and
its ``PG*`` variables. They hold passwords, so nothing but the pipe has them.
A worker's end cannot be told by the end of the pipe: the arbiter forks the next
worker at once, which inherits it. The end of the pipe means that the arbiter
and all workers have ended; then this process ends too, and by nothing else.

It runs as a script of its own, without the rest of pgdbpool, to be small.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import connection, cursor

Target = dict[str, dict[str, str]]

NAME = "pgdbpool reaper"
CONNECT_SECONDS = 2
QUERY_SECONDS = 3.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0
# A frozen server that wakes up later than this finds the session still there.
GIVE_UP_SECONDS = 120.0
GIVE_UP_AT_END_SECONDS = 4.0
REMEMBERED_TARGETS = 8

# PostgreSQL 16 has reserved_connections. Of sessions of other users one sees
# the database, but neither name nor kind.
CAPACITY = """
    SELECT current_setting('max_connections')::int,
           current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
           (SELECT count(*)::int FROM pg_stat_activity
            WHERE datid IS NOT NULL AND usesysid IS NOT NULL
            AND coalesce(backend_type, 'client backend') = 'client backend'
            AND pid <> pg_backend_pid()
            AND coalesce(application_name, '') NOT LIKE '%%:' || %s || '.%%')
"""
TERMINATE = """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename = session_user AND pid <> pg_backend_pid()
    AND application_name LIKE ANY (%s)
"""


def read_capacity(cur: cursor, service: str) -> list[int]:
    """Return max_connections, those reserved, and those in use by others."""
    cur.execute(CAPACITY, (service,))
    row = cur.fetchone()
    return [] if row is None else list(row)


def terminate(target: Target, tokens: list[str]) -> int:
    """End the sessions of the workers with these tokens; return how many.

    Blocks for a few seconds at most.
    """
    with _session(target) as cur:
        cur.execute(TERMINATE, ([f"%:{token}" for token in tokens],))
        row = cur.fetchone()
        return 0 if row is None else int(row[0])


class Ledger:
    """Who works where, and whose sessions are to be ended.

    Attributes:
        pending: the tokens of workers that have gone, with their servers.
    """

    def __init__(self) -> None:
        self.pending: dict[str, list[Target]] = {}
        self._targets: dict[str, list[Target]] = {}
        self._seen: list[Target] = []

    def hello(self, token: str, target: Target) -> None:
        """Note where a worker works."""
        self._targets[token] = [*_others(self._targets.get(token, []), target), target]
        self.see(target)

    def left(self, token: str, target: Target) -> None:
        """Note where it works no more."""
        self._targets[token] = _others(self._targets.get(token, []), target)
        if not self._targets[token]:  # that is not to say that it has left nothing
            del self._targets[token]

    def see(self, target: Target) -> None:
        """Note a server for workers that go before they said hello."""
        self._seen = [*_others(self._seen, target), target][-REMEMBERED_TARGETS:]

    def bye(self, token: str) -> None:
        """Note that a worker left nothing."""
        self._targets[token] = []

    def gone(self, token: str) -> None:
        """Note that a worker has ended, well or not."""
        targets = self._targets.pop(token, self._seen)
        if targets:
            self.pending[token] = list(targets)

    def end(self) -> None:
        """Note that nobody is left."""
        for token in list(self._targets):
            self.gone(token)

    def by_target(self) -> Iterator[tuple[Target, list[str]]]:
        """Yield each server with the tokens whose sessions it may have."""
        targets = [t for targets in self.pending.values() for t in targets]
        for i, target in enumerate(targets):
            if target not in targets[:i]:
                yield target, [t for t, them in self.pending.items() if target in them]

    def settle(self, target: Target, tokens: list[str]) -> None:
        """Note that ``target`` has no sessions of these workers any more."""
        for token in tokens:
            left = [other for other in self.pending[token] if other != target]
            if left:
                self.pending[token] = left
            else:
                del self.pending[token]


def _others(targets: list[Target], target: Target) -> list[Target]:
    """Return those that lead elsewhere, or somebody else there."""
    return [one for one in targets if login_at(one) != login_at(target)]


def login_at(target: Target) -> frozenset[tuple[str, str]]:
    """Return who logs in where: all but the password."""
    return frozenset(
        (name, value)
        for given in (target["params"], target["environ"])
        for name, value in given.items()
        if name not in ("password", "PGPASSWORD")
    )


class Reaper:
    """Reads the pipe and does what it says, one thing at a time.

    Args:
        source: the descriptor of the pipe.
        answers: where the answer to an ``ask`` goes.
        terminate: ends sessions.
        clock: monotonic seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        source: int,
        answers: int,
        terminate: Callable[[Target, list[str]], int] = terminate,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._answers = answers
        self._terminate = terminate
        self._clock = clock
        self._sleep = sleep
        self._rest = b""
        self._ledger = Ledger()
        self._has_ended = False
        self._pause = FIRST_PAUSE
        self._give_up_at = 0.0

    def run(self) -> None:
        """Serve until the pipe has ended and nothing is left to do."""
        while not self._has_ended or self._ledger.pending:
            was_idle = not self._ledger.pending
            if self._has_ended:
                self._sleep(min(self._pause, 1.0))
            else:
                self._read(None if was_idle else self._pause)
            if was_idle:
                self._pause = FIRST_PAUSE
                self._give_up_at = self._clock() + GIVE_UP_SECONDS
            self._work()

    def _read(self, timeout: float | None) -> None:
        """Take in what the pipe has, for which it waits that long."""
        if not select.select([self._source], [], [], timeout)[0]:
            return
        data = os.read(self._source, 65536)
        if not data:
            self._has_ended = True
            self._ledger.end()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, line: dict[str, Any]) -> None:
        if "path" in line:
            _settle_in(line["path"], line["user"])
        elif "hello" in line:
            self._ledger.hello(line["hello"], line["target"])
        elif "left" in line:
            self._ledger.left(line["left"], line["target"])
        elif "bye" in line:
            self._ledger.bye(line["bye"])
        elif "gone" in line:
            self._ledger.gone(line["gone"])
        elif "ask" in line:
            self._ledger.see(line["ask"])
            self._answer(line["ask"], line["service"])

    def _answer(self, target: Target, service: str) -> None:
        answer: dict[str, Any]
        try:
            with _session(target) as cur:
                answer = {"capacity": read_capacity(cur, service)}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            answer = {"error": _in_words(error)}
        os.write(self._answers, json.dumps(answer).encode() + b"\n")

    def _work(self) -> None:
        """Try to end what is pending; what fails stays for the next time."""
        ledger = self._ledger
        if self._has_ended:
            end = self._clock() + GIVE_UP_AT_END_SECONDS
            self._give_up_at = min(self._give_up_at, end)
        for target, tokens in list(ledger.by_target()):
            try:
                count = self._terminate(target, tokens)
            except Exception as error:  # noqa: BLE001 - this process must live on
                self._postpone(error)
                continue
            ledger.settle(target, tokens)
            if count:
                _log(f"ended {count} database session(s) left by {_names(tokens)}")

    def _postpone(self, error: Exception) -> None:
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if self._clock() >= self._give_up_at:
            names = _names(list(self._ledger.pending))
            _log(f"gave up ending the sessions of {names}: {_in_words(error)}")
            self._ledger.pending.clear()


def _settle_in(path: list[str], user: list[int] | None) -> None:
    """Find the driver where the arbiter would, then become the workers' user."""
    sys.path[:] = path
    import psycopg2  # noqa: F401, PLC0415 - the user may not be allowed to read it

    if user is not None:
        uid, gid = user
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def _names(tokens: list[str]) -> str:
    return ", ".join(f"worker {token}" for token in tokens)


@contextlib.contextmanager
def _session(target: Target) -> Iterator[cursor]:
    """Give a cursor on ``target``; connect and queries are bounded."""
    import psycopg2  # noqa: PLC0415 - needs the path that the pipe tells
    from psycopg2 import extensions as driver  # noqa: PLC0415 - likewise

    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    os.environ.update(target["environ"])
    # libpq keeps to connect_timeout by itself, host by host, when it may block.
    driver.set_wait_callback(None)
    params: dict[str, Any] = dict(target["params"])
    params |= {"connect_timeout": CONNECT_SECONDS, "application_name": NAME}
    conn = psycopg2.connect(**params)
    try:
        deadline = time.monotonic() + QUERY_SECONDS
        driver.set_wait_callback(lambda conn: _wait(conn, deadline))
        conn.autocommit = True
        with conn.cursor() as cur:
            yield cur
    finally:
        conn.close()


def _wait(conn: connection, deadline: float) -> None:
    """Wait until psycopg2 can go on; a frozen server never lets it."""
    ready, reads, writes = 0, 1, 2  # psycopg2.extensions.POLL_OK, _READ, _WRITE
    while (state := conn.poll()) != ready:
        poll = select.poll()
        wanted = {reads: select.POLLIN, writes: select.POLLOUT}[state]
        poll.register(conn.fileno(), wanted)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("the server does not answer")


def _in_words(error: Exception) -> str:
    """Return an error in one line, without what may hold a secret."""
    name = type(error).__name__
    # libpq quotes parts of what it cannot parse.
    if name == "ProgrammingError":
        return "the connection parameters do not parse"
    return " ".join(str(error).split()) or name


def _log(text: str) -> None:
    """Write a line as gunicorn's log does, for the arbiter's log is not at hand."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S %z")
    # Standard error may have gone; the work goes on without it.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"[{moment}] [{os.getpid()}] [WARNING] pgdbpool: {text}\n")
        sys.stderr.flush()


def main() -> None:
    """Serve the pipe at standard input; ended by its end alone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Reaper(sys.stdin.fileno(), sys.stdout.fileno()).run()


if __name__ == "__main__":
    main()

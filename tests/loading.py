"""Clients that write through a server, and try again what 503 says was not written."""

import contextlib
import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from types import TracebackType

import psycopg2

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask
from tests.hosts import Host
from tests.observer import observe

_PAUSE = 0.02  # between two looks at the database
_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = %s
"""


class Load:
    """Threads that write one key after the other, until the block ends.

    Args:
        host: what they ask; it serves `tests.hosted_app`.
        clients: how many threads.

    Attributes:
        written: the keys of which a client knows that they were written.
        answers: how many there were of each status.
        wrong: what must not be: every answer but 200, 503 and "nobody knows".
        served: by which session of the database and which process, one after another.
        spans: when each write began and ended, as `time.monotonic` has it.
    """

    def __init__(self, host: Host, clients: int = 12) -> None:
        self.written: list[str] = []
        self.answers: Counter[int] = Counter()
        self.wrong: list[object] = []
        self.served: list[tuple[str, int]] = []
        self.spans: list[tuple[float, float]] = []
        self._host = host
        self._is_over = threading.Event()
        self._is_lost = False
        self._threads = [
            threading.Thread(target=self._run, args=(number,))
            for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Have each finish what it is writing, unless the test has failed. Blocks."""
        self._is_lost = error is not None
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def processes(self, after: int = 0) -> set[int]:
        """Return which processes served, but for the first so many writes."""
        return {process for _, process in self.served[after:]}

    def users(self) -> dict[str, set[int]]:
        """Return for each session of the database the processes that it served."""
        found: defaultdict[str, set[int]] = defaultdict(set)
        for session, process in self.served:
            found[session].add(process)
        return dict(found)

    def waited(self, moment: float) -> int:
        """Return how many writes began before a moment and ended after it."""
        return sum(1 for began, ended in self.spans[:] if began < moment < ended)

    def _run(self, client: int) -> None:
        for number in itertools.count():
            if self._is_over.is_set():
                return
            began = time.monotonic()
            try:
                self._write(f"{client}-{number}")
            except Exception as error:  # noqa: BLE001 - it belongs to the test
                self.wrong.append(error)
            self.spans.append((began, time.monotonic()))

    def _write(self, key: str) -> None:
        """Write a key for sure, or not at all."""
        while not self._is_lost:
            answer = self._host.ask("POST", "/", key.encode())
            self.answers[answer.status] += 1
            if answer.status == HTTPStatus.OK:
                told = answer.json
                self.served.append((told["session"], told["process"]))
                self.written.append(key)
                return
            if answer.body == b"unknown":
                if self._is_there(key):
                    self.written.append(key)
                    return
            elif answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                self.wrong.append(answer)
                return

    def _is_there(self, key: str) -> bool:
        while not self._is_lost:
            answer = self._host.ask("GET", f"/{key}")
            if answer.status == HTTPStatus.OK:
                return bool(answer.json["is_there"])
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise AssertionError(answer)
        return False


@contextlib.contextmanager
def counted_sessions(server: EmbeddedPostgres, name: str) -> Iterator[Counter[int]]:
    """Count the sessions of a name all the time; give how often there were how many."""
    seen: Counter[int] = Counter()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            with (
                contextlib.suppress(psycopg2.OperationalError),
                observe(server.dsn()) as admin,
            ):
                while not is_over.wait(_PAUSE):
                    seen[ask(admin, _SESSIONS, name)] += 1
            is_over.wait(_PAUSE)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()

"""Threads that write and read through a pool all the while, and note how they fare."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import psycopg2

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask
from tests.waiting import until

TABLE = "CREATE TABLE IF NOT EXISTS written (number int)"
_JOIN = 30.0


@dataclass(frozen=True)
class Request:
    """One request and how it fared.

    Attributes:
        asked, served, ended: monotonic seconds; served is None if it never was.
        port: who served it.
        number: what it wrote; None for a read.
        error: what it failed with.
    """

    thread: int
    asked: float
    ended: float
    served: float | None = None
    port: int | None = None
    number: int | None = None
    error: psycopg2.Error | None = None


class Traffic:
    """Writers and readers, each in a thread, for the time of a block.

    Args:
        pool: what they use.
        writers, readers: how many there are.
        query: what a reader asks.
        pause: seconds between two requests of a thread.

    Attributes:
        writes, reads: what was asked, in the order of the ends.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        writers: int = 0,
        readers: int = 0,
        query: str = "SELECT count(*) FROM written",
        pause: float = 0.002,
    ) -> None:
        self.writes: list[Request] = []
        self.reads: list[Request] = []
        self._pool = pool
        self._query = query
        self._pause = pause
        self._numbers = iter(range(1_000_000_000))
        self._lock = threading.Lock()  # guards the numbers
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(work, i))
            for i, work in enumerate([self._write] * writers + [self._read] * readers)
        ]

    def __enter__(self) -> "Traffic":
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End, and wait for what is in flight."""
        self._over.set()
        for thread in self._threads:
            thread.join(_JOIN)

    def _work(self, work: Callable[[int], None], thread: int) -> None:
        while not self._over.is_set():
            work(thread)
            self._over.wait(self._pause)

    def _write(self, thread: int) -> None:
        with self._lock:
            number = next(self._numbers)
        asked, served, port = time.monotonic(), None, None
        failed = None
        try:
            with self._pool.connection() as conn, conn.cursor() as cur:
                served, port = time.monotonic(), conn.info.port
                cur.execute("INSERT INTO written VALUES (%s)", (number,))
        except psycopg2.Error as error:
            failed = error
        ended = time.monotonic()
        self.writes.append(Request(thread, asked, ended, served, port, number, failed))

    def _read(self, thread: int) -> None:
        asked, served, port = time.monotonic(), None, None
        failed = None
        try:
            with self._pool.connection(read_only=True) as conn, conn.cursor() as cur:
                served, port = time.monotonic(), conn.info.port
                cur.execute(self._query)
        except psycopg2.Error as error:
            failed = error
        ended = time.monotonic()
        self.reads.append(Request(thread, asked, ended, served, port, None, failed))

    def go_on(self, writes: int = 0, reads: int = 0, timeout: float = 20.0) -> None:
        """Block until so many more have succeeded, of those asked from now on."""
        now = time.monotonic()
        # Who is there already was asked before; to look at all takes its time.
        written, read = len(self.writes), len(self.reads)

        def is_enough() -> bool:
            return (
                len(succeeded(self.writes[written:], after=now)) >= writes
                and len(succeeded(self.reads[read:], after=now)) >= reads
            )

        until(is_enough, timeout, f"{writes} more writes and {reads} more reads")

    def acknowledged(self) -> set[int]:
        """Return what was written for sure."""
        return {
            request.number
            for request in self.writes
            if request.error is None and request.number is not None
        }


def succeeded(requests: Sequence[Request], *, after: float = 0.0) -> list[Request]:
    """Return those without an error that were asked after a moment."""
    return [one for one in tuple(requests) if one.error is None and one.asked > after]


def failed(requests: Sequence[Request]) -> list[Request]:
    """Return those with an error."""
    return [one for one in tuple(requests) if one.error is not None]


def shares(requests: Sequence[Request]) -> dict[int, float]:
    """Return what part of those that succeeded each server had, by port."""
    counts = Counter(one.port for one in requests if one.error is None)
    total = sum(counts.values())
    return {port: count / total for port, count in counts.items() if port is not None}


def waits(requests: Sequence[Request]) -> list[float]:
    """Return how long each took in all, ascending."""
    return sorted(one.ended - one.asked for one in requests)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which so many percent of the sorted values are."""
    return values[min(int(len(values) * percent / 100), len(values) - 1)]


def longest_gap(requests: Sequence[Request]) -> float:
    """Return the longest time in which none succeeded, between the first and last."""
    ends = sorted(one.ended for one in requests if one.error is None)
    return max(b - a for a, b in itertools.pairwise(ends))


def numbers_of(server: EmbeddedPostgres) -> set[int]:
    """Return what a server has of what was written."""
    return set(ask(server, "SELECT array_agg(number) FROM written") or ())

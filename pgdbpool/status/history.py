"""What the pools did in each of the last seconds, kept while somebody looks."""

from __future__ import annotations

import _thread
import contextlib
import os
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from pgdbpool import greenlets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgdbpool.pool import ConnectionPool

# So many seconds are kept.
LENGTH: Final = 300
# Nothing more is sampled this long after the last look.
PATIENCE: Final = 600.0


class Row(NamedTuple):
    """One second of one pool, or of the pools of one name.

    Attributes:
        second: at whose end; since 1970.
        acquires: holds that were asked for.
        queued: those that had to stand in line.
        waited_ms: how long callers waited that were served or refused.
        held_ms: how long was held what was released.
        errors: acquires that were refused.
        lost: sessions that were lost.
        served: acquires that got a connection.
        released: holds that ended.
        in_use, waiting, size: at that moment.
    """

    second: int
    acquires: int
    queued: int
    waited_ms: int
    held_ms: int
    errors: int
    lost: int
    served: int
    released: int
    in_use: int
    waiting: int
    size: int


COUNTERS: Final = (
    "requests_num",
    "requests_queued",
    "requests_wait_ms",
    "usage_ms",
    "requests_errors",
    "connections_lost",
    "requests_served",
    "requests_released",
)


def row_of(
    second: int, before: dict[str, int], now: dict[str, int], in_use: int
) -> Row:
    """Return what happened between two looks at the counters of a pool."""
    # After pop_stats() they begin anew.
    counts = [max(0, now[name] - before.get(name, 0)) for name in COUNTERS]
    sizes = [in_use, now["requests_waiting"], now["pool_size"]]
    return Row._make([second, *counts, *sizes])


def merged(histories: Iterable[Iterable[Row]]) -> list[Row]:
    """Return the sums of the rows of the same second, the oldest first."""
    sums: dict[int, Row] = {}
    for row in (row for history in histories for row in history):
        other = sums.get(row.second)
        if other is not None:
            pairs = zip(row[1:], other[1:], strict=True)
            row = Row(row.second, *(one + another for one, another in pairs))  # noqa: PLW2901
        sums[row.second] = row
    return [sums[second] for second in sorted(sums)]


class History:
    """The last `LENGTH` seconds of some pools.

    A thread looks at their counters once a second. It is started by the first `rows`
    that finds a pool and ends when nobody has called that for a while, or when the
    history is no more.

    Args:
        pools: returns those that any thread may look at; called once a second.
        patience: how long to go on after the last look, seconds.
    """

    def __init__(
        self,
        pools: Callable[[], Iterable[ConnectionPool]],
        patience: float = PATIENCE,
    ) -> None:
        self.pools = pools
        self._patience = patience
        self._looked_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._running = _thread.allocate_lock()
        # Held as long as the thread may sleep on.
        self._sleep = _thread.allocate_lock()
        # Changed by the thread alone; reading them is one step of the interpreter.
        self._rows: dict[str, deque[Row]] = {}
        self._before: weakref.WeakKeyDictionary[ConnectionPool, dict[str, int]] = (
            weakref.WeakKeyDictionary()
        )

    def rows(self, since: int = 0) -> dict[str, list[Row]]:
        """Return the rows after a second, by the pool's name. Does not block.

        None come where the process can have no thread more.
        """
        if self._process != os.getpid():  # a fork left the thread behind
            self._begin()
        self._looked_at = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the next look tries again
            self._start()
        return {
            name: [row for row in list(rows) if row.second > since]
            for name, rows in list(self._rows.items())
        }

    def stop(self) -> None:
        """End the thread; the next look starts another."""
        self._looked_at = 0.0
        _wake(self._sleep)

    def _start(self) -> None:
        if not any(True for _ in self.pools()):
            return
        if not self._running.acquire(blocking=False):
            return
        try:
            self._sleep.acquire(blocking=False)
            self._before.clear()
            self.sample(int(time.time()))
            sleep = self._sleep
            reference = weakref.ref(self, lambda _: _wake(sleep))
            greenlets.start(_run, reference, self._running, sleep)
        except BaseException:
            self._running.release()
            raise

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has looked of late."""
        return time.monotonic() - self._looked_at < self._patience

    def sample(self, second: int) -> None:
        """Write down what has happened since the last time."""
        found: dict[str, list[Row]] = {}
        for pool in self.pools():
            counts = pool.get_stats()
            in_use = sum(endpoint.in_use for endpoint in pool.endpoints)
            before = self._before.get(pool)
            self._before[pool] = counts
            if before is not None:
                row = row_of(second, before, counts, in_use)
                found.setdefault(pool.name, []).append(row)
        for name, rows in found.items():
            kept = self._rows.setdefault(name, deque(maxlen=LENGTH))
            while kept and kept[-1].second >= second:  # the clock was set back
                kept.pop()
            kept.extend(merged([rows]))
        self._forget(second)

    def _forget(self, second: int) -> None:
        """Drop what is too old of pools that are gone."""
        for name, rows in list(self._rows.items()):
            if not (rows and 0 <= second - rows[-1].second < LENGTH):
                del self._rows[name]


def _wake(sleep: _thread.LockType) -> None:
    with contextlib.suppress(RuntimeError):  # nobody sleeps
        sleep.release()


def _run(
    reference: weakref.ref[History],
    running: _thread.LockType,
    sleep: _thread.LockType,
) -> None:
    """Sample at the end of each second, until nobody is interested."""
    try:
        while True:
            now = time.time()
            second = int(now) + 1
            sleep.acquire(timeout=second - now)
            history = reference()
            if history is None or not history.is_wanted:
                return
            history.sample(second)
            del history
    finally:
        running.release()

"""What the clients of the load have seen, added up."""

from __future__ import annotations

import array
import collections
import dataclasses
import math
import threading
from typing import TYPE_CHECKING

from pgdbpool.demo.client import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdbpool.demo.client import Outcome

RECENT = 1_000
MOST_REASONS = 5


@dataclasses.dataclass(frozen=True)
class Figures:
    """The sums, in the words of the final line."""

    requests: int = 0
    failed: int = 0
    retried: int = 0
    unknown: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    longest_wait_ms: float = 0.0


class Tally:
    """Adds outcomes up; any thread may add."""

    def __init__(self) -> None:
        """Start from nothing."""
        # Guards the fields below.
        self._lock = threading.Lock()
        self._durations = array.array("d")
        self._recent: collections.deque[float] = collections.deque(maxlen=RECENT)
        self._longest = 0.0
        self._endings: collections.Counter[Ending] = collections.Counter()
        self._retried = 0
        self._acknowledged: list[str] = []
        self._unknown: list[str] = []
        self._reasons: list[str] = []

    def add(self, outcome: Outcome, duration: float, key: str | None = None) -> None:
        """Add one call, its repeats included.

        Args:
            outcome: How it ended.
            duration: Seconds from its first byte to its end.
            key: The idempotency key, when it was a write.
        """
        with self._lock:
            self._durations.append(duration)
            self._recent.append(duration)
            self._longest = max(self._longest, duration)
            self._endings[outcome.ending] += 1
            self._retried += outcome.repeats > 0
            if key is not None and outcome.ending is Ending.GOOD:
                self._acknowledged.append(key)
            elif key is not None and outcome.ending is Ending.UNKNOWN:
                self._unknown.append(key)
            if outcome.reason and len(self._reasons) < MOST_REASONS:
                self._reasons.append(outcome.reason)

    def recent(self) -> Figures:
        """Return the sums so far; the percentiles are those of the last 1,000."""
        with self._lock:
            durations: Sequence[float] = list(self._recent)
        return self._figures(durations)

    def total(self) -> Figures:
        """Return the sums; the percentiles are those of all calls."""
        with self._lock:
            durations = self._durations[:]
        return self._figures(durations)

    def keys(self) -> tuple[list[str], list[str]]:
        """Return the keys of the acknowledged and of the unknown writes."""
        with self._lock:
            return list(self._acknowledged), list(self._unknown)

    def reasons(self) -> list[str]:
        """Return why the first few failed."""
        with self._lock:
            return list(self._reasons)

    def _figures(self, durations: Sequence[float]) -> Figures:
        ordered = sorted(durations)
        with self._lock:
            return Figures(
                requests=self._endings.total(),
                failed=self._endings[Ending.FAILED],
                retried=self._retried,
                unknown=self._endings[Ending.UNKNOWN],
                p50_ms=_in_ms(percentile(ordered, 50)),
                p99_ms=_in_ms(percentile(ordered, 99)),
                longest_wait_ms=_in_ms(self._longest),
            )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of all do not exceed.

    That is the nearest rank: always a value that occurred. Nothing gives 0.

    Args:
        ordered: The values, smallest first.
        percent: Above 0, 100 at most.
    """
    if not ordered:
        return 0.0
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _in_ms(seconds: float) -> float:
    return round(seconds * 1000, 2)

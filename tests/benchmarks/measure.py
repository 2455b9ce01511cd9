"""How everything here is measured: short batches in turn, medians of ratios.

A machine drifts by tens of percent within a minute (clock speed, neighbours). Two
variants measured one after the other would inherit that drift, so each round runs
a short batch of every variant, in an order that changes from round to round, and
what counts is the median over the rounds of the ratio *within* a round.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Batch = Callable[[], float]
    Series = dict[str, list[float]]


@dataclass(frozen=True)
class Check:
    """One promise with a number: what was measured and what it must keep."""

    what: str
    value: float
    limit: float
    at_most: bool = True
    unit: str = "x"

    @property
    def is_met(self) -> bool:
        """Say whether the measured value keeps the promise."""
        if self.at_most:
            return self.value <= self.limit
        return self.value >= self.limit


@dataclass(frozen=True)
class Report:
    """What one benchmark found.

    Attributes:
        name: The module's name, for ``--only`` and file names.
        title: What was measured, in a line.
        unit: The unit of every value in ``series``.
        series: One value a round for each variant; round i of all belong together.
        reference: For each variant the one its ratio is taken against.
        checks: The promises, with what was measured.
        notes: What else the reader should know, a line each.
    """

    name: str
    title: str
    unit: str
    series: Series
    reference: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()

    def ratio(self, variant: str) -> float | None:
        """Return the variant's median ratio to its reference, if it has one."""
        against = self.reference.get(variant)
        if against is None:
            return None
        return median_ratio(self.series, variant, against)


def median_ratio(series: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Return the median over the rounds of ``one`` divided by ``other``.

    Raises:
        ValueError: The two do not have the same number of rounds, or none.
    """
    pairs = zip(series[one], series[other], strict=True)
    ratios = [mine / its for mine, its in pairs]
    if not ratios:
        raise ValueError(f"no rounds of {one!r} and {other!r} to compare")
    return statistics.median(ratios)


def median_difference(
    series: Mapping[str, Sequence[float]], one: str, other: str
) -> float:
    """Return the median over the rounds of ``one`` minus ``other``."""
    pairs = zip(series[one], series[other], strict=True)
    return statistics.median(mine - its for mine, its in pairs)


def order(names: Sequence[str], turn: int) -> list[str]:
    """Return the names in the order of round ``turn``.

    Each round starts one place further on and every second one runs backwards, so
    that no variant always comes first and none always follows the same other one
    (which leaves it a warm or a cold cache).
    """
    if not names:
        return []
    start = (turn // 2) % len(names)
    turned = [*names[start:], *names[:start]]
    return turned[::-1] if turn % 2 else turned


def interleave(variants: Mapping[str, Batch], rounds: int) -> Series:
    """Run every variant once a round and return its values, round by round."""
    names = list(variants)
    series: Series = {name: [] for name in names}
    for turn in range(rounds):
        for name in order(names, turn):
            series[name].append(variants[name]())
    return series


def joined(several: Sequence[Series]) -> Series:
    """Return the rounds of several runs of the same variants as those of one."""
    whole: Series = {}
    for series in several:
        for name, values in series.items():
            whole.setdefault(name, []).extend(values)
    return whole


def ratio_check(
    series: Series, one: str, other: str, limit: float, *, at_most: bool = True
) -> Check:
    """Return the promise that ``one`` keeps ``limit`` times ``other``."""
    value = median_ratio(series, one, other)
    return Check(f"{one} / {other}", value, limit, at_most=at_most)


def microseconds(call: Callable[[], object], number: int) -> Batch:
    """Return a batch that takes the mean time of a call, in microseconds.

    The garbage collector stays on, as where the code is used: what a pool leaves
    behind is part of its price. A collection before the batch keeps it from paying
    for the batch before.
    """

    def batch() -> float:
        gc.collect()
        started = time.perf_counter()
        for _ in itertools.repeat(None, number):
            call()
        return (time.perf_counter() - started) / number * 1e6

    return batch


@contextlib.contextmanager
def one_core(*pids: int) -> Iterator[None]:
    """Keep this thread, what it starts and the given processes on one core.

    Where the system cannot do that, everything runs as it would without. Given the
    postmaster, the sessions opened inside the block are born on that core too: a
    round trip then never waits for another core to wake up.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    everywhere = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        for pid in (threading.get_native_id(), *pids):
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.sched_setaffinity(pid, {max(everywhere)})
                stack.callback(_free, pid, everywhere)
        yield


def _free(pid: int, cores: set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(pid, cores)

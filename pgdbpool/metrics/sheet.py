"""What stands in the files of this process, and how it gets there.

Counters only rise there. Prometheus sees the sum of all processes, and takes one that
falls for a restart of the whole service. So what begins anew (a pool of a name that
another had, what `pop_stats` has reset, a process with the id of one that has ended)
is added to what was there.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pgdbpool.histograms import BOUNDS
from pgdbpool.metrics.client import floatToGoString, make_value, provide_files
from pgdbpool.metrics.figures import Figure, Key, Metric, Value, by_series
from pgdbpool.metrics.names import Names
from pgdbpool.snapshot import Timings

# What stands in the place of a gauge that there is no more.
GONE: Final = {"livesum": 0.0, "livemax": -1.0}

SUFFIXES: Final = {"gauge": "", "counter": "_total", "histogram": "_sum"}

# The labels of which there can be any number.
BOUNDED: Final = ("endpoint", "route")


class Series:
    """A counter or a histogram, which never falls.

    Args:
        values: its numbers, as prometheus_client keeps them.
    """

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child, which has a file of its own."""
        self._bases: list[float] = []
        self._last: tuple[float, ...] = (0.0,) * len(self._values)

    def begin_anew(self) -> None:
        """Take note that what is written next has been counted from zero."""
        # Where nothing was written by this process, what another has left.
        before = self._bases or [value.get() for value in self._values]
        self._bases = [a + b for a, b in zip(before, self._last, strict=True)]
        self._last = (0.0,) * len(self._values)

    def write(self, numbers: tuple[float, ...]) -> None:
        """Write what has been counted."""
        falls = any(now < last for now, last in zip(numbers, self._last, strict=True))
        if falls or not self._bases:
            self.begin_anew()
        for value, base, number in zip(self._values, self._bases, numbers, strict=True):
            value.set(base + number)
        self._last = numbers


class Gauge:
    """A gauge, which is what was written last."""

    def __init__(self, values: list[Any]) -> None:
        (self._value,) = values

    def forget(self) -> None:
        """Begin anew in a forked child: there is nothing to do."""

    def begin_anew(self) -> None:
        """Take note that another pool has come: there is nothing to do."""

    def write(self, numbers: tuple[float, ...]) -> None:
        """Write how it is."""
        self._value.set(numbers[0])


class Sheet:
    """All series of this process. One writes at a time.

    Args:
        namespace: what the names of the metrics begin with.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._names = Names()
        self._series: dict[Key, Series | Gauge] = {}
        # What counts for a pool, by its name.
        self._sources: dict[str, object] = {}
        self._written: dict[Key, Value] = {}

    @property
    def has_begun(self) -> bool:
        """Whether anything was written in the name of this process."""
        return bool(self._written)

    @property
    def unshared(self) -> OSError | None:
        """Why names have no series of their own that should; None: they have."""
        return self._names.error

    def forget(self) -> None:
        """Begin anew, as a forked child must: nothing is written in its name yet."""
        self._names.forget()
        self._written = {}
        for series in self._series.values():
            series.forget()

    def write(self, figures: Iterable[Figure], sources: Mapping[str, object]) -> None:
        """Write what has changed; what is not among the figures is there no more.

        Args:
            figures: all of them.
            sources: for the name of each pool an object; another one: its counters
                have begun anew.

        Raises:
            OSError: the directory or the files of prometheus_client cannot be written.
        """
        if not self.has_begun:
            provide_files()
        self._note(sources)
        now = by_series(map(self._named, figures))
        for metric, labels in self._series.keys() - now.keys():
            if metric.kind == "gauge":
                now[metric, labels] = GONE[metric.across]
        for key, value in now.items():
            if self._written.get(key) != value:
                self._write(key, value)
        self._written = now

    def _note(self, sources: Mapping[str, object]) -> None:
        for pool, source in sources.items():
            if self._sources.setdefault(pool, source) is source:
                continue
            self._sources[pool] = source
            for key, series in self._series.items():
                if key[1][0] == pool:
                    series.begin_anew()
                    self._written.pop(key, None)

    def _named(self, figure: Figure) -> Figure:
        """Return a figure by the name of its series, of which a bounded number is."""
        metric, labels, value = figure
        kind = metric.labels[1] if len(labels) > 1 else ""
        if kind in BOUNDED:
            pool, name, *others = labels
            labels = pool, self._names.of(kind, pool, name), *others
        return metric, labels, value

    def _write(self, key: Key, value: Value) -> None:
        series = self._series.get(key)
        if series is None:
            kind = Gauge if key[0].kind == "gauge" else Series
            series = self._series[key] = kind(list(self._made(*key)))
        if isinstance(value, Timings):
            series.write((value.total, *value.counts))
        else:
            series.write((float(value),))

    def _made(self, metric: Metric, labels: tuple[str, ...]) -> Iterator[Any]:
        """Yield what prometheus_client keeps of a metric: no bucket holds another."""
        name, suffix = f"{self._namespace}_{metric.name}", SUFFIXES[metric.kind]
        mode = metric.across if metric.kind == "gauge" else ""
        make = functools.partial(make_value, metric.kind, name)
        names, text = metric.labels, metric.help
        yield make(name + suffix, names, labels, text, multiprocess_mode=mode)
        if metric.kind == "histogram":
            for bound in (*BOUNDS, math.inf):
                le = (*labels, floatToGoString(bound))
                yield make(f"{name}_bucket", (*names, "le"), le, text)

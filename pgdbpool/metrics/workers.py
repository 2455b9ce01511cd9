"""The figures of one process among several, for a scrape that any of them answers.

In the multiprocess mode of prometheus_client each process has files of its own, which
are mapped into its memory, and a scrape adds up the files of all. Writing them at each
acquire would cost more than the acquire. So each process compares its figures with what
it has written, `PERIOD` after `PERIOD`, and writes what is another.
"""

import atexit
import contextlib
import functools
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final

from pgdbpool import forks, greenlets
from pgdbpool.histograms import BOUNDS
from pgdbpool.metrics.client import floatToGoString, make_value, provide_files
from pgdbpool.metrics.figures import CONNECTIONS, Figure, Metric, Value
from pgdbpool.snapshot import Timings
from pgdbpool.watchdog import watchdog

logger = logging.getLogger(__name__)

# Seconds; how old the figures of another process can be.
PERIOD: Final = 0.5

# What stands in the place of a gauge that there is no more.
GONE: Final = {"livesum": 0.0, "livemax": -1.0}

SUFFIXES: Final = {"gauge": "", "counter": "_total", "histogram": "_sum"}

# A metric, and the values of its labels.
Key = tuple[Metric, tuple[str, ...]]


class Publisher:
    """Writes the figures of this process where the others find them.

    Args:
        namespace: what the names of the metrics begin with.
        read: returns the figures.
        needs: whether there is still anything to come, and whether threads may be
            started for it.

    Attributes:
        is_listening: whether it wants to be told of events.
    """

    def __init__(
        self,
        namespace: str,
        read: Callable[[], list[Figure]],
        needs: Callable[[], tuple[bool, bool]],
    ) -> None:
        self._namespace = namespace
        self._read = read
        self._needs = needs
        self._series: dict[Key, list[Any]] = {}
        self.forget()
        _publishers.add(self)

    def forget(self) -> None:
        """Begin anew, as a forked child must: nothing is written in its name yet."""
        # One writes at a time: what was read first must not be written last.
        self._turn = threading.Lock()
        self._written: dict[Key, Value] = {}
        self._is_busy = self._is_running = False
        # When an event is to be followed by a publication; False: never.
        self.is_listening = True
        self._due = -math.inf

    def stir(self, is_release: bool) -> None:  # noqa: FBT001 - on the path of every hold
        """Take note of an event. Does not block where there are threads."""
        if (is_release and self._is_busy) or monotonic() >= self._due:
            self.begin()

    def begin(self) -> None:
        """Publish time after time; only now, where threads are not allowed."""
        _, has_threads = self._needs()
        if has_threads:
            self.is_listening = False
            if not self._is_running:
                self._is_running = True
                self._tick()
        else:
            self._due = monotonic() + PERIOD
            with _logged(), self._turn:
                self._write(is_last=False)

    def rest(self) -> None:
        """Publish no more until the next event; what was is taken back."""
        watchdog.cancel(self)
        self._is_running = False
        self.is_listening = True
        if self._written:
            self.publish(is_last=True)

    def publish(self, *, is_last: bool = False) -> None:
        """Write what has changed. Blocks while another thread does.

        Args:
            is_last: this process ends: it has connections no more.
        """
        with self._turn:
            self._write(is_last=is_last)

    def _write(self, *, is_last: bool) -> None:
        if not self._written:
            provide_files()
        now: dict[Key, Value] = {
            (metric, labels): value for metric, labels, value in self._read()
        }
        for key in self._written if is_last else self._written.keys() - now.keys():
            if key[0].kind == "gauge":
                now[key] = GONE[key[0].across]
        with _gate:
            for key, value in now.items():
                if self._written.get(key) != value:
                    self._set(key, value)
        self._written = now
        self._is_busy = any(
            value and metric is CONNECTIONS and labels[-1] == "in_use"
            for (metric, labels), value in now.items()
        )

    def _set(self, key: Key, value: Value) -> None:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = list(self._made(*key))
        if isinstance(value, Timings):
            for one, number in zip(series, (value.total, *value.counts), strict=True):
                one.set(number)
        else:
            series[0].set(float(value))

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

    def _tick(self) -> None:
        """Publish in a thread of its own: the timer's must not wait for a disk."""
        try:
            greenlets.start(self._publish_on)
        except RuntimeError:  # the process can have no more threads
            self._again()

    def _publish_on(self) -> None:
        goes_on, _ = self._needs()
        with _logged(), self._turn:
            if self._is_running:
                self._write(is_last=False)
        if goes_on:
            self._again()
        else:
            self._is_running = False
            self.is_listening = True

    def _again(self) -> None:
        tick = functools.partial(_on_time, weakref.ref(self))
        if self._is_running:
            watchdog.at(watchdog.clock() + PERIOD, self, tick)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Keep what fails from whoever acquires and releases."""
    try:
        yield
    except Exception:
        logger.exception("metrics could not be published")


def _on_time(publisher: "weakref.ref[Publisher]") -> None:
    alive = publisher()
    if alive is not None:
        alive._tick()  # noqa: SLF001 - its own


# Keeps a fork out of the middle of writing: prometheus_client has a lock for all of its
# values, which nobody would release in the child.
_gate = threading.Lock()
os.register_at_fork(before=_gate.acquire, after_in_parent=_gate.release)


def _open_gate() -> None:
    if _gate.locked():  # not after a fork that Python has not heard of
        _gate.release()


forks.in_child(_open_gate)

_publishers: "weakref.WeakSet[Publisher]" = weakref.WeakSet()


def begin_all() -> None:
    """Publish the figures of this process from now on, also before its first event."""
    for publisher in list(_publishers):
        publisher.begin()


def rest_all() -> None:
    """Take back what this process has published as its own state."""
    for publisher in list(_publishers):
        publisher.rest()


def _forget_all() -> None:
    for publisher in list(_publishers):
        publisher.forget()


forks.in_child(_forget_all)
atexit.register(rest_all)

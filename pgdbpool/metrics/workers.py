"""When the figures of one process among several are written, for a scrape of any.

In the multiprocess mode of prometheus_client each process has files of its own, which
are mapped into its memory, and a scrape adds up the files of all. Writing them at each
acquire would cost more than the acquire. So each process compares its figures with what
it has written, `PERIOD` after `PERIOD`, and writes what is another.
"""

import atexit
import contextlib
import functools
import gc
import logging
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any, Final

from pgdbpool import forks, greenlets
from pgdbpool.histograms import OTHER
from pgdbpool.metrics.figures import CONNECTIONS, Figure
from pgdbpool.metrics.sheet import Sheet
from pgdbpool.watchdog import watchdog

logger = logging.getLogger(__name__)

# Seconds; how old the figures of another process can be.
PERIOD: Final = 0.5

# The figures, and what counts them, by the names of the pools.
Reading = tuple[list[Figure], Mapping[str, object]]


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
        read: Callable[[], Reading],
        needs: Callable[[], tuple[bool, bool]],
    ) -> None:
        self._read = read
        self._needs = needs
        self._sheet = Sheet(namespace)
        self.forget()
        _publishers.add(self)
        if _note_collection not in gc.callbacks:
            gc.callbacks.append(_note_collection)

    def forget(self) -> None:
        """Begin anew, as a forked child must: nothing is written in its name yet."""
        # One publishes at a time: what was read first must not be written last.
        self._turn = threading.Lock()
        self._sheet.forget()
        self._is_busy = self._is_running = self._has_failed = self._has_warned = False
        self._is_over = _is_resting
        # When an event is to be followed by a publication; False: never.
        self.is_listening = not _is_resting
        self._due = -math.inf

    def stir(self, is_release: bool) -> None:  # noqa: FBT001 - on the path of every hold
        """Take note of an event. Does not block where there are threads."""
        if (is_release and self._is_busy) or monotonic() >= self._due:
            self.begin()

    def begin(self) -> None:
        """Publish time after time; only now, where threads are not allowed."""
        if self._is_over:
            return
        _, has_threads = self._needs()
        if has_threads:
            self.is_listening = False
            if not self._is_running:
                self._is_running = True
                _rest_with_the_process()
                self._tick()
        elif not (_is_collecting or _gate.locked()) and self._turn.acquire(
            blocking=False
        ):
            # Else this is a finalizer, which came while this thread was writing.
            try:
                self._due = monotonic() + PERIOD
                with self._logged():
                    self._write()
            finally:
                self._turn.release()

    def publish(self) -> None:
        """Write what has changed. Blocks while another thread does."""
        with self._logged(), self._turn:
            self._write()

    def catch_up(self) -> None:
        """Write what a pool has counted whose place another takes. Blocks likewise."""
        if self._sheet.has_begun:
            self.publish()

    def rest(self) -> None:
        """Publish what was counted and no more; take back what is a state."""
        has_begun = self._is_running or self._sheet.has_begun
        self._is_over = True
        self.is_listening = False
        watchdog.cancel(self)
        if has_begun:
            self.publish()

    def _write(self) -> None:
        if not self._sheet.has_begun:
            _rest_with_the_process()
        figures, sources = self._read()
        if self._is_over:
            figures = [figure for figure in figures if figure[0].kind != "gauge"]
        with _gate:
            self._sheet.write(figures, sources)
        self._is_busy = any(
            value and metric is CONNECTIONS and labels[-1] == "in_use"
            for metric, labels, value in figures
        )

    def _tick(self) -> None:
        """Publish in a thread of its own: the timer's must not wait for a disk."""
        try:
            greenlets.start(self._publish_on)
        except RuntimeError:  # the process can have no more threads
            self._again()

    def _publish_on(self) -> None:
        goes_on, _ = self._needs()
        with self._logged(), self._turn:
            if not self._is_over:
                self._write()
        if goes_on:
            self._again()
        else:
            self._pause()

    def _again(self) -> None:
        if self._is_over:
            return
        tick = functools.partial(_on_time, weakref.ref(self))
        try:
            watchdog.at(watchdog.clock() + PERIOD, self, tick)
        except RuntimeError:  # not even one for the timer
            self._pause()

    def _pause(self) -> None:
        """Publish no more until the next event."""
        self._is_running = False
        self.is_listening = not self._is_over

    @contextlib.contextmanager
    def _logged(self) -> Iterator[None]:
        """Keep what fails from whoever acquires or scrapes; log it once."""
        try:
            yield
        except Exception:
            if not self._has_failed:
                logger.exception(
                    "the metrics of this process cannot be published; it tries on, and "
                    "logs no more until it succeeds"
                )
            self._has_failed = True
        else:
            if self._has_failed:
                logger.info("the metrics of this process are published again")
            self._has_failed = False
            if self._sheet.unshared is not None and not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "new routes and endpoints of this process are told together, as "
                    "'%s': their names cannot be shared with other processes: %s",
                    OTHER,
                    self._sheet.unshared,
                )


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

# Whether a finalizer may run in the middle of anything, also where prometheus_client
# has its lock because the application counts something.
_is_collecting = False


def _note_collection(phase: str, _info: object) -> None:
    global _is_collecting  # noqa: PLW0603 - there is one collector
    _is_collecting = phase == "start"


_publishers: "weakref.WeakSet[Publisher]" = weakref.WeakSet()

# Whether this process publishes nothing, also of what is made later.
_is_resting = False


def begin_all() -> None:
    """Publish the figures of this process from now on, also before its first event."""
    for publisher in list(_publishers):
        publisher.begin()


def rest_all() -> None:
    """Publish nothing more in this process, and take its own state back.

    Its forked children publish all the same.
    """
    global _is_resting  # noqa: PLW0603 - a state of the process
    _is_resting = True
    for publisher in list(_publishers):
        publisher.rest()


_finalizer: Any = None


def _rest_with_the_process() -> None:
    """Have it rest at the end of a child of multiprocessing.

    That ends by `os._exit`, after finalizers of its own, which are the child's alone.
    """
    global _finalizer  # noqa: PLW0603 - there is one in a process
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and _finalizer is None:
        _finalizer = util.Finalize(None, rest_all, exitpriority=-100)


def _forget_all() -> None:
    global _is_resting, _finalizer
    _is_resting, _finalizer = False, None
    for publisher in list(_publishers):
        publisher.forget()


forks.in_child(_forget_all)
atexit.register(rest_all)

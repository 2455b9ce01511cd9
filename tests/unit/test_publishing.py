"""How figures are written for other processes, without any and without a server."""

import errno
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdbpool.histograms import BOUNDS, OTHER
from pgdbpool.metrics import names as naming
from pgdbpool.metrics import sheet as sheets
from pgdbpool.metrics import workers
from pgdbpool.metrics.client import DIRECTORY
from pgdbpool.metrics.figures import (
    ACQUIRES,
    CONNECTIONS,
    HOLDS,
    LAG,
    MAX_CONNECTIONS,
    ROUND_TRIP,
    Figure,
)
from pgdbpool.metrics.sheet import Sheet
from pgdbpool.metrics.workers import Publisher
from pgdbpool.snapshot import Timings
from tests.waiting import until

POOL = ("shop",)
IN_USE = ("shop", "db:5432", "primary", "in_use")

# By the name of a sample and the values of its labels.
Kept = dict[tuple[str, ...], float]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kept:
    """Give what stands in the files of this process."""
    numbers: Kept = {}

    class Value:
        """One number, as prometheus_client keeps it."""

        def __init__(self, _kind: str, _name: str, *sample: Any, **_: object) -> None:  # noqa: ANN401 - of prometheus_client
            self._key = (sample[0], *sample[2])
            numbers.setdefault(self._key, 0.0)

        def get(self) -> float:
            """Return it."""
            return numbers[self._key]

        def set(self, number: float) -> None:
            """Write it."""
            numbers[self._key] = number

    monkeypatch.setattr(sheets, "make_value", Value)
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    return numbers


@pytest.fixture
def sheet(kept: Kept) -> Sheet:  # noqa: ARG001 - it makes its files
    """Give the sheet of this process."""
    return Sheet("p")


def timings(*counts: int) -> Timings:
    """Return the times of so many, in the first buckets."""
    filled = (*counts, *(0,) * (len(BOUNDS) + 1 - len(counts)))
    return Timings(BOUNDS, filled, float(sum(counts)))


# Counters only rise.


def test_a_counter_goes_on_where_its_pool_counts_from_zero(
    sheet: Sheet, kept: Kept
) -> None:
    """As `pop_stats` makes it."""
    source = object()
    for count in (5, 2, 3):
        sheet.write([(ACQUIRES, POOL, count)], {"shop": source})
    assert kept["p_acquires_total", "shop"] == 8


def test_a_counter_goes_on_where_another_pool_comes(sheet: Sheet, kept: Kept) -> None:
    """Also when that has counted as many already; those of other pools stay."""
    other: Figure = (ACQUIRES, ("news",), 7)
    sources = {"shop": object(), "news": object()}
    sheet.write([(ACQUIRES, POOL, 5), other], sources)
    sheet.write([(ACQUIRES, POOL, 5), other], {**sources, "shop": object()})
    assert kept["p_acquires_total", "shop"] == 10
    assert kept["p_acquires_total", "news"] == 7


def test_a_counter_goes_on_where_an_ended_process_had_the_id(
    sheet: Sheet, kept: Kept
) -> None:
    """Its file is there, and is ours now."""
    kept["p_acquires_total", "shop"] = 100.0
    for count in (1, 2):
        sheet.write([(ACQUIRES, POOL, count)], {"shop": POOL})
    assert kept["p_acquires_total", "shop"] == 102


def test_a_histogram_goes_on_as_a_whole(sheet: Sheet, kept: Kept) -> None:
    """One bucket that falls shows that all count from zero."""
    for value in (timings(4, 1), timings(1, 1)):
        sheet.write([(HOLDS, ("shop", "GET /"), value)], {"shop": POOL})
    assert kept["p_hold_seconds_bucket", "shop", "GET /", "0.001"] == 5
    assert kept["p_hold_seconds_bucket", "shop", "GET /", "0.005"] == 2
    assert kept["p_hold_seconds_sum", "shop", "GET /"] == 7


def test_a_forked_child_counts_from_what_its_own_file_has(
    sheet: Sheet, kept: Kept
) -> None:
    """Not from what its parent has counted."""
    sheet.write([(ACQUIRES, POOL, 5)], {"shop": POOL})
    sheet.forget()
    kept["p_acquires_total", "shop"] = 0.0
    sheet.write([(ACQUIRES, POOL, 1)], {"shop": POOL})
    assert kept["p_acquires_total", "shop"] == 1


# Gauges that are there no more.


def test_a_gauge_that_is_there_no_more_tells_so(sheet: Sheet, kept: Kept) -> None:
    """A sum is nothing; what is not known is below zero."""
    gauges: list[Figure] = [
        (CONNECTIONS, IN_USE, 3),
        (LAG, ("shop", "db:5432"), 0.7),
    ]
    sheet.write(gauges, {})
    assert kept[("p_connections", *IN_USE)] == 3
    assert kept["p_endpoint_lag_seconds", "shop", "db:5432"] == 0.7
    sheet.write([(MAX_CONNECTIONS, POOL, 4)], {})
    assert kept[("p_connections", *IN_USE)] == 0
    assert kept["p_endpoint_lag_seconds", "shop", "db:5432"] == -1
    sheet.write([], {})
    assert kept["p_max_connections", "shop"] == 0


def test_a_forked_child_has_none_of_its_parents_gauges(
    sheet: Sheet, kept: Kept
) -> None:
    """A file that prometheus_client makes begins with zero, which a lag is not."""
    sheet.write([(LAG, ("shop", "db:5432"), 0.7)], {})
    sheet.forget()
    kept["p_endpoint_lag_seconds", "shop", "db:5432"] = 0.0
    sheet.write([(MAX_CONNECTIONS, POOL, 4)], {})
    assert kept["p_endpoint_lag_seconds", "shop", "db:5432"] == -1


# Names without end.


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(naming, "MOST_NAMES", 3)
    monkeypatch.setenv(DIRECTORY, str(tmp_path))


@pytest.mark.usefixtures("_few")
def test_endpoints_without_end_share_their_gauges(sheet: Sheet, kept: Kept) -> None:
    """Sums of what is added up, the longest of what is not."""
    figures: list[Figure] = []
    for number in range(5):
        labels = ("shop", f"db:{number}")
        figures.append((CONNECTIONS, (*labels, "primary", "idle"), 2))
        figures.append((ROUND_TRIP, labels, number / 10))
        figures.append((HOLDS, ("shop", f"GET /{number}"), timings(number)))
    sheet.write(figures, {})
    assert kept["p_connections", "shop", "db:2", "primary", "idle"] == 2
    assert kept["p_connections", "shop", OTHER, "primary", "idle"] == 4
    assert kept["p_endpoint_round_trip_seconds", "shop", OTHER] == 0.4
    assert kept["p_hold_seconds_bucket", "shop", OTHER, "0.001"] == 3 + 4
    assert kept["p_hold_seconds_sum", "shop", OTHER] == 3 + 4
    assert len({labels[1] for name, *labels in kept if "connections" in name}) == 4


def test_what_cannot_be_named_for_all_is_told_all_the_same(
    sheet: Sheet, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the others, also later on: what was counted there is not counted twice."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    def write(count: int) -> None:
        holds: Figure = (HOLDS, ("shop", "GET /late"), timings(count))
        sheet.write([(MAX_CONNECTIONS, POOL, 4), holds], {"shop": POOL})

    sheet.write([(HOLDS, ("shop", "GET /"), timings(2))], {"shop": POOL})
    assert sheet.unshared is None
    with monkeypatch.context() as patch:
        patch.setattr(naming.os, "write", full)
        write(3)
    write(5)
    assert kept["p_max_connections", "shop"] == 4
    assert kept["p_hold_seconds_sum", "shop", OTHER] == 5
    assert ("p_hold_seconds_sum", "shop", "GET /late") not in kept
    assert sheet.unshared is not None
    sheet.forget()
    assert sheet.unshared is None


# When it is written.


class Scripted:
    """A publisher of one figure, in a process with threads or without."""

    def __init__(self, *, has_threads: bool) -> None:
        self.reads = 0
        self.fails = False
        self.goes_on = True
        self.publisher = Publisher("p", self._read, lambda: (self.goes_on, has_threads))

    def _read(self) -> tuple[list[Figure], dict[str, object]]:
        if self.fails:
            raise OSError("no space left on device")
        self.reads += 1
        return [(MAX_CONNECTIONS, POOL, self.reads)], {}


Make = Callable[..., Scripted]


@pytest.fixture
def make(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:  # noqa: ARG001 - it makes its files
    """Give what makes publishers, which rest after the test."""
    made: list[Scripted] = []

    def make(*, has_threads: bool) -> Scripted:
        made.append(Scripted(has_threads=has_threads))
        return made[-1]

    monkeypatch.setattr(workers, "_is_resting", False)
    yield make
    for scripted in made:
        scripted.publisher.rest()


def test_an_event_publishes_and_the_next_one_waits(make: Make) -> None:
    """Without threads it is the one who acquires that writes, and seldom."""
    scripted = make(has_threads=False)
    for _ in range(3):
        scripted.publisher.stir(False)
    assert scripted.reads == 1


def test_a_finalizer_that_releases_while_it_is_written_is_not_written(
    make: Make,
) -> None:
    """It may be the writing thread's own: it would wait for itself."""
    scripted, other = make(has_threads=False), make(has_threads=False)
    with scripted.publisher._turn:
        scripted.publisher.stir(True)
    with workers._gate:
        scripted.publisher.stir(True)
        other.publisher.stir(True)
    assert (scripted.reads, other.reads) == (0, 0)
    scripted.publisher.stir(True)
    assert scripted.reads == 1


def test_what_the_collector_finalizes_is_not_written(make: Make) -> None:
    """It comes in the middle of anything, such as prometheus_client's own lock."""
    scripted = make(has_threads=False)

    class Cycle:
        """What only the collector finds."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            scripted.publisher.stir(True)

    Cycle()
    gc.collect()
    assert scripted.reads == 0
    scripted.publisher.stir(True)
    assert scripted.reads == 1


def test_what_rests_writes_no_more(make: Make, kept: Kept) -> None:
    """Whatever happens yet: a connect may end late; a scrape may be under way."""
    for has_threads in (False, True):
        scripted = make(has_threads=has_threads)
        publisher = scripted.publisher
        publisher.publish()
        assert kept["p_max_connections", "shop"] > 0
        publisher.rest()
        assert kept["p_max_connections", "shop"] == 0
        assert not publisher.is_listening
        publisher.stir(True)
        publisher.begin()
        publisher.publish()
        for goes_on in (True, False):
            scripted.goes_on = goes_on
            publisher._publish_on()
        assert kept["p_max_connections", "shop"] == 0
        assert not publisher.is_listening


def test_a_tick_that_waited_while_it_came_to_rest_writes_nothing(make: Make) -> None:
    """Nobody would take it back."""
    scripted = make(has_threads=True)
    with scripted.publisher._turn:
        tick = threading.Thread(target=scripted.publisher._publish_on)
        tick.start()
        scripted.publisher.rest()
    tick.join()
    assert scripted.reads == 0


def test_a_process_that_rests_publishes_nothing_that_is_made_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not until it is another one, after a fork."""
    monkeypatch.setattr(workers, "_publishers", set())
    workers.rest_all()
    scripted = make(has_threads=False)
    assert not scripted.publisher.is_listening
    workers.begin_all()
    assert scripted.reads == 0
    workers._forget_all()
    assert scripted.publisher.is_listening
    workers.begin_all()
    assert scripted.reads == 1


def test_it_begins_again_when_there_was_no_thread_to_be_had(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next event."""
    scripted = make(has_threads=True)

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(workers.greenlets, "start", refused)
        patch.setattr(workers.watchdog, "at", refused)
        scripted.publisher.stir(False)
    assert scripted.publisher.is_listening
    scripted.publisher.stir(False)
    until(lambda: scripted.reads)


def test_what_fails_for_long_is_logged_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It reaches nobody who acquires; that it is over is told, too."""
    scripted = make(has_threads=False)
    scripted.fails = True
    with caplog.at_level(logging.INFO, "pgdbpool.metrics"):
        for _ in range(3):
            scripted.publisher.begin()
        scripted.publisher.publish()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        scripted.fails = False
        scripted.publisher.publish()
        scripted.publisher.publish()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_names_that_cannot_be_shared_are_warned_of_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """And all else is published."""
    scripted = make(has_threads=False)
    scripted.publisher._sheet._names.error = OSError("no space left on device")
    for _ in range(2):
        scripted.publisher.publish()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "'(other)'" in record.getMessage()
    assert "no space left on device" in record.getMessage()
    assert scripted.reads == 2

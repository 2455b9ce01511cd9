"""The last minutes: what a second was, whose, and for how long it is kept."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pgdbpool import greenlets
from pgdbpool.status.history import LENGTH, History, Row, merged, row_of
from tests.waiting import until

NOTHING = {
    "requests_num": 0,
    "requests_queued": 0,
    "requests_wait_ms": 0,
    "usage_ms": 0,
    "requests_errors": 0,
    "connections_lost": 0,
    "requests_served": 0,
    "requests_released": 0,
    "requests_waiting": 0,
    "pool_size": 0,
}


class Endpoint:
    """What the history looks at."""

    in_use = 2


class Pool:
    """A pool whose counters a test sets."""

    def __init__(self, name: str = "shop") -> None:
        self.name = name
        self.counts = dict(NOTHING)
        self.endpoints = [Endpoint(), Endpoint()]

    def get_stats(self) -> dict[str, int]:
        """Return the counters."""
        return dict(self.counts)


@pytest.fixture
def pool() -> Pool:
    """Give a pool."""
    return Pool()


@pytest.fixture
def history(pool: Pool) -> Iterator[History]:
    """Give the history of that pool alone."""
    pools: Any = [pool]
    history = History(lambda: pools)
    yield history
    history.stop()


def test_a_row_is_what_happened_between_two_looks(history: History, pool: Pool) -> None:
    """Differences of what counts up, and what is so at that moment."""
    history.sample(100)
    pool.counts.update(requests_num=7, requests_errors=2, usage_ms=30, pool_size=4)
    pool.counts.update(requests_queued=3, requests_wait_ms=5, requests_waiting=1)
    pool.counts.update(requests_served=4, requests_released=6)
    history.sample(101)
    history.sample(102)
    assert list(history._rows["shop"]) == [
        Row(101, 7, 3, 5, 30, 2, 0, 4, 6, in_use=4, waiting=1, size=4),
        Row(102, 0, 0, 0, 0, 0, 0, 0, 0, in_use=4, waiting=1, size=4),
    ]


def test_counters_that_begin_anew_count_nothing() -> None:
    """`pop_stats` sets them to zero."""
    before = {**NOTHING, "requests_num": 50}
    assert row_of(9, before, NOTHING, 0).acquires == 0


def test_rows_of_one_second_are_added_up() -> None:
    """Of several workers, in the order of time; who lacks a second has no part."""
    one = [Row(1, *[1] * 11), Row(2, *[2] * 11)]
    other = [Row(2, *[3] * 11), Row(3, *[4] * 11)]
    assert merged([other, one]) == [
        Row(1, *[1] * 11),
        Row(2, *[5] * 11),
        Row(3, *[4] * 11),
    ]


def test_pools_of_one_name_are_one(pool: Pool) -> None:
    """As those of two workers are."""
    twin = Pool()
    pools: Any = [pool, twin]
    history = History(lambda: pools)
    history.sample(1)
    pool.counts["requests_num"] = twin.counts["requests_num"] = 4
    history.sample(2)
    assert [row.acquires for row in history._rows["shop"]] == [8]


def test_no_more_than_its_length_is_kept(history: History) -> None:
    """However long somebody looks."""
    for second in range(LENGTH + 50):
        history.sample(second)
    seconds = [row.second for row in history._rows["shop"]]
    assert seconds == list(range(50, LENGTH + 50))


def test_a_clock_that_is_set_back_doubles_nothing(history: History) -> None:
    """What comes then takes the place of what was."""
    for second in (100, 101, 102, 101, 102, 103):
        history.sample(second)
    rows = list(history._rows["shop"])
    assert [row.second for row in rows] == [101, 102, 103]
    assert {row.size for row in rows} == {0}


def test_what_a_pool_did_that_is_gone_is_forgotten() -> None:
    """After as long as anybody could see it; those that are new come and go."""
    pools: Any = [Pool("old")]
    history = History(lambda: pools)
    history.sample(0)
    history.sample(1)
    for second in range(2, 2 * LENGTH):
        pools[:] = [Pool(f"tenant-{second // 2}")] if second % 2 == 0 else pools
        history.sample(second)
        assert ("old" in history._rows) == (second < 1 + LENGTH)
    assert len(history._rows) <= LENGTH // 2 + 1


def test_without_a_pool_there_is_no_thread() -> None:
    """Nor where only the thread of a request may look at them."""
    history = History(list)
    assert history.rows() == {}
    assert not history._running.locked()


def test_at_the_limit_of_threads_there_is_no_history(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And later there is."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(greenlets, "start", fail)
        assert history.rows() == {}
    history.rows()
    assert history._running.locked()


def test_the_first_look_begins_and_the_seconds_come_by_themselves(
    history: History, pool: Pool
) -> None:
    """What was before is not counted as one second's."""
    pool.counts["requests_num"] = 1000
    assert history.rows() == {}
    pool.counts["requests_num"] = 1003
    rows = until(history.rows, 5.0)["shop"]
    assert sum(row.acquires for row in rows) == 3
    assert abs(rows[0].second - time.time()) < 5
    assert history.rows(rows[-1].second + 60)["shop"] == []


def test_it_ends_when_nobody_looks_and_begins_again(pool: Pool) -> None:
    """The thread is gone, and what comes then is no second's sum."""
    pools: Any = [pool]
    history = History(lambda: pools, patience=0.0)
    history.rows()
    until(lambda: not history._running.locked(), 5.0, "its thread has ended")
    pool.counts["requests_num"] = 500
    history.rows()
    until(lambda: not history._running.locked(), 5.0, "its thread has ended again")
    assert all(row.acquires == 0 for rows in history.rows().values() for row in rows)
    until(lambda: not history._running.locked(), 5.0, "and for good")


def test_a_history_that_is_gone_ends_its_thread(pool: Pool) -> None:
    """Nobody has to close a page."""
    pools: Any = [pool]
    history = History(lambda: pools)
    history.rows()
    running = history._running
    del history
    until(lambda: not running.locked(), 5.0, "its thread has ended")

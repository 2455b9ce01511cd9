"""Shares, sizes and what is said about them: arithmetic without a server."""

from types import SimpleNamespace

import pytest

from pgdbpool.errors import SettingsError
from pgdbpool.gunicorn.budget import (
    TOTAL_VARIABLE,
    Capacity,
    Demand,
    Wish,
    concurrency,
    max_sizes,
    read_total,
    verdict,
)
from pgdbpool.gunicorn.service import Limits


class Config:
    """The settings of gunicorn that matter here."""

    workers = 2
    threads = 4
    worker_connections = 1000
    timeout = 30
    uid = 0
    gid = 0


class SyncWorker:
    """Named as gunicorn's."""


class ThreadWorker:
    """Named as gunicorn's."""


class AsyncWorker:
    """Named as gunicorn's."""


class GeventWorker(AsyncWorker):
    """Named as gunicorn's."""


class ForeignWorker:
    """Nobody's."""


@pytest.mark.parametrize(
    ("worker_class", "total", "expected"),
    [
        (SyncWorker, None, 1),
        (ThreadWorker, None, 4),
        (GeventWorker, None, None),
        (GeventWorker, 40, 1000),
        (ForeignWorker, 40, None),
    ],
)
def test_a_worker_serves_as_many_requests_as_its_class_says(
    worker_class: type, total: int | None, expected: int | None
) -> None:
    """Threads for gthread, one for sync, unknown for greenlets without a budget."""
    assert concurrency(worker_class, Config(), total) == expected


@pytest.mark.parametrize(
    ("worker_class", "threads"), [(ThreadWorker, 4), (GeventWorker, None)]
)
def test_only_threads_are_said_to_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, worker_class: type, threads: int | None
) -> None:
    """A thousand greenlets on a share of twenty connections are as it should be."""
    monkeypatch.setenv(TOTAL_VARIABLE, "4")
    server = SimpleNamespace(num_workers=2, worker_class=worker_class, cfg=Config())
    limits = Limits.of(server)  # type: ignore[arg-type]
    (size,) = limits.max_sizes([Wish(20)])
    assert size == 2
    assert limits.demand(size).threads == threads
    is_fine, words = verdict(limits.demand(size), None)
    assert is_fine is (threads is None), words


def test_a_pool_has_a_connection_for_each_thread() -> None:
    """Without a budget the thread count alone decides, also above the default."""
    assert max_sizes([Wish(20)], 64, None) == [64]


def test_the_smaller_of_threads_and_share_decides() -> None:
    """A share above the thread count is left unused, one below it is kept."""
    assert max_sizes([Wish(20)], 4, 10) == [4]
    assert max_sizes([Wish(20)], 8, 3) == [3]


def test_unknown_concurrency_leaves_the_default_within_the_share() -> None:
    """Greenlets keep the default size unless the share is smaller."""
    assert max_sizes([Wish(20)], None, None) == [20]
    assert max_sizes([Wish(20)], None, 5) == [5]


def test_an_explicit_max_size_stands() -> None:
    """Neither threads nor share change it; the other pools get what it leaves."""
    wishes = [Wish(9, is_fixed=True), Wish(20)]
    assert max_sizes(wishes, 4, None) == [9, 4]
    assert max_sizes(wishes, 4, 11) == [9, 2]
    assert max_sizes(wishes, 4, 6) == [9, 1]


def test_several_pools_divide_the_share_of_their_worker() -> None:
    """All of it is given out, none gets nothing, the sum does not exceed it."""
    assert max_sizes([Wish(20)] * 3, 8, 8) == [2, 3, 3]
    assert max_sizes([Wish(20)] * 2, 1, 8) == [1, 1]


def test_an_explicit_min_size_is_respected_within_the_share() -> None:
    """Who asked for four connections kept open gets them under a sync worker."""
    wish = Wish(20, min_size=4, needs_min=True)
    assert max_sizes([wish], 1, None) == [4]
    assert max_sizes([wish], 1, 2) == [2]


def test_no_budget_is_none() -> None:
    """Unset and empty are the same."""
    assert read_total({}, 4) is None
    assert read_total({"PGDBPOOL_TOTAL": " "}, 4) is None


def test_a_budget_is_read() -> None:
    """One connection a worker is enough."""
    assert read_total({"PGDBPOOL_TOTAL": "4"}, 4) == 4


@pytest.mark.parametrize("text", ["many", "-1", "4.5", "3", "0"])
def test_an_impossible_budget_is_refused_by_name(text: str) -> None:
    """No number, or fewer connections than workers."""
    with pytest.raises(SettingsError, match="PGDBPOOL_TOTAL"):
        read_total({"PGDBPOOL_TOTAL": text}, 4)


def test_what_fits_is_said_in_one_line() -> None:
    """With all the numbers it was judged by."""
    is_fine, text = verdict(Demand(2, 4, threads=4), Capacity(100, 3, 7))
    assert is_fine
    assert text == (
        "2 workers x 4 connections = 8; the server has 90 free (max_connections 100, "
        "3 reserved, 7 in use by others): fits, also twice as a rolling restart needs"
    )


def test_what_fits_only_once_says_so() -> None:
    """A rolling restart has old and new workers at the same time."""
    is_fine, text = verdict(Demand(10, 5), Capacity(100, 3, 7))
    assert is_fine
    assert "but not twice" in text


@pytest.mark.parametrize(
    ("demand", "capacity", "words"),
    [
        (Demand(8, 20), Capacity(100, 3, 0), "DOES NOT FIT"),
        (Demand(2, 5, total=8), None, "EXCEEDS THE BUDGET"),
        (Demand(2, 5, total=200), Capacity(100, 3, 0), "PGDBPOOL_TOTAL is more"),
        (Demand(2, 2, threads=8, total=4), None, "8 threads"),
    ],
)
def test_what_does_not_fit_says_why(
    demand: Demand, capacity: Capacity | None, words: str
) -> None:
    """Each kind of misfit has its words, and is a warning."""
    is_fine, text = verdict(demand, capacity)
    assert not is_fine
    assert words in text


def test_a_full_server_has_nothing_free() -> None:
    """Superusers can be in the reserve, so the difference may be negative."""
    assert Capacity(10, 3, 9).free == 0

"""What the pool does where Python is run by uWSGI, told by a stand-in for its module.

The real one forks in C, so here a child is one by its process id alone.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgdbpool import forks, uwsgi
from pgdbpool import pool as pools
from pgdbpool.keeper import all_keepers
from pgdbpool.pool import ConnectionPool


@pytest.fixture(autouse=True)
def _watches_only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo, after each test, what it has registered."""
    monkeypatch.setattr(pools, "_on_created", [])
    monkeypatch.setattr(forks, "_callbacks", [])
    monkeypatch.setattr(forks, "_pid", os.getpid())


@pytest.fixture
def told() -> list[str]:
    """Give a list that says who was told of a fork, in order."""
    told: list[str] = []
    forks._callbacks.append(lambda: told.append("ours"))
    return told


def fork(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process, of which uWSGI tells and Python does not."""
    other = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: other)
    host.post_fork_hook()


def test_a_fork_of_uwsgi_is_heard_of(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a process, however often it is told."""
    host = SimpleNamespace(has_threads=1)
    uwsgi.watch(host)
    fork(host, monkeypatch)
    host.post_fork_hook()
    assert told == ["ours"]


def test_a_worker_that_was_not_forked_forgets_nothing(told: list[str]) -> None:
    """UWSGI calls its hook also without a master, in the process that it began in."""
    host = SimpleNamespace(has_threads=1)
    uwsgi.watch(host)
    host.post_fork_hook()
    assert told == []


def test_the_hook_that_was_there_before_is_called_as_well(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ours, so that it finds pools that it can use."""
    host = SimpleNamespace(has_threads=1, post_fork_hook=lambda: told.append("theirs"))
    uwsgi.watch(host)
    fork(host, monkeypatch)
    assert told == ["ours", "theirs"]


def test_a_hook_that_takes_the_place_of_ours_is_joined_by_the_next_pool(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `uwsgidecorators` does when it is imported."""
    host = SimpleNamespace(has_threads=1)
    uwsgi.watch(host)
    host.post_fork_hook = lambda: told.append("theirs")
    ConnectionPool()
    ConnectionPool()
    fork(host, monkeypatch)
    assert told == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("has_threads", "threaded", "count"),
    [(0, True, 1), (0, False, 0), (1, True, 0), (1, False, 0)],
)
def test_a_pool_that_needs_threads_warns_where_none_run(
    caplog: pytest.LogCaptureFixture, has_threads: int, count: int, *, threaded: bool
) -> None:
    """It names itself and both ways out."""
    uwsgi.watch(SimpleNamespace(has_threads=has_threads))
    with caplog.at_level(logging.WARNING, "pgdbpool.uwsgi"):
        ConnectionPool(name="orders", threaded=threaded)
    assert len(caplog.messages) == count
    for message in caplog.messages:
        assert "'orders'" in message
        assert "enable-threads=true" in message
        assert "threaded=False" in message


def test_nobody_hears_of_pythons_forks_alone() -> None:
    """Whoever has to begin anew in a child says so to `forks`, which hears of all."""
    package = Path(forks.__file__).parent
    alone = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if "after_in_child=" in file.read_text(encoding="utf-8")
    }
    assert alone == {"forks.py"}


@pytest.fixture(autouse=True)
def _no_pool_is_left() -> Iterator[None]:
    """Close what a test made."""
    before = set(all_keepers())
    yield
    for pool in set(pools.all_pools()) - before:
        pool.close()

"""Processes that share a directory are one scrape, whatever becomes of them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fresh import python
from tests.scripting import ROOT
from tests.sharing_app import PROCESSES

pytestmark = [
    pytest.mark.direct("its pools are in other processes"),
    pytest.mark.timeout(180),
]

LATE = 3.0  # seconds; figures may be half a second old, and the machine is busy


def play(scenario: str, dsn: str, directory: Path) -> dict[str, Any]:
    """Run a scenario of `tests.sharing_app` and return what it told."""
    environ = {
        # Coverage has locks of its own, which nobody releases in a forked child.
        **{k: v for k, v in os.environ.items() if not k.startswith("COV")},
        "PYTHONPATH": str(ROOT),
        "APP_DSN": dsn,
        "PROMETHEUS_MULTIPROC_DIR": str(directory),
    }
    ended = python(
        "-m", "tests.sharing_app", scenario, cwd=ROOT, environ=environ, timeout=150.0
    )
    assert ended.stderr == ""
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_counters_only_rise(dsn: str, tmp_path: Path) -> None:
    """A file of another time, `pop_stats` and a pool in the place of one: all count."""
    told = play("rising", dsn, tmp_path)
    assert told == {"acquires": [105.0, 106.0, 117.0], "opened": 2, "holds": 17}


def test_a_finalizer_may_release_while_a_number_is_written(
    dsn: str, tmp_path: Path
) -> None:
    """Of ours or of the application's: neither waits for its own thread."""
    assert play("finalizing", dsn, tmp_path) == {"ended": 2, "in use": 0}


def test_a_registry_of_the_application_tells_of_all_processes(
    dsn: str, tmp_path: Path
) -> None:
    """The one that was given and prometheus_client's own, each series once."""
    told = play("registries", dsn, tmp_path)
    assert told == {"acquires": [2.0] * 4, "mine": 1.0, "all files": True}


def test_a_pool_or_a_name_is_in_the_files_once(dsn: str, tmp_path: Path) -> None:
    """Two would overwrite each other; in another namespace, or after it, it may be."""
    told = play("twice", dsn, tmp_path)
    assert told["told"] == ["pool 'metered' is give", "two pools are named 'm"]
    assert told["scraped"]


def test_what_has_ended_has_no_gauges(dsn: str, tmp_path: Path) -> None:
    """A child by fork, a child of multiprocessing, a pool that another replaces."""
    told = play("leaving", dsn, tmp_path)["gauges"]
    assert told[0] == [1.0, 0.0, 1.0]
    assert told[1] == [1.0, 0.0, 1.0, 2.0]
    assert told[2] == [2.0, 0.0, 1.0]


def test_a_fork_waits_for_what_is_being_written(dsn: str, tmp_path: Path) -> None:
    """In the child nobody would release the lock of prometheus_client."""
    assert play("forking", dsn, tmp_path) == {"child": 0}


def test_figures_are_half_a_second_old_at_most(dsn: str, tmp_path: Path) -> None:
    """And nobody has to ask for them."""
    assert play("ageing", dsn, tmp_path)["seconds"] < LATE


def test_what_cannot_be_written_is_nobodys_trouble(dsn: str, tmp_path: Path) -> None:
    """Neither of who acquires nor of who scrapes; the log tells it, once."""
    directory = tmp_path / "shared"
    directory.mkdir()
    told = play("unwritable", dsn, directory)
    assert told == {"before": 0, "after": True, "logged": ["ERROR", "INFO"]}


def test_files_are_made_as_those_of_the_application(dsn: str, tmp_path: Path) -> None:
    """For whom the umask lets read them."""
    told = play("modes", dsn, tmp_path)
    assert told["modes"] == [0o640]
    kinds = {"counter", "gauge_livemax", "gauge_livesum", "histogram", ""}
    assert set(told["kinds"]) == kinds


def test_a_scrape_is_bounded_whichever_processes_come(dsn: str, tmp_path: Path) -> None:
    """A hundred routes in all of them together; what comes later is counted, too."""
    told = play("routing", dsn, tmp_path)
    assert told == {"routes": 101, "holds": PROCESSES * 30}

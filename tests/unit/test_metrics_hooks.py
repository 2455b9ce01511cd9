"""What gunicorn's hooks for metrics do with the directory, without a gunicorn."""

import json
import os
import stat
from pathlib import Path

import pytest

from tests.fresh import python
from tests.scripting import ROOT

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
NOBODY = 65534

# Its hooks are called with what gunicorn hands to them.
PROGRAM = """
import json, logging, os, sys
from pathlib import Path
from types import SimpleNamespace
from pgdbpool.gunicorn import metrics as hooks
log = logging.getLogger("gunicorn")
cfg = SimpleNamespace(workers=1, threads=1, worker_connections=1, timeout=30,
                      uid=65534, gid=65534)
server = SimpleNamespace(cfg=cfg, log=log, num_workers=1, worker_class=object, pid=1)
worker = SimpleNamespace(age=1, pid=int(sys.argv[1]), cfg=cfg, log=log)
hooks._prepare(server)
directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
file = directory / f"gauge_livesum_{worker.pid}.db"
file.touch()
hooks.worker_exit(server, worker)
print(json.dumps({"is_counted": file.exists(), "directory": str(directory),
                  "owner": directory.stat().st_uid}))
"""


def play(
    tmp_path: Path, directory: str | None, *, pid: int = 4711
) -> dict[str, object]:
    """Start a service, have a worker vanish, and return what there was then."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    environ.pop(DIRECTORY, None)
    if directory is not None:
        environ[DIRECTORY] = directory
    ended = python("-c", PROGRAM, str(pid), cwd=tmp_path, environ=environ)
    assert ended.stderr == ""
    told: dict[str, object] = json.loads(ended.stdout)
    return told


def test_a_worker_that_has_vanished_is_counted_no_more(tmp_path: Path) -> None:
    """Gunicorn calls `worker_exit` for it, in the arbiter, and nothing else."""
    assert play(tmp_path, None)["is_counted"] is False


def test_the_directory_of_another_service_is_not_used(tmp_path: Path) -> None:
    """Gunicorn hands it on to the arbiter of an upgrade; it goes with its service."""
    other = tmp_path / "pgdbpool-metrics-4711-abc_1xyz"
    other.mkdir()
    (other / "counter_1.db").touch()
    told = play(tmp_path, str(other))
    assert told["directory"] != str(other)
    assert list(tmp_path.iterdir()) == [other]
    assert (other / "counter_1.db").exists()


def test_a_name_like_that_may_be_given(tmp_path: Path) -> None:
    """Only those that are made here have a process in their name."""
    given = tmp_path / "pgdbpool-metrics-shop"
    assert play(tmp_path, str(given))["directory"] == str(given)
    assert given.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over")
@pytest.mark.parametrize("given", ["made/here", None])
def test_a_directory_that_is_made_is_the_workers(
    tmp_path: Path, given: str | None
) -> None:
    """Whichever account they run by."""
    assert play(tmp_path, given)["owner"] == NOBODY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over")
def test_a_directory_that_was_there_stays_whose_it_is(tmp_path: Path) -> None:
    """It was made as it should be."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o750)
    assert play(tmp_path, str(shared))["owner"] == 0
    assert stat.S_IMODE(shared.stat().st_mode) == 0o750

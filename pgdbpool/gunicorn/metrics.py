"""Hooks of gunicorn for pools whose metrics one scrape is to tell for all workers.

In ``gunicorn.conf.py``, in the place of those of `pgdbpool.gunicorn`, which they call::

    from pgdbpool.gunicorn.metrics import *

They see to the directory in which the workers meet, that each worker is counted from
its start, and that one that has ended is counted no more. The directory is that of
``PROMETHEUS_MULTIPROC_DIR``, which is made, and emptied of what prometheus_client has
left there; where that is not set, or empty, a temporary one.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pgdbpool.gunicorn import hooks
from pgdbpool.gunicorn.hooks import (
    nworkers_changed,
    post_fork,
    pre_fork,
    quiet,
    when_ready,
)

if TYPE_CHECKING:
    from pgdbpool.gunicorn.server import Arbiter, Worker

__all__ = [
    "child_exit",
    "nworkers_changed",
    "on_exit",
    "on_starting",
    "post_fork",
    "post_worker_init",
    "pre_fork",
    "when_ready",
    "worker_exit",
]

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

# What is made here, with the id of the process that makes it.
_PREFIX = "pgdbpool-metrics-"
_OURS = re.compile(rf"{_PREFIX}\d+-\w+")
# What prometheus_client makes there.
_FILE = re.compile(r"(counter|histogram|summary|gauge_[a-z]+)_\d+\.db")


def _provide() -> tuple[Path, bool, bool]:
    """Return the directory, whether it goes with the service, whether it is new.

    After a reload gunicorn hands what is set here to the arbiter of an upgrade, which
    must have one of its own: this one goes with its service.
    """
    given = os.environ.get(DIRECTORY, "")
    if given and not _OURS.fullmatch(Path(given).name):
        is_new = not Path(given).exists()
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given), False, is_new
    made = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    os.environ[DIRECTORY] = made
    return Path(made), True, True


# Now: with --preload the application is there before the first hook, and
# prometheus_client looks at the variable once, when it is imported.
_directory, _is_ours, _is_new = _provide()

from prometheus_client.multiprocess import mark_process_dead  # noqa: E402 - see above

from pgdbpool.metrics.names import FILE as NAMES  # noqa: E402 - as above
from pgdbpool.metrics.workers import begin_all, rest_all  # noqa: E402 - as above


def on_starting(server: Arbiter) -> None:
    """Refuse a budget that cannot work; empty the directory; do not count the arbiter.

    With --preload it has pools already.
    """
    hooks.on_starting(server)
    _prepare(server)


def post_worker_init(worker: Worker) -> None:
    """Warm the worker's pools; count them from now on."""
    hooks.post_worker_init(worker)
    _begin(worker)


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Close the worker's pools; of one that has vanished, count nothing any more."""
    hooks.worker_exit(server, worker)
    if worker.pid != os.getpid():
        # gunicorn calls this one in the arbiter then, and not `child_exit`.
        _bury(server, worker)


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Have ended what the worker left on the server; count it no more."""
    hooks.child_exit(server, worker)
    _bury(server, worker)


def on_exit(server: Arbiter) -> None:
    """Remove what was made for the service, the directory too if it was."""
    hooks.on_exit(server)
    _remove(server)


@quiet
def _prepare(server: Arbiter) -> None:
    rest_all()
    if _is_ours:
        (_directory / NAMES).unlink(missing_ok=True)
    elif "GUNICORN_PID" not in os.environ:
        # Else this is an upgrade on the fly, and the old workers are still there.
        _empty(_directory)
    if _is_new and os.geteuid() == 0:
        os.chown(_directory, server.cfg.uid, server.cfg.gid)


def _empty(directory: Path) -> None:
    for file in directory.iterdir():
        if _FILE.fullmatch(file.name) or file.name == NAMES:
            file.unlink(missing_ok=True)


@quiet
def _begin(worker: Worker) -> None:  # noqa: ARG001 - see `quiet`
    begin_all()


@quiet
def _bury(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - see `quiet`
    mark_process_dead(worker.pid)


@quiet
def _remove(server: Arbiter) -> None:  # noqa: ARG001 - see `quiet`
    if _is_ours:
        shutil.rmtree(_directory, ignore_errors=True)


def _forget(maker: int) -> None:
    """Remove what gunicorn has looked at its settings for, and no more."""
    if os.getpid() == maker and _is_ours:
        shutil.rmtree(_directory, ignore_errors=True)


atexit.register(_forget, os.getpid())

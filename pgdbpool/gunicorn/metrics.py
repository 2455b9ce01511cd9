"""Hooks of gunicorn for pools whose metrics one scrape is to tell for all workers.

In ``gunicorn.conf.py``, in the place of those of `pgdbpool.gunicorn`, which they call::

    from pgdbpool.gunicorn.metrics import *

They see to the directory in which the workers meet, that each worker is counted from
its start, and that one that has ended is counted no more. The directory is that of
``PROMETHEUS_MULTIPROC_DIR``, which is made and emptied, else a temporary one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pgdbpool.gunicorn import hooks
from pgdbpool.gunicorn.hooks import (
    nworkers_changed,
    post_fork,
    quiet,
    when_ready,
    worker_exit,
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

# Now: with --preload the application is there before the first hook, and
# prometheus_client looks at the variable once, when it is imported.
_ours: str | None = None
if DIRECTORY in os.environ:
    Path(os.environ[DIRECTORY]).mkdir(parents=True, exist_ok=True)
else:
    os.environ[DIRECTORY] = _ours = tempfile.mkdtemp(prefix="pgdbpool-metrics-")

from prometheus_client.multiprocess import mark_process_dead  # noqa: E402 - see above

from pgdbpool.metrics.workers import begin_all, rest_all  # noqa: E402 - as above


def on_starting(server: Arbiter) -> None:
    """Refuse a budget that cannot work; then empty the directory."""
    hooks.on_starting(server)
    _prepare(server)


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Let the arbiter hold no connection, have a reaper, and not be counted."""
    hooks.pre_fork(server, worker)
    _rest(server)


def post_worker_init(worker: Worker) -> None:
    """Warm the worker's pools; count them from now on."""
    hooks.post_worker_init(worker)
    _begin(worker)


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
    if _ours is not None:
        if os.geteuid() == 0:
            os.chown(_ours, server.cfg.uid, server.cfg.gid)
    elif "GUNICORN_PID" not in os.environ:
        # Else this is an upgrade on the fly, and the old workers are still there.
        for file in Path(os.environ[DIRECTORY]).glob("*.db"):
            file.unlink(missing_ok=True)


@quiet
def _rest(server: Arbiter) -> None:  # noqa: ARG001 - see `quiet`
    rest_all()


@quiet
def _begin(worker: Worker) -> None:  # noqa: ARG001 - see `quiet`
    begin_all()


@quiet
def _bury(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - see `quiet`
    mark_process_dead(worker.pid)


@quiet
def _remove(server: Arbiter) -> None:  # noqa: ARG001 - see `quiet`
    if _ours is not None:
        shutil.rmtree(_ours, ignore_errors=True)


def _forget(maker: int) -> None:
    """Remove what gunicorn has looked at its settings for, and no more."""
    if os.getpid() == maker and _ours is not None:
        shutil.rmtree(_ours, ignore_errors=True)


atexit.register(_forget, os.getpid())

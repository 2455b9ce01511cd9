"""What happens in gunicorn's processes, and when.

* ``on_starting`` refuses an impossible budget, before anything listens.
* ``when_ready`` says whether the workers' connections fit the server. Without
  ``--preload`` the arbiter knows no pool, and asks the server named by
  ``PGDBPOOL_CONNINFO``, ``DATABASE_URL`` or libpq's own variables; where there is
  none, the first worker says it.
* ``pre_fork`` sees to it that the arbiter holds no connection, and that there
  is a reaper (`pgdbpool.gunicorn.reaper`).
* ``post_fork`` gives the worker its name, which its connections carry in their
  ``application_name``, and its share of the budget.
* ``post_worker_init`` warms the worker's pools.
* ``worker_exit`` closes them.
* ``child_exit`` has the reaper end what the worker left on the server.
* ``nworkers_changed`` warns that running workers keep their share.
* ``on_exit`` removes what the workers' status pages asked each other through.

None blocks the arbiter for more than a second, and none raises, but for a
budget that cannot work. Hooks of your own call ours with the same arguments.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from pgdbpool import greenlets, listener, peers
from pgdbpool import pool as pools
from pgdbpool.endpoint import identity
from pgdbpool.errors import SettingsError
from pgdbpool.gunicorn import budget
from pgdbpool.gunicorn.service import Limits, Member, Service
from pgdbpool.pool import all_pools

if TYPE_CHECKING:
    from pgdbpool.gunicorn.server import Arbiter, Worker

P = ParamSpec("P")

ARBITER_SECONDS = 1.0
WARM_SECONDS = 2.0
# Below the two seconds that gunicorn leaves its workers in a quick shutdown.
CLOSE_SECONDS = 1.5

# One for the arbiter and all its workers: they are forked from it.
_service = Service()
# This process's part, when it is a worker.
_member: Member | None = None


def quiet(hook: Callable[P, None]) -> Callable[P, None]:
    """Return ``hook`` made harmless: what fails in it is logged."""

    @functools.wraps(hook)
    def harmless(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            owner: Any = args[0]
            owner.log.exception("pgdbpool: the hook %s failed", hook.__name__)

    return harmless


@quiet
def on_starting(server: Arbiter) -> None:
    """Refuse to start with a budget that cannot work."""
    _limits_or_exit(server)


@quiet
def when_ready(server: Arbiter) -> None:
    """Say whether all connections of all workers fit the server."""
    deadline = time.monotonic() + ARBITER_SECONDS
    limits = _limits_or_exit(server)
    _service.pipe.start(server.cfg)
    _retire_idle()
    _service.check(server.log, limits, deadline)


@quiet
def nworkers_changed(server: Arbiter, new_value: int, old_value: int | None) -> None:
    """Warn that the workers that run keep the share they have."""
    if old_value is not None and new_value > old_value and _has_budget():
        server.log.warning(
            "pgdbpool: workers keep the share of %s they started with; until those "
            "that run now are replaced, %d workers may exceed it",
            budget.TOTAL_VARIABLE,
            new_value,
        )


@quiet
def pre_fork(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - gunicorn's
    """Let the arbiter hold no connection and serve nothing, and have a reaper."""
    listener.rest_all()
    _service.pipe.start(server.cfg)
    _retire_idle()


@quiet
def post_fork(server: Arbiter, worker: Worker) -> None:
    """Name the worker and bound its pools, before the application loads."""
    global _member  # noqa: PLW0603 - a worker is a process
    identity.set_token(_service.token(worker))
    try:
        limits = Limits.of(server)
    except SettingsError as error:
        # It was good when the arbiter started; more workers made it too small.
        worker.log.warning("pgdbpool: %s", error)
        limits = Limits(1, 1, 1)
    _member = Member(_service, worker, limits)
    pools.on_created(_member.adopt)
    _member.adopt()


@quiet
def post_worker_init(worker: Worker) -> None:
    """Let listeners serve, warm the worker's pools, go on if the database is down."""
    listener.begin_all()
    if _member is None:
        worker.log.warning("pgdbpool: the hook post_fork is missing, see its manual")
        return
    peers.join()
    greenlets.warn(worker.log.warning)
    _member.adopt()
    seconds = min(WARM_SECONDS, worker.cfg.timeout / 3 or WARM_SECONDS)
    _member.warm(time.monotonic() + seconds)
    if worker.age == 1:
        _member.check()


@quiet
def worker_exit(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - gunicorn's
    """Close the worker's pools."""
    if worker.pid != os.getpid():
        # gunicorn calls this one in the arbiter when it finds a worker vanished.
        _service.pipe.tell(gone=_service.token(worker))
        return
    deadline = time.monotonic() + CLOSE_SECONDS
    listener.rest_all()
    peers.leave()
    if _member is not None:
        _member.close(deadline)


@quiet
def child_exit(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - gunicorn's
    """Have the reaper end what the worker left on the server."""
    peers.forget(peers.name_of(worker.age, worker.pid))
    _service.pipe.tell(gone=_service.token(worker))


@quiet
def on_exit(server: Arbiter) -> None:  # noqa: ARG001 - gunicorn's
    """Remove what workers listened on, whichever way they ended."""
    peers.remove()


def _limits_or_exit(server: Arbiter) -> Limits:
    try:
        return Limits.of(server)
    except SettingsError as error:
        server.log.critical("pgdbpool: %s", error)
        sys.exit(1)


def _retire_idle() -> None:
    """Close what a preloaded application has opened in the arbiter."""
    for pool in all_pools():
        pool.retire_idle()


def _has_budget() -> bool:
    return bool(os.environ.get(budget.TOTAL_VARIABLE))

"""What uWSGI does not do unless it is told to: tell of a fork, let threads run.

Its workers are forked in C, by default without Python's hooks. It calls a hook of its
own instead, of which there is one; whoever was there before is called as well. Without
``enable-threads`` a worker keeps the GIL while it waits for its next request.

Nothing happens where Python is not run by uWSGI.
"""

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from pgdbpool import forks
from pgdbpool.pool import ConnectionPool, on_created

logger = logging.getLogger(__name__)


def watch(uwsgi: Any) -> None:  # noqa: ANN401 - a module without types
    """Hear of the forks of uWSGI, and look at each pool that is made.

    Args:
        uwsgi: the module that it offers to the Python it runs.
    """
    _hear(uwsgi)
    on_created(functools.partial(_look, uwsgi))


def _look(uwsgi: Any, pool: ConnectionPool) -> None:  # noqa: ANN401 - as above
    _hear(uwsgi)  # again, for uwsgidecorators puts its own hook in the place of all
    if pool.settings.threaded and not getattr(uwsgi, "has_threads", True):
        logger.warning(
            "pool %r: uWSGI lets no thread run between requests, so nobody closes, "
            "renews or replaces connections then. Start it with enable-threads=true, "
            "or make the pool with threaded=False.",
            pool.name,
        )


class _Hook:
    """Notices a fork, and then calls the hook that was there before, if any."""

    def __init__(self, before: Callable[[], object] | None) -> None:
        self._before = before

    def __call__(self) -> None:
        forks.notice()
        if self._before is not None:
            self._before()


def _hear(uwsgi: Any) -> None:  # noqa: ANN401 - as above
    hook = getattr(uwsgi, "post_fork_hook", None)
    if not isinstance(hook, _Hook):
        uwsgi.post_fork_hook = _Hook(hook)


if "uwsgi" in sys.modules:
    watch(sys.modules["uwsgi"])

"""Where gevent makes greenlets of threads: what to start, and what to warn of.

gevent patches the module of threads whenever it is told to: before a pool is imported,
or after one was used. What is started from then on is a greenlet of the thread that
starts it. The main thread's run whenever it waits; those of any other thread, such as
one of gevent's thread pool, only while that thread waits for something itself.

Nothing here imports gevent; it is there already when there is anything to do.
"""

import _thread
import logging
import sys
from collections.abc import Callable
from typing import Any

from psycopg2.extensions import get_wait_callback

logger = logging.getLogger(__name__)

# Whose functions stand in the place of the originals.
PATCHING = ("gevent", "eventlet")

BLOCKS = (
    "THE WHOLE PROCESS STOPS WHILE A QUERY RUNS: greenlets, but psycopg2 blocks; "
    "install psycogreen and call psycogreen.gevent.patch_psycopg() before the first "
    "connection, under gunicorn in post_fork"
)
HALF_PATCHED = (
    "ALL GREENLETS STOP WHILE ONE WAITS FOR A CONNECTION: psycogreen is in use, but "
    "threads are not patched; call gevent.monkey.patch_all() before it"
)


def are_threads() -> bool:
    """Whether what is started as a thread becomes a greenlet."""
    return _package_of(_thread.start_new_thread) in PATCHING


def start(function: Callable[..., object], *args: object) -> None:
    """Run a function in a thread, or in a greenlet where those are sure to run.

    Does not block.

    Raises:
        RuntimeError: the process can have no more threads.
    """
    if are_threads() and _is_aside():
        gevent: Any = sys.modules["gevent.monkey"]
        original = gevent.get_original("_thread", "start_new_thread")
        original(_aside, (function, *args))
    else:
        _thread.start_new_thread(function, args)


def _is_aside() -> bool:
    """Whether this is not the thread whose greenlets are sure to run."""
    gevent: Any = sys.modules.get("gevent")
    return gevent is not None and not gevent.get_hub().main_hub


def _aside(function: Callable[..., object], *args: object) -> None:
    """Be a real thread, which leaves nothing of gevent's behind."""
    gevent: Any = sys.modules["gevent"]
    try:
        function(*args)
    finally:
        gevent.get_hub().destroy(destroy_loop=True)


def complaint() -> str | None:
    """Return what greenlets will suffer from in this process; None: nothing."""
    callback = get_wait_callback()
    if are_threads():
        return BLOCKS if callback is None else None
    is_green = callback is not None and _package_of(callback) == "psycogreen"
    return HALF_PATCHED if is_green else None


_has_warned = False


def warn(tell: Callable[[str, str], object] = logger.warning) -> None:
    """Tell once a process what greenlets will suffer from, if there is anything.

    Args:
        tell: writes it to a log.
    """
    global _has_warned  # noqa: PLW0603 - once a process
    if not _has_warned and (text := complaint()) is not None:
        _has_warned = True
        tell("pgdbpool: %s", text)


def _package_of(function: object) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]

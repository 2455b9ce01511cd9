"""What a test may not leave behind: threads and processes."""

import _thread
import threading
from collections.abc import Callable, Collection

import psutil

from tests.waiting import until

# The watchdog and the one that hears hang-ups: started at their first use and kept.
PERMANENT_RAW_THREADS = 2

# Of servers that serve the whole run.
permitted_pids: set[int] = set()

_PATIENCE = 5.0


def threads() -> set[threading.Thread]:
    """Return the threads that `threading` started, without the main one.

    One that merely looked at itself, to log, has a dummy there that never ends.
    """
    return {
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
        and thread is not threading.main_thread()
    }


def raw_threads() -> int:
    """Return how many threads run that `_thread` started, as the pool's are."""
    return _thread._count() - len(threads())


def processes() -> set[int]:
    """Return the children of this process, zombies too."""
    return {child.pid for child in psutil.Process().children()} - permitted_pids


def check_threads(before: set[threading.Thread]) -> None:
    """Fail if threads that were not there `before` do not end soon.

    Of raw ones only the number is known: none is left but the permanent ones.
    """
    _check(lambda: threads() - before)
    _check(lambda: set(range(PERMANENT_RAW_THREADS, raw_threads())))


def check_processes(before: set[int]) -> None:
    """Fail if processes that were not there `before` do not end soon."""
    _check(lambda: processes() - before)


def _check(left_over: Callable[[], Collection[object]]) -> None:
    try:
        until(lambda: not left_over(), _PATIENCE)
    except AssertionError:
        message = f"still there {_PATIENCE:g} s after the test: {left_over()}"
        raise AssertionError(message) from None

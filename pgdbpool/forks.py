"""Tells, in a forked child, whoever has to begin anew there.

``os.register_at_fork`` hears of the forks that Python makes. A server that embeds
Python forks by itself, and Python may not hear of it; who knows calls `notice`.
"""

import os
from collections.abc import Callable

_callbacks: list[Callable[[], object]] = []
_pid = os.getpid()


def in_child(callback: Callable[[], object]) -> None:
    """Call back in each child, in the order in which they were given."""
    _callbacks.append(callback)
    os.register_at_fork(after_in_child=callback)


def notice() -> None:
    """Make good for a fork that Python has not heard of; else do nothing."""
    if os.getpid() == _pid:
        return
    _remember()
    for callback in tuple(_callbacks):
        callback()


def _remember() -> None:
    global _pid  # noqa: PLW0603 - one identity a process
    _pid = os.getpid()


os.register_at_fork(after_in_child=_remember)

"""What all providers have in common that stand on the library of a cloud.

None of these libraries is needed to import pgdbpool: the class that is about one
imports it when the first instance is made.
"""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def missing(provider: str, library: str, extra: str) -> str:
    """Return what to say when the library of a provider is not installed."""
    return f"{provider} needs {library}: pip install 'pgdbpool[{extra}]'"


class PerProcess(Generic[T]):
    """One object a process, made when it is first asked for.

    It is made again in a forked child, which must not share the parent's HTTP
    connections, nor its locks: a thread that is not in the child may hold them.

    Args:
        make: makes it; may block. What it raises passes through, and the next who
            asks tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # By process, so that a child never waits for a lock of its parent's.
        self._locks: dict[int, threading.Lock] = {}
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return it. Blocks while it is made, by whichever thread."""
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):
            if pid not in self._made:
                self._made[pid] = self._make()
            return self._made[pid]

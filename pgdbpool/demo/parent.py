"""Ends a process of the demo when the demo itself was killed.

The demo holds the other end of such a process's standard input and never writes
to it: the end of that file is the end of the demo, however it came.
"""

import os
import sys
import threading
from collections.abc import Callable


def end_with_parent(end: Callable[[], object]) -> None:
    """Call ``end``, in a thread of its own, when standard input ends."""
    threading.Thread(target=_follow, args=(end,), daemon=True).start()


def _follow(end: Callable[[], object]) -> None:
    # An unbuffered read: at its end the interpreter waits for whoever holds the
    # lock of the buffered one.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    end()

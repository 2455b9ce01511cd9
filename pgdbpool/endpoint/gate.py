"""Keeps a fork from happening in the middle of a connect.

The libraries below libpq (GSSAPI, OpenSSL) hold mutexes while they connect. In a
child that was forked meanwhile nobody unlocks them, and its own connects hang.
"""

import os
import threading

from pgdbpool import forks

# A connect that hangs must not keep a process from forking.
LONGEST_WAIT = 0.5


class Gate:
    """Open to any number of connects, closed while the process forks."""

    def __init__(self) -> None:
        self.reopen_in_child()

    def reopen_in_child(self) -> None:
        """Start anew: whoever was inside is not in this process."""
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._is_closed = False

    def __enter__(self) -> None:
        """Begin a connect. Blocks while the process forks."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed, 2 * LONGEST_WAIT)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        """End a connect."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody begin, and wait for those inside, for half a second at most."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside, LONGEST_WAIT)

    def reopen(self) -> None:
        """Let connects go on in the parent."""
        with self._changed:
            self._is_closed = False
            self._changed.notify_all()


gate = Gate()
os.register_at_fork(before=gate.close, after_in_parent=gate.reopen)
forks.in_child(gate.reopen_in_child)

"""A greenlet that sees when it could not run, and what sockets its process has."""

import _socket
import contextlib
import os
import stat
import time
from pathlib import Path

import gevent


class Ticker:
    """A greenlet that wants to run every 10 ms, and sees when it could not.

    Attributes:
        gaps: how long each turn came late, seconds, without what the kernel kept
            this process waiting for a processor.
    """

    def __init__(self) -> None:
        self.gaps = [0.0]
        self._greenlet = gevent.spawn(self._tick)

    def _tick(self) -> None:
        while True:
            began, delayed = time.monotonic(), waited_for_processor()
            gevent.sleep(0.01)
            own = time.monotonic() - began - (waited_for_processor() - delayed)
            self.gaps.append(own - 0.01)

    def end(self) -> dict[str, float]:
        """Return the longest stall and how many turns there were."""
        self._greenlet.kill()
        return {"stall": max(self.gaps), "ticks": len(self.gaps)}


def waited_for_processor() -> float:
    """Return for how long the kernel had this thread wait, seconds; 0 if unknown."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def sockets_to(port: int) -> int:
    """Return how many sockets this process has to a server; no greenlet runs."""
    return sum(
        _port_of_peer(int(one.name)) == port for one in Path("/proc/self/fd").iterdir()
    )


def _port_of_peer(fd: int) -> int:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            # Not gevent's, and a duplicate, because it closes what it was given.
            with contextlib.closing(_socket.socket(fileno=os.dup(fd))) as sock:
                peer = sock.getpeername()
                return int(peer[1]) if isinstance(peer, tuple) else 0
    return 0

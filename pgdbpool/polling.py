"""The deadline of a blocking call where there is no second thread to keep it.

psycopg2 can be told to poll for an answer instead of waiting for it, by a function
that is the same for all connections of a process. It is set for the time of one call
of the pool's own, and no other is under way meanwhile.
"""

import select
from collections.abc import Callable
from time import monotonic
from typing import Any

from psycopg2 import extensions as driver

WaitCallback = Callable[[Any], object] | None


def begin(limit: float, fire: Callable[[], object]) -> WaitCallback:
    """Have calls end after so many seconds, by what ``fire`` does to the socket.

    Returns:
        What `end` is to be called with.
    """
    before = driver.get_wait_callback()
    if before is None:  # else somebody polls already, as psycogreen does
        deadline = monotonic() + limit
        driver.set_wait_callback(lambda conn: _wait(conn, deadline, fire))
    return before


def end(before: WaitCallback) -> None:
    """Have psycopg2 do as before."""
    driver.set_wait_callback(before)


def _wait(conn: driver.connection, deadline: float, fire: Callable[[], object]) -> None:
    """Block until the answer is there, or what was fired has ended the session."""
    is_over = False
    while (state := conn.poll()) != driver.POLL_OK:
        poll = select.poll()
        wanted = select.POLLIN if state == driver.POLL_READ else select.POLLOUT
        poll.register(conn.fileno(), wanted)
        left = max(deadline - monotonic(), 0.0)
        if not poll.poll(None if is_over else left * 1000) and not is_over:
            is_over = True
            fire()

"""The sessions of the service as its servers see them."""

from __future__ import annotations

import _thread
import dataclasses
import os
import time
from typing import TYPE_CHECKING, Final

import psycopg2
from psycopg2 import extensions as driver

from pgdbpool import greenlets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.pool import ConnectionPool

# No server is asked more often.
PAUSE: Final = 2.0

# Those whose name is like ours but for host, process and token, see `identity`. Without
# the text of the queries, in which the parameters stand.
SESSIONS: Final = """
    WITH own AS (SELECT '(/[^/:]*/[0-9]+)?(:[0-9a-f]+[.][0-9]+)?$' AS rest)
    SELECT pid, coalesce(state, ''), coalesce(wait_event_type, ''),
        coalesce(wait_event, ''),
        extract(epoch FROM clock_timestamp() - state_change)::float8,
        extract(epoch FROM clock_timestamp() - xact_start)::float8,
        application_name, coalesce(host(client_addr), ''), pid = pg_backend_pid()
    FROM pg_stat_activity, own
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND regexp_replace(application_name, rest, '')
            = regexp_replace(current_setting('application_name'), rest, '')
    ORDER BY backend_start, pid LIMIT 500
"""


@dataclasses.dataclass(frozen=True)
class Session:
    """One session, as pg_stat_activity has it.

    Attributes:
        pid: its process on the server.
        state: ``active``, ``idle``, ``idle in transaction`` …; empty: not ours to see.
        wait_type, wait_event: what it waits for; empty: nothing.
        seconds: for how long it has been in this state.
        transaction_seconds: how old its transaction is; None: there is none.
        application_name: ends with the worker's token under gunicorn.
        client: its address; empty: a Unix socket.
        is_asking: it is the one that asked.
    """

    pid: int
    state: str
    wait_type: str
    wait_event: str
    seconds: float | None
    transaction_seconds: float | None
    application_name: str
    client: str
    is_asking: bool


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one server said last.

    Attributes:
        pool, endpoint: which it is.
        taken_at: when, seconds since 1970.
        sessions: those of the service.
        error: why it could not be asked; the sessions are from before.
    """

    pool: str
    endpoint: str
    taken_at: float
    sessions: tuple[Session, ...]
    error: str | None


class Server:
    """Asks the servers of some pools for the sessions of the service, now and then.

    It asks in a thread of its own, and only where a connection is idle and nobody
    waits: so it takes nothing from the application, no caller waits for it, and it
    shows in no count of the pool.

    Args:
        pools: returns them.
    """

    def __init__(self, pools: Callable[[], Iterable[ConnectionPool]]) -> None:
        self._pools = pools
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._asking = _thread.allocate_lock()
        self._asked_at = -PAUSE
        # By pool and endpoint; written by the thread that asks.
        self._seen: dict[tuple[str, str], Seen] = {}

    def look(self) -> list[Seen]:
        """Return what was last seen, and have it looked up anew. Does not block."""
        if self._process != os.getpid():
            self._begin()
        is_due = time.monotonic() - self._asked_at >= PAUSE
        if is_due and self._asking.acquire(blocking=False):
            self._asked_at = time.monotonic()
            try:
                greenlets.start(self._ask_all, self._asking)
            except BaseException:
                self._asking.release()
                raise
        return list(self._seen.values())

    def _ask_all(self, asking: _thread.LockType) -> None:
        try:
            for pool in self._pools():
                for endpoint, found in pool.ask_idle(_sessions):
                    self._note(pool.name, endpoint, found)
        finally:
            asking.release()

    def _note(
        self, pool: str, endpoint: str, found: tuple[Session, ...] | psycopg2.Error
    ) -> None:
        """Keep what was seen; else what was before, and why it is not newer."""
        key = pool, endpoint
        if not isinstance(found, psycopg2.Error):
            self._seen[key] = Seen(*key, time.time(), found, None)
        elif key in self._seen:
            reason = type(found).__name__
            self._seen[key] = dataclasses.replace(self._seen[key], error=reason)


def _sessions(conn: PooledConnection) -> tuple[Session, ...]:
    # The user's own cursors may give rows of another kind.
    with driver.connection.cursor(conn, cursor_factory=driver.cursor) as cur:
        cur.execute(SESSIONS)
        return tuple(Session(*row) for row in cur.fetchall())

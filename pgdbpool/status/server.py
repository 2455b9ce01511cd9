"""The sessions of the service as its servers see them."""

from __future__ import annotations

import _thread
import dataclasses
import functools
import os
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg2
from psycopg2 import extensions as driver

from pgdbpool import greenlets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.pool import ConnectionPool

# No server is asked more often, nor sooner after it could not answer, seconds.
PAUSE: Final = 2.0
REST: Final = 60.0
# Nothing newer than this, though it was tried: another worker may have more luck.
BEHIND: Final = 2 * PAUSE
# What was seen of a pool, or of a server, that is gone is kept so long.
MEMORY: Final = 300.0

# Those whose name is like ours but for host, process and token, see `identity`. What
# is too long there is cut, at a place that depends on these three: of a name that was
# cut, which has 60 to 63 bytes, the beginning has to do. Of the sessions of another
# role the server tells no more than their name. Without the text of the queries, in
# which the parameters stand.
SESSIONS: Final = """
    WITH shape AS (SELECT '(/[^/:]*/[0-9]+)?(:[0-9a-f]+[.][0-9]+)?$' AS rest),
    own AS (
        SELECT regexp_replace(current_setting('application_name'), rest, '') AS service,
            octet_length(current_setting('application_name')) >= 60 AS is_cut
        FROM shape
    ),
    found AS (
        SELECT *, regexp_replace(application_name, rest, '') AS service,
            octet_length(application_name) >= 60 AS is_cut
        FROM pg_stat_activity, shape
        WHERE datname = current_database()
            AND coalesce(backend_type, 'client backend') = 'client backend'
    )
    SELECT pid, coalesce(state, ''), coalesce(wait_event_type, ''),
        coalesce(wait_event, ''),
        extract(epoch FROM clock_timestamp() - state_change)::float8,
        extract(epoch FROM clock_timestamp() - xact_start)::float8,
        application_name, coalesce(host(client_addr), ''), pid = pg_backend_pid()
    FROM found, own
    WHERE found.service = own.service
        OR found.is_cut AND left(own.service, length(found.service)) = found.service
        OR own.is_cut AND left(found.service, length(own.service)) = own.service
    ORDER BY backend_start, pid LIMIT 500
"""

# What makes Python's own types of the columns.
CASTERS: Final = (driver.INTEGER, driver.FLOAT, driver.BOOLEAN, driver.UNICODE)


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
        asked_at: when it was asked last, seconds since 1970.
        taken_at: of when the sessions are; where there are none, as `asked_at`.
        sessions: those of the service; none where it has never answered.
        error: why it did not answer when it was asked last; None: it did.
    """

    pool: str
    endpoint: str
    asked_at: float
    taken_at: float
    sessions: tuple[Session, ...]
    error: str | None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Return what another worker has seen, from `dataclasses.asdict`.

        Raises:
            KeyError, TypeError, ValueError: that is not what it told.
        """
        sessions = tuple(Session(**one) for one in told["sessions"])
        times = {name: float(told[name]) for name in ("asked_at", "taken_at")}
        return cls(**{**told, **times, "sessions": sessions})

    def is_within(self, seconds: float, now: float) -> bool:
        """Whether it was asked so long ago; the clock may have been set back since."""
        return 0.0 <= now - self.asked_at < seconds


class Server:
    """Asks the servers of some pools for the sessions of the service, now and then.

    It asks in a thread of its own, and only where a connection is idle and nobody
    waits: so it shows in no count of the pool. What another worker has learned need
    not be asked.

    Args:
        pools: returns those that any thread may look at.
    """

    def __init__(self, pools: Callable[[], Iterable[ConnectionPool]]) -> None:
        self._pools = pools
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._asking = _thread.allocate_lock()
        self._tried_at = -PAUSE
        # By pool and endpoint; each value is replaced as a whole.
        self._seen: dict[tuple[str, str], Seen] = {}

    def seen(self) -> list[Seen]:
        """Return what is known, without asking. Does not block."""
        if self._process != os.getpid():
            self._begin()
        pools = self._pools()
        current = {(pool.name, one.name) for pool in pools for one in pool.endpoints}
        now = time.time()
        for key, one in list(self._seen.items()):
            if key not in current and not one.is_within(MEMORY, now):
                self._seen.pop(key, None)
        return [one for _, one in sorted(self._seen.items())]

    def learn(self, seen: Iterable[Seen]) -> None:
        """Take over what another worker knows, where that is newer."""
        now = time.time()
        for one in seen:
            known = self._seen.get((one.pool, one.endpoint))
            is_new = known is None or known.asked_at < one.asked_at
            if is_new and one.is_within(MEMORY, now):
                self._seen[one.pool, one.endpoint] = one

    def look(self) -> list[Seen]:
        """Return what is known, and have asked for what is old. Does not block."""
        found = self.seen()
        is_time = time.monotonic() - self._tried_at >= PAUSE
        if is_time and self._due(PAUSE) and self._asking.acquire(blocking=False):
            self._tried_at = time.monotonic()
            try:
                greenlets.start(self._ask_all, self._asking)
            except BaseException as error:
                self._asking.release()
                if not isinstance(error, RuntimeError):  # no thread is to be had
                    raise
        return found

    @property
    def is_behind(self) -> bool:
        """Whether a server was not asked for long: no connection to it is idle here."""
        return bool(self._due(BEHIND))

    def _due(self, age: float) -> list[ConnectionPool]:
        """Return the pools that have a server which was not asked for so long."""
        now = time.time()
        return [
            pool
            for pool in self._pools()
            if any(self._is_due(pool, one.name, age, now) for one in pool.endpoints)
        ]

    def _is_due(
        self, pool: ConnectionPool, endpoint: str, age: float, now: float
    ) -> bool:
        known = self._seen.get((pool.name, endpoint))
        return known is None or not known.is_within(REST if known.error else age, now)

    def _ask_all(self, asking: _thread.LockType) -> None:
        try:
            for pool in self._due(PAUSE):
                ask = functools.partial(self._ask, pool)
                for endpoint, found in pool.ask_idle(ask):
                    if found is not None:
                        self._note(pool.name, endpoint, found)
        finally:
            asking.release()

    def _ask(
        self, pool: ConnectionPool, conn: PooledConnection
    ) -> tuple[Session, ...] | None:
        """Ask a server, unless another has and it is not yet its turn."""
        name = conn.entry.endpoint.name
        if not self._is_due(pool, name, PAUSE, time.time()):
            return None
        return _sessions(conn)

    def _note(
        self, pool: str, endpoint: str, found: tuple[Session, ...] | psycopg2.Error
    ) -> None:
        """Keep what was seen; else what was before, and why it is not newer."""
        now = time.time()
        seen = Seen(pool, endpoint, now, now, (), None)
        if isinstance(found, psycopg2.Error):
            before = self._seen.get((pool, endpoint), seen)
            error = type(found).__name__
            seen = dataclasses.replace(before, asked_at=now, error=error)
        else:
            seen = dataclasses.replace(seen, sessions=found)
        self._seen[pool, endpoint] = seen


def _sessions(conn: PooledConnection) -> tuple[Session, ...]:
    # The user's own cursors may give rows of another kind.
    with driver.connection.cursor(conn, cursor_factory=driver.cursor) as cur:
        for caster in CASTERS:  # whatever the application has registered
            driver.register_type(caster, cur)
        cur.execute(SESSIONS)
        return tuple(Session(*row) for row in cur.fetchall())

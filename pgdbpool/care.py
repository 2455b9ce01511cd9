"""What its owner does to an open pool: check, drain, rotate, resize."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, TypeVar

import psycopg2

from pgdbpool.checks import check_sizes
from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.holding import Holding
from pgdbpool.watchdog import guarded

_T = TypeVar("_T")

# What of the time for a question each of its statements may take on the server.
SERVERS_SHARE: Final = 0.8


class Caring(Holding):
    """The owner's part of `ConnectionPool`."""

    def check(self) -> None:
        """Ping every idle connection and replace what does not answer. Blocks."""
        with self._lock:
            idle = [conn for p in self._roster.endpoints for conn in p.shelf]
        for conn in idle:
            with self._lock:
                is_idle = conn.entry.state is State.IDLE
                if is_idle:
                    self._roster.reserve(conn)
            if is_idle:
                self._ping_reserved(conn)

    def _ping_reserved(self, conn: PooledConnection) -> None:
        entry = conn.entry
        try:
            with guarded(conn, self.settings.ping_timeout, "the ping"):
                self._ping(conn)
                session.undo_ping(conn)
        except psycopg2.Error as error:
            self._discard(entry, conn, error)
        except BaseException:
            self._retire(entry, conn, Reason.DIRTY)
            raise
        else:
            self._give_back(entry, conn)

    def _give_back(self, entry: Entry, conn: PooledConnection) -> None:
        with self._lock:
            entry.endpoint.health.succeeded()
            self._roster.give_back(entry, conn, monotonic())
        self.act()

    def ask_idle(
        self, ask: Callable[[PooledConnection], _T]
    ) -> Iterator[tuple[str, _T | psycopg2.Error]]:
        """Ask each server something through a connection that is idle anyway. Blocks.

        It is no hold: nothing is counted, and what the server answers says nothing of
        its health. It begins only while nobody waits; who comes meanwhile, and finds
        nothing else idle, waits for another connection to be opened or for the end of
        the question, at most ``ping_timeout``.

        Args:
            ask: reads something through a cursor of psycopg2's own, in a transaction
                that is rolled back. The server is told to break a statement off that
                takes nearly ``ping_timeout``: then the connection is kept. One that
                takes all of it costs the connection, but no other.

        Yields:
            The name of each server that has such a connection, with what was read, or
            why not.
        """
        with self._lock:
            endpoints = tuple(self._roster.endpoints)
        for endpoint in endpoints:
            name, conn = endpoint.name, self._reserve_at(endpoint)
            if conn is not None:
                yield name, self._answer(conn, ask)

    def _reserve_at(self, endpoint: Endpoint) -> PooledConnection | None:
        """Take what is idle there, for the pool itself; None: it is needed, or none."""
        with self._lock:
            if self._roster.line or not endpoint.shelf:
                return None
            conn = endpoint.shelf[-1]
            self._roster.reserve(conn)
            return conn

    def _answer(
        self, conn: PooledConnection, ask: Callable[[PooledConnection], _T]
    ) -> _T | psycopg2.Error:
        """Ask through a connection that is nobody's, and give it back if it is fit."""
        entry, limit, began = conn.entry, self.settings.ping_timeout, monotonic()
        try:
            with guarded(conn, limit, "the question"):
                answer = self._asked(conn, ask)
        except psycopg2.Error as error:
            if conn.closed > 1 and monotonic() - began < limit:
                self._discard(entry, conn, error)
            else:  # it was too slow, of which the question may be the cause
                self._dismiss(entry, conn)
            return error
        except BaseException:
            self._dismiss(entry, conn)
            raise
        self._give_back(entry, conn)
        return answer

    def _asked(
        self, conn: PooledConnection, ask: Callable[[PooledConnection], _T]
    ) -> _T | psycopg2.Error:
        """Return the answer, or the error that leaves the session usable. Blocks."""
        milliseconds = max(1, int(self.settings.ping_timeout * 1000 * SERVERS_SHARE))
        begin = "BEGIN; " if conn.autocommit else ""
        answer: _T | psycopg2.Error
        try:
            self._ping(conn)
            session.execute(
                conn, f"{begin}SET LOCAL statement_timeout = {milliseconds}"
            )
            answer = ask(conn)
        except psycopg2.Error as error:
            if conn.closed:
                raise
            answer = error
        if conn.autocommit:
            session.roll_back(conn)
        else:
            session.undo_ping(conn)
        return answer

    def _dismiss(self, entry: Entry, conn: PooledConnection) -> None:
        """Close what a question has spoilt; its server is not to blame for that."""
        with self._lock:
            self._roster.retire(entry, conn, Reason.DIRTY)
            self._roster.plan(monotonic())
        self.act()

    @staticmethod
    def check_connection(conn: PooledConnection) -> None:
        """Send an empty round trip, as psycopg_pool's function of this name does.

        The pool pings by itself; this is for code that passes it as ``check``.
        """
        session.execute(conn, "SELECT 1")

    def drain(self) -> None:
        """Replace every connection: idle ones now, the others at their release."""
        with self._lock:
            for endpoint in self._roster.endpoints:
                self._roster.condemn(endpoint, Reason.DRAINED)
            self._roster.plan(monotonic())
        self.act()

    def rotate(self) -> None:
        """Fetch the password anew, and replace all connections with it.

        Idle ones are replaced one after the other, so that others serve meanwhile,
        those in use at their release. Blocks only while a provider is asked. Comes
        by itself when a provider is found to have another password.

        Raises:
            CredentialError: the provider fails; nothing is replaced.
        """
        for credentials in self._logins():
            credentials.renew()
        self.replace_all()

    def _seek(self, *, is_lost: bool) -> None:
        """Begin to connect for who only asks whether it can be done.

        Args:
            is_lost: no server is reached; else it is a primary that is wanted.
        """
        with self._lock:
            roster, now = self._roster, monotonic()
            roster.is_filling = roster.is_filling or is_lost
            roster.plan(now)
            roster.meet(now)
        self.act()

    def retire_idle(self) -> None:
        """Close what is idle and open nothing before the next use.

        For a process that only forks others, such as gunicorn's arbiter.
        """
        with self._lock:
            self._roster.is_filling = False
            for endpoint in self._roster.endpoints:
                self._roster.condemn(endpoint, Reason.DRAINED)
        self.act()

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the sizes. What is too many is closed, when in use at its release.

        Args:
            min_size: how many connections to keep open.
            max_size: the limit; None for the same.

        Raises:
            SettingsError: the sizes make no sense; nothing is changed.
        """
        largest = min_size if max_size is None else max_size
        check_sizes(min_size, largest, self.settings.shared_limit)
        with self._lock:
            self._roster.resize(min_size, largest, monotonic())
        self.act()

"""What its owner does to an open pool: check, drain, rotate, resize."""

import contextlib
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TypeVar

import psycopg2

from pgdbpool.checks import check_sizes
from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.holding import Holding
from pgdbpool.watchdog import guarded

_T = TypeVar("_T")


class Caring(Holding):
    """The owner's part of `ConnectionPool`."""

    def check(self) -> None:
        """Ping every idle connection and replace what does not answer. Blocks."""
        with self._lock:
            idle = [conn for p in self._roster.endpoints for conn in p.shelf]
        for conn in idle:
            if self._reserve(conn):
                with contextlib.suppress(psycopg2.Error):  # then it is replaced
                    self._use_reserved(conn, session.ping, "the ping")

    def ask_idle(
        self, ask: Callable[[PooledConnection], _T]
    ) -> Iterator[tuple[str, _T | psycopg2.Error]]:
        """Ask each server something through a connection that is idle anyway. Blocks.

        It is no hold: nothing is counted, and nobody who waits is kept waiting.

        Args:
            ask: reads something through a cursor of psycopg2's own; for each server
                at most ``ping_timeout``.

        Yields:
            The name of each server that has such a connection, with what was read, or
            why not.
        """
        with self._lock:
            idle = [p.shelf[-1] for p in self._roster.endpoints if p.shelf]
            if self._roster.line:
                idle.clear()
        for conn in idle:
            if self._reserve(conn):
                name = conn.entry.endpoint.name
                try:
                    yield name, self._use_reserved(conn, ask, "the question")
                except psycopg2.Error as error:
                    yield name, error

    def _reserve(self, conn: PooledConnection) -> bool:
        entry = conn.entry
        with self._lock:
            if entry.state is not State.IDLE:
                return False
            self._roster.reserve(conn)
            return True

    def _use_reserved(
        self,
        conn: PooledConnection,
        use: Callable[[PooledConnection], _T],
        what: str,
    ) -> _T:
        """Do something with a connection that is nobody's, and give it back."""
        entry = conn.entry
        try:
            with guarded(conn, self.settings.ping_timeout, what):
                result = use(conn)
                session.undo_ping(conn)
        except psycopg2.Error as error:
            self._discard(entry, conn, error)
            raise
        except BaseException:
            self._retire(entry, conn, Reason.DIRTY)
            raise
        with self._lock:
            entry.endpoint.health.succeeded()
            self._roster.give_back(entry, conn, monotonic())
        self.act()
        return result

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

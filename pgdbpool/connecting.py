"""What a pool does to its servers behind its callers' backs.

No thread lives long but the timer and the one that hears hang-ups, which do no
I/O: each connect and probe runs in a thread of its own, so nobody waits for one.
"""

import contextlib
import functools
import logging
import weakref
from time import monotonic

import psycopg2

from pgdbpool import greenlets
from pgdbpool.endpoint import names
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.health import in_one_line
from pgdbpool.endpoint.probe import probe, role_of
from pgdbpool.endpoint.standing import Finding
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.hangups import hangups
from pgdbpool.locating import Locating
from pgdbpool.planning import Acts, Job
from pgdbpool.watchdog import guarded, shut_down

logger = logging.getLogger(__name__)


class Connecting(Locating):
    """A keeper that connects, asks, hears and closes."""

    def _acts(self) -> Acts:
        return Acts(
            self._connect_job,
            self._close_job,
            self._probe_job,
            self._resolve_job,
            self._visit_job,
            self._warn_job,
        )

    # Connecting.

    def _connect_job(self, entry: Entry) -> Job:
        return functools.partial(self._begin_connect, entry)

    def _begin_connect(self, entry: Entry) -> None:
        greenlets.warn()
        endpoint = entry.endpoint
        is_new = endpoint.host is not None and not endpoint.host.is_met
        # Where a name leads is found out meanwhile.
        self._come_by(monotonic() + (0.0 if is_new else endpoint.connect_limit))
        with self._lock:
            if entry.has_begun or entry.state is not State.CONNECTING:
                return
            entry.has_begun = True
        try:
            greenlets.start(self._connect, entry)
        except RuntimeError as error:  # the process can have no more threads
            self._give_up(entry, error, 0.0)

    def _connect(self, entry: Entry) -> None:
        """Fill one entry; the body of a thread of its own."""
        began = monotonic()
        try:
            self._find_anew(entry.endpoint)
            conn = entry.endpoint.connect()
            finding = self._introduce(entry, conn)
        except BaseException as error:  # noqa: BLE001 - a thread has nobody to tell
            self._give_up(entry, error, monotonic() - began)
            return
        seconds = monotonic() - began
        self._take_in(entry, conn, finding, seconds)

    def _take_in(
        self,
        entry: Entry,
        conn: PooledConnection,
        finding: Finding | None,
        seconds: float,
    ) -> None:
        """Put a new connection to its entry; still in the thread of its connect."""
        conn.entry = entry
        if entry.endpoint.host is not None:
            entry.address = names.address_of(conn)
        self._listen(entry, conn)
        vacated = functools.partial(_on_vacated, weakref.ref(self), entry)
        with self._lock:
            now = monotonic()
            if entry.state is State.CONNECTING:
                entry.reference = weakref.ref(conn, vacated)
                if entry.endpoint.is_at(entry.address):
                    self._roster.learned(entry.endpoint, finding, role_of(conn), now)
            self._roster.connected(entry, conn, seconds, now)
            due = self._roster.upkeep(now)
        entry.endpoint.opening.discard(conn)
        logger.info(
            "pool %r: opened a connection to %s", self.name, entry.endpoint.name
        )
        self._come_by(due)
        self.act()

    def _listen(self, entry: Entry, conn: PooledConnection) -> None:
        """Hear of it when the server ends the session."""
        told = functools.partial(_on_hangup, weakref.ref(self), weakref.ref(conn))
        entry.is_heard = hangups.listen(conn.fileno(), told)

    def _mend_soon(self) -> None:
        """Have mended what a finalizer found, which may run inside the pool's lock."""
        with contextlib.suppress(RuntimeError):
            greenlets.start(self.mend)

    def _introduce(self, entry: Entry, conn: PooledConnection) -> Finding | None:
        """Ask a server that is not known, or no more, who it is. Blocks.

        Raises:
            psycopg2.Error: it does not answer; the connection is closed.
        """
        if self._roster.is_single or entry.endpoint.standing.is_known:
            return None
        try:
            return self._ask(conn)
        except BaseException:
            entry.endpoint.opening.discard(conn)
            conn.retire()
            raise

    def _ask(self, conn: PooledConnection) -> Finding:
        """Ask a server who it is. Blocks, at most ``ping_timeout``."""
        with guarded(conn, self.settings.ping_timeout, "the probe"):
            return probe(conn)

    def _probe_job(self, entry: Entry, conn: PooledConnection) -> Job:
        return functools.partial(self._begin_probe, entry, conn)

    def _begin_probe(self, entry: Entry, conn: PooledConnection) -> None:
        try:
            greenlets.start(self._probe, entry, conn)
        except RuntimeError as error:  # the process can have no more threads
            logger.info("pool %r: nobody can probe: %s", self.name, error)
            with self._lock:
                self._roster.probe_later(entry, conn, monotonic())

    def _probe(self, entry: Entry, conn: PooledConnection) -> None:
        """Ask a server who it is now; the body of a short-lived thread."""
        try:
            finding = self._ask(conn)
        except psycopg2.Error as error:
            self._probe_failed(entry, conn, error)
            return
        with self._lock:
            self._roster.probed(entry, conn, finding, monotonic())
            due = self._roster.upkeep(monotonic())
        self._come_by(due)
        self.act()

    def _probe_failed(
        self, entry: Entry, conn: PooledConnection, error: psycopg2.Error
    ) -> None:
        logger.info("pool %r: a probe failed: %s", self.name, in_one_line(error))
        with self._lock:
            now = monotonic()
            entry.endpoint.health.ping_lost(error, now)
            self._roster.fail(entry, conn, Reason.PING_FAILED, now)
            due = self._roster.upkeep(now)
        self._come_by(due)
        self.act()

    def _give_up(self, entry: Entry, error: BaseException, seconds: float) -> None:
        """Deal with a connect that has failed after so many seconds."""
        try:
            self._connect_failed(entry, error)
        finally:
            self._not_connected(entry.endpoint, seconds, error)

    def _not_connected(
        self, endpoint: Endpoint, seconds: float, error: BaseException
    ) -> None:
        """Take note of that; for who observes."""

    def _connect_failed(self, entry: Entry, error: BaseException) -> None:
        endpoint = entry.endpoint
        with self._lock:
            is_news = not endpoint.health.failures
            self._roster.connect_failed(entry, error, monotonic())
            due = self._roster.upkeep(monotonic())
        logger.log(
            logging.WARNING if is_news else logging.DEBUG,
            "pool %r: cannot connect to %s: %s",
            self.name,
            endpoint.name,
            in_one_line(error),
        )
        self._come_by(due)
        self.act()

    # Closing.

    def _close_job(self, conn: PooledConnection, reason: Reason) -> Job:
        return functools.partial(self._close, conn, reason)

    def _close(self, conn: PooledConnection, reason: Reason) -> None:
        if not conn.closed:
            hangups.ignore(conn.fileno())
        if reason in (Reason.LOST, Reason.PING_FAILED):
            shut_down(conn)  # so that closing cannot wait for a silent peer
        try:
            conn.retire()
        except psycopg2.Error as error:
            logger.debug("closing a connection: %s", error)
        logger.info("pool %r: closed a connection: %s", self.name, reason.value)

    def _warn_job(self, text: str) -> Job:
        return functools.partial(logger.warning, "pool %r: %s", self.name, text)

    def _hear(self, conn: PooledConnection) -> None:
        """Deal with a hang-up; on the listening thread, so without I/O."""
        if conn.closed or not conn.news():
            return
        with self._lock:
            self._roster.hung_up(conn.entry, conn, monotonic())
        if self._roster.jobs:
            greenlets.start(self.act)


def _on_vacated(keeper: "weakref.ref[Connecting]", entry: Entry, _conn: object) -> None:
    # A finalizer runs at any allocation, also inside our own lock, so it takes
    # no lock: it hands over to a thread, or if there can be none to who waits next.
    # Of a cycle the collector clears the references before it runs finalizers, one
    # of which may release the connection yet: it is not to be used again.
    entry.expire(Reason.ABANDONED)
    alive = keeper()
    if alive is not None:
        alive._roster.is_disturbed = True  # noqa: SLF001 - its own
        alive._mend_soon()  # noqa: SLF001 - its own


def _on_hangup(
    keeper: "weakref.ref[Connecting]", reference: "weakref.ref[PooledConnection]"
) -> None:
    alive, conn = keeper(), reference()
    if alive is not None and conn is not None:
        alive._hear(conn)  # noqa: SLF001 - its own

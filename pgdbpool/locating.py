"""Finds out where names lead and who is there, each in a short-lived thread."""

import functools
import logging
from time import monotonic

from pgdbpool import greenlets
from pgdbpool.endpoint import names
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.health import in_one_line
from pgdbpool.endpoint.host import Addresses, Host, Presence
from pgdbpool.endpoint.probe import presence
from pgdbpool.keeper import Keeper
from pgdbpool.planning import Job
from pgdbpool.watchdog import guarded

logger = logging.getLogger(__name__)


class Locating(Keeper):
    """A keeper that knows where its servers are."""

    def _resolve_job(self, host: Host) -> Job:
        return functools.partial(self._begin_resolve, host)

    def _begin_resolve(self, host: Host) -> None:
        try:
            greenlets.start(self._resolve, host)
        except RuntimeError as error:  # the process can have no more threads
            logger.info("pool %r: nobody can resolve: %s", self.name, error)
            self._resolved(host, None)

    def _resolve(self, host: Host) -> None:
        """Find out where a name leads now; the body of a short-lived thread."""
        addresses = None
        try:
            addresses = names.addresses(host.name)
        except (OSError, UnicodeError) as error:  # also of a name that cannot be one
            logger.debug("pool %r: %s: %s", self.name, host.name, in_one_line(error))
        self._resolved(host, addresses)

    def _find_anew(self, endpoint: Endpoint) -> None:
        """Resolve the name of who was found long ago, before connecting. Blocks.

        What an idle pool knows of it may be so no more.
        """
        host = endpoint.host
        if endpoint.addresses and host is not None and host.is_stale(monotonic()):
            self._resolve(host)

    def _resolved(self, host: Host, addresses: Addresses | None) -> None:
        with self._lock:
            self._roster.resolved(host, addresses, monotonic())
            due = self._roster.upkeep(monotonic())
        self._come_by(due)
        self.act()
        self._tell_of_move()

    def _visit_job(self, endpoint: Endpoint, address: str) -> Job:
        return functools.partial(self._begin_visit, endpoint, address)

    def _begin_visit(self, endpoint: Endpoint, address: str) -> None:
        try:
            greenlets.start(self._visit, endpoint, address)
        except RuntimeError as error:  # the process can have no more threads
            logger.info("pool %r: nobody can visit: %s", self.name, error)
            self._visited(endpoint, address, None)

    def _visit(self, endpoint: Endpoint, address: str) -> None:
        """Find out who is at an address; the body of a short-lived thread."""
        seen = None
        try:
            seen = self._who_is_at(endpoint, address)
        except BaseException as error:  # noqa: BLE001 - a thread has nobody to tell
            logger.info(
                "pool %r: at %s nobody answers for %s: %s",
                self.name,
                address,
                endpoint.name,
                in_one_line(error),
            )
        self._visited(endpoint, address, seen)

    def _who_is_at(self, endpoint: Endpoint, address: str) -> Presence:
        """Ask whoever is at one of a name's addresses who it is. Blocks.

        Raises:
            psycopg2.Error: nobody is, or it refuses.
            Exception: whatever ``configure`` raised.
        """
        conn = endpoint.connect(address)
        try:
            with guarded(conn, self.settings.ping_timeout, "a visit"):
                return presence(conn)
        finally:
            endpoint.opening.discard(conn)
            conn.retire()

    def _visited(
        self, endpoint: Endpoint, address: str, found: Presence | None
    ) -> None:
        host = endpoint.host
        assert host is not None  # noqa: S101 - only a name has addresses to visit
        with self._lock:
            before = len(self._roster.endpoints)
            self._roster.visited(host, address, found, monotonic())
            number = len(self._roster.endpoints)
            due = self._roster.upkeep(monotonic())
        if number > before:
            logger.info("pool %r: %s: %d servers", self.name, host.name, number)
        self._come_by(due)
        self.act()
        self._tell_of_move()

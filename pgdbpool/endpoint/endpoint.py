"""One server: how to connect to it, what is open to it, how it is doing.

Nothing in here knows that there may be other servers. What is guarded by the
pool's lock says so; `connect` does I/O and is called without it.
"""

import contextlib
import math
import os
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import psycopg2

from pgdbpool.auth.cache import SLOWEST_PROVIDER, Credentials
from pgdbpool.endpoint import identity
from pgdbpool.endpoint.commenting import Commenting
from pgdbpool.endpoint.connection import PooledConnection, pooled
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.gate import gate
from pgdbpool.endpoint.health import Health
from pgdbpool.endpoint.host import Host
from pgdbpool.endpoint.login import log_in, login_of
from pgdbpool.endpoint.multiplexed import MultiplexedConnection
from pgdbpool.endpoint.names import name_of
from pgdbpool.endpoint.preparing import prepare
from pgdbpool.endpoint.standing import Standing
from pgdbpool.endpoint.state import Reason, State, move
from pgdbpool.errors import SettingsError
from pgdbpool.settings import Settings
from pgdbpool.watchdog import guarded

# So that a dead peer is noticed; whatever the user or the environment set
# stays. Units are libpq's (manual, "Parameter Key Words").
SAFE_DEFAULTS: Final[dict[str, str]] = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
DEFAULT_PORT: Final = "5432"
IN_ENVIRONMENT: Final = {"connect_timeout": "PGCONNECT_TIMEOUT"}

# Ours, by what they lead to.
CLASSES: Final[dict[str, type]] = {
    "direct": PooledConnection,
    "transaction-pooler": MultiplexedConnection,
}

# A fifth of the lifetime, so that connections opened together do not end so.
LIFETIME_JITTER: Final = 0.2


class Endpoint:
    """One server and the entries that are open to it.

    Args:
        params: the parameters of libpq.
        factories: psycopg2's ``connection_factory`` and ``cursor_factory``.
        settings: the pool's.
        weight: its share of the reads.
        credentials: what to log in with; None: as libpq finds it.
        name: what to call it where its host and port are not enough.

    Attributes:
        name: host and port, for messages; no other of the pool has the same.
        site: its host, its address, or the directory of its socket, and its port; None
            until a connect has shown which libpq takes.
        host: the name that leads to it, with others of that name; None without one.
        addresses: which of the name's are its own; empty: whichever libpq finds.
        is_alone: whether the pool has no other endpoint.
        is_leaving: its name leads to it no more; it goes with its last connection.
        met_at: when it was last tried for a look alone, monotonic seconds.
        generation: entries of an older one must go.
        outdated_as: the reason they go for.
        entries: all that are not closed.
        shelf: the connections of the idle ones, newest last; it owns them.
        health: whether the server can be reached.
        standing: what is known of its part in its cluster.
        weight: its share of the reads, as compared with others.
    """

    def __init__(
        self,
        params: Mapping[str, str],
        factories: Mapping[str, type],
        settings: Settings,
        weight: float = 1.0,
        credentials: Credentials | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.weight = weight
        self.credentials = credentials
        self._factories = factories
        self._params = safe_params(params)
        base = CLASSES[settings.via]
        self._connection_class = pooled(
            factories.get("connection_factory"),
            base,
            *((Commenting,) if settings.sql_comments else ()),
        )
        self._cursor_factory = factories.get("cursor_factory")
        self._settings = settings
        self.name = name or endpoint_name(self._params)
        self.site = site_of(self._params)
        host = name_of(self._params)
        self.host = None if host is None else Host(host)
        self.addresses: frozenset[str] = frozenset()
        self.is_alone = self.is_leaving = False
        # How long a connect may take before its entry is taken back.
        self.connect_limit = self._limit(self._params)
        self.wants_primary = self._params.get("target_session_attrs") in (
            "read-write",
            "primary",
        )
        # All below is guarded by the pool's lock.
        self.met_at = -math.inf
        self.generation = 0
        self.outdated_as = Reason.DRAINED
        self.entries: set[Entry] = set()
        self.shelf: deque[PooledConnection] = deque()
        self.health = Health()
        self.standing = Standing()
        # Not guarded: connections that are not in their entry yet, for a fork.
        self.opening: set[PooledConnection] = set()

    def __repr__(self) -> str:
        """Return name, role and states in one line."""
        role = self.standing.role
        return (
            f"<Endpoint {self.name} {role.value if role else 'role unknown'} "
            f"generation {self.generation}: "
            f"{self.count(State.IN_USE)} in use, {self.count(State.IDLE)} idle, "
            f"{self.count(State.CONNECTING)} connecting>"
        )

    def count(self, *states: State) -> int:
        """Return how many entries are in one of the states."""
        return sum(entry.state in states for entry in self.entries)

    def new_entry(self, now: float) -> Entry:
        """Add an entry for a connect that is to be begun."""
        lifetime = self._settings.max_lifetime
        expires_at = float("inf")
        if lifetime is not None:
            expires_at = now + lifetime * random.uniform(1 - LIFETIME_JITTER, 1)  # noqa: S311 - jitter
        entry = Entry(self, now, expires_at)
        self.entries.add(entry)
        return entry

    def outdate(self, reason: Reason) -> None:
        """Begin a new generation: what there is must go, sooner or later."""
        self.generation += 1
        self.outdated_as = reason

    def outdated(self) -> Entry | None:
        """Return what has been idle for longest of what must go; None: nothing."""
        for conn in self.shelf:
            if conn.entry.generation != self.generation:
                return conn.entry
        return None

    def close_entry(self, entry: Entry) -> None:
        """Move an entry to CLOSED and strike it off."""
        move(entry, State.CLOSED)
        entry.expires_at = -math.inf
        entry.hold = None
        entry.reference = None
        self.entries.discard(entry)

    def sibling(self) -> "Endpoint":
        """Return another endpoint of the same name."""
        other = Endpoint(
            self._params,
            self._factories,
            self._settings,
            self.weight,
            self.credentials,
        )
        other.host = self.host
        return other

    def settle(self, addresses: frozenset[str], *, is_only: bool) -> None:
        """Be the server at these addresses, of all that the name has.

        Args:
            addresses: where; empty for wherever libpq finds one.
            is_only: the name has no other server.
        """
        self.addresses = addresses
        self.name = endpoint_name(self._params)
        if addresses and not is_only:
            self.name = _name_at(self.name, min(addresses))
        self.connect_limit = self._limit(
            {**self._params, **self._place(sorted(addresses))}
        )

    def _limit(self, params: Mapping[str, str]) -> float:
        limit = connect_limit(params)
        # The provider may be slow, and a login tried again.
        return limit if self.credentials is None else 2 * limit + SLOWEST_PROVIDER

    def is_at(self, address: str | None) -> bool:
        """Whether what was opened to an address is one of its own."""
        return not self.addresses or address is None or address in self.addresses

    def _place(self, addresses: Sequence[str]) -> dict[str, str]:
        """Return libpq's parameters for some of the name's addresses, in that order."""
        if not addresses or self.host is None:
            return {}
        place = {
            "host": ",".join([self.host.name] * len(addresses)),
            "hostaddr": ",".join(addresses),
        }
        if not self.is_alone:
            place["target_session_attrs"] = "any"  # the pool sees to that
        return place

    def login_params(self, *, has_siblings: bool) -> dict[str, str] | None:
        """Return with what it is connected to now, secrets included. Does not block.

        Args:
            has_siblings: whether the name has other servers, so that it has to be told
                by its addresses.

        Returns:
            None: nobody can connect, for a provider has the password.
        """
        login = {}
        if self.credentials is not None:
            kept = self.credentials.kept
            if kept is None:
                return None
            login = login_of(kept)
        place = self._place(sorted(self.addresses)) if has_siblings else {}
        return {**self._params, **place, **login}

    def connect(self, address: str | None = None) -> PooledConnection:
        """Open a connection and make it ready to be held. Blocks.

        Args:
            address: to that one of the name's addresses, whoever is there.

        Raises:
            psycopg2.Error: the server cannot be reached or refuses.
            CredentialError: there is nothing to log in with.
            Exception: whatever ``configure`` raised.
        """
        at = [address] if address is not None else sorted(self.addresses)
        random.shuffle(at)
        params = {**self._params, **self._place(at)}
        if address is not None:
            params["target_session_attrs"] = "any"
            if connect_limit(params) == math.inf:
                params["connect_timeout"] = SAFE_DEFAULTS["connect_timeout"]
        name = identity.application_name(params, self._settings.name)
        if identity.token() or "application_name" in params:
            params["application_name"] = name
        else:
            params.setdefault("fallback_application_name", name)
        if self.credentials is None:
            conn = self._open(params)
        else:
            found = self.credentials.get()
            conn = log_in(self.credentials, found, lambda it: self._open(params | it))
        try:
            with guarded(conn, self.connect_limit, "preparing a new connection"):
                prepare(conn, self._settings)
        except BaseException:
            self.opening.discard(conn)
            conn.retire()
            raise
        return conn

    def _open(self, params: Mapping[str, str]) -> PooledConnection:
        # Where there is one thread, it cannot fork in the middle of this.
        with gate if self._settings.threaded else contextlib.nullcontext():
            conn: PooledConnection = psycopg2.connect(
                connection_factory=self._connection_class,
                cursor_factory=self._cursor_factory,
                **params,
            )
            self.opening.add(conn)
        if self.site is None and conn.info.host:
            self.site = conn.info.host, str(conn.info.port or DEFAULT_PORT)
        conn.polls = not self._settings.threaded
        return conn


def safe_params(
    params: Mapping[str, str], defaults: Mapping[str, str] = SAFE_DEFAULTS
) -> dict[str, str]:
    """Return the parameters with such defaults where nothing else is said."""
    if "service" in params or "PGSERVICE" in os.environ:
        # The service file may say it, and what is given here would overrule it.
        return dict(params)
    unsaid = {
        key: value
        for key, value in defaults.items()
        if IN_ENVIRONMENT.get(key, key) not in os.environ
    }
    return {**unsaid, **params}


def connect_limit(params: Mapping[str, str]) -> float:
    """Return how long a connect may take in all, seconds.

    libpq's own limit is for each address, counts whole seconds, at least two,
    and takes zero for none; what it takes for the handshake comes on top.

    Raises:
        SettingsError: ``connect_timeout`` is no whole number.
    """
    given = params.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT") or "0"
    try:
        seconds = int(given)
    except ValueError:
        raise SettingsError(
            f"connect_timeout: must be whole seconds, not {given!r}"
        ) from None
    hosts = 1 + (params.get("host") or params.get("hostaddr") or "").count(",")
    return max(seconds, 2) * hosts + 1.0 if seconds > 0 else math.inf


def endpoint_name(params: Mapping[str, str]) -> str:
    """Return host and port, as libpq will find them, for messages."""
    return f"{_host_in(params) or 'local socket'}:{_port_in(params)}"


def endpoint_names(several: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the name of each of several endpoints, no two of them the same.

    Those of one host and port have their address in it: ``db(10.0.0.1):5432``.
    """
    names = [endpoint_name(params) for params in several]
    return [
        _name_at(name, params["hostaddr"])
        if names.count(name) > 1 and params.get("hostaddr")
        else name
        for name, params in zip(names, several, strict=True)
    ]


def _name_at(name: str, address: str) -> str:
    host, _, port = name.rpartition(":")
    return f"{host}({address}):{port}"


def site_of(params: Mapping[str, str]) -> tuple[str, str] | None:
    """Return host and port, as libpq will find them; None: only it knows where."""
    host = _host_in(params)
    if host is None or "service" in params or "PGSERVICE" in os.environ:
        return None
    return host, _port_in(params)


def _host_in(params: Mapping[str, str]) -> str | None:
    environ = os.environ
    return (
        params.get("host")
        or params.get("hostaddr")
        or environ.get("PGHOST")
        or environ.get("PGHOSTADDR")
        or None
    )


def _port_in(params: Mapping[str, str]) -> str:
    return params.get("port") or os.environ.get("PGPORT") or DEFAULT_PORT

"""What is known of one server, and of the service that will use it."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Final

from pgdbpool.gunicorn import budget
from pgdbpool.gunicorn.service import wish_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgdbpool.settings import Settings

# From this major version on a version has two parts; before, it had three.
TWO_PARTS: Final = 10


class Trouble(enum.Enum):
    """Why a server could not be examined, or not to the end."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    LOGIN = "login"
    CREDENTIALS = "credentials"
    FULL = "full"
    DATABASE = "database"
    PARAMETER = "parameter"
    TLS = "tls"
    STARTING = "starting"
    REFUSED = "refused"
    STRANGE = "strange"


class Mode(enum.Enum):
    """For how long a pooler in between lends a session of the server to a client."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"
    UNKNOWN = "unknown"


@dataclasses.dataclass
class Facts:
    """What was found of one endpoint; None: unknown. Durations are in seconds.

    Attributes:
        name: host and port.
        trouble: why it could not be examined.
        error: what it said then, or what was waited for.
        silent_addresses: those of its name that do not answer, while another does.
        refusing_addresses: those that answer, and refuse; with what they say.
        address: where it was reached; None: by a socket.
        hosts: more than one where a service file names several.
        connect: how long the connect took, with the login.
        round_trip: the quickest of a few.
        role: ``primary`` or ``standby``.
        read_only: whether its transactions are, by ``default_transaction_read_only``.
        position: what it wrote, or as a standby replayed, in bytes of WAL.
        timeline: a primary's.
        lag: how long a standby took to replay what the primary had written.
        reached: whether it has replayed that; if not, it has taken so long already.
        lag_bytes: how much it had to replay yet, at last.
        replayed: how long ago what it replayed last was committed.
        streaming: whether a standby receives WAL from a server.
        paused: whether its replaying is.
        system: the same number for all servers of one cluster.
        started: since when it runs; different for any two servers.
        version: as ``server_version_num``.
        local: whether the way to it stays on this machine.
        tls: the protocol, such as ``TLSv1.3``; empty without TLS.
        gss: whether Kerberos encrypts.
        sslmode: the one in force.
        root_certificate: whether there is one to verify the server's by.
        user: the role that has logged in.
        superuser: whether the role is one.
        superusers: those that it may become, if it is none.
        bypasses_rls: whether row-level security leaves it out.
        max_connections: the server's.
        reserved: those that only superusers and the like get.
        in_use: connections of others.
        own: those of the pool's own, by their role and ``application_name``.
        named: whether that is a name of its own; else it is that of any pool.
        role_limit: the role's ``CONNECTION LIMIT``; -1: none.
        role_in_use: connections of the role that are not the pool's own.
        database_limit: the database's.
        database_in_use: as ``role_in_use``.
        limits: the server's time limits by their names; 0: none.
        client: the connection's parameters for time limits, as libpq has them.
        pooler: what lends the sessions; None: nothing is in between.
    """

    name: str
    trouble: Trouble | None = None
    error: str | None = None
    silent_addresses: list[str] = dataclasses.field(default_factory=list)
    refusing_addresses: dict[str, str] = dataclasses.field(default_factory=dict)
    address: str | None = None
    hosts: list[str] = dataclasses.field(default_factory=list)
    connect: float | None = None
    round_trip: float | None = None
    role: str | None = None
    read_only: bool | None = None
    position: int | None = None
    timeline: int | None = None
    lag: float | None = None
    reached: bool | None = None
    lag_bytes: int | None = None
    replayed: float | None = None
    streaming: bool | None = None
    paused: bool | None = None
    system: str | None = None
    started: str | None = None
    version: int | None = None
    local: bool | None = None
    tls: str | None = None
    gss: bool | None = None
    sslmode: str | None = None
    root_certificate: bool | None = None
    user: str | None = None
    superuser: bool | None = None
    superusers: list[str] = dataclasses.field(default_factory=list)
    bypasses_rls: bool | None = None
    max_connections: int | None = None
    reserved: int | None = None
    in_use: int | None = None
    own: int | None = None
    named: bool | None = None
    role_limit: int | None = None
    role_in_use: int | None = None
    database_limit: int | None = None
    database_in_use: int | None = None
    limits: dict[str, float] = dataclasses.field(default_factory=dict)
    client: dict[str, str] = dataclasses.field(default_factory=dict)
    pooler: Mode | None = None

    @property
    def answers(self) -> bool:
        """Whether it was examined to the end."""
        return self.trouble is None

    @property
    def release(self) -> str:
        """Its version in words, empty if unknown."""
        if self.version is None:
            return ""
        major, minor = divmod(self.version, 10000)
        if major >= TWO_PARTS:
            return f"{major}.{minor}"
        return f"{major}.{minor // 100}.{minor % 100}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many connections the service will want of each server.

    Attributes:
        hosts: machines that run it.
        workers: processes on each of them.
        threads: requests that a worker serves at once, None if nothing is said.
        size: connections that a worker may have.
        total: the budget of each host, None without one.
    """

    hosts: int
    workers: int
    threads: int | None
    size: int
    total: int | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        hosts: int,
        workers: int,
        threads: int | None,
    ) -> Plan:
        """Return what pgdbpool's hooks of gunicorn would make of the settings.

        Raises:
            SettingsError: ``PGDBPOOL_TOTAL`` is no number, or too small.
        """
        total = budget.read_total(environ, workers)
        share = None if total is None else total // workers
        (size,) = budget.max_sizes([wish_of(settings)], threads, share)
        return cls(hosts, workers, threads, size, total)

    @property
    def needed(self) -> int:
        """Connections of the whole service."""
        return self.hosts * self.on_each_host

    @property
    def on_each_host(self) -> int:
        """Connections of the workers of one host."""
        return self.workers * self.size

    def __str__(self) -> str:
        """Return the sum in words."""
        parts = [
            f"{number} {noun}" if number == 1 else f"{number} {noun}s"
            for number, noun in (
                (self.hosts, "host"),
                (self.workers, "worker"),
                (self.size, "connection"),
            )
        ]
        return f"{' x '.join(parts)} = {self.needed}"

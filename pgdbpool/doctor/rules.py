"""What follows from the facts about one server.

Pure: each rule takes the facts, says what is wrong and what to do about it, and has no
finding where nothing is known. `clusters` is about all servers together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgdbpool.doctor.asking import LIMITS
from pgdbpool.doctor.facts import Facts, Mode, Plan
from pgdbpool.doctor.findings import Finding, fine, warning, wrong
from pgdbpool.doctor.fitting import connections, rolling
from pgdbpool.doctor.reaching import addresses, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgdbpool.settings import Settings

# Seconds. Each hold costs two round trips at least.
LONG_ROUND_TRIP: Final = 0.02
# PostgreSQL 14 is the first that reports its role with its answers.
OLDEST_VERSION: Final = 140000
OLD_TLS: Final = ("SSLv3", "TLSv1", "TLSv1.1")
VERIFYING: Final = ("verify-ca", "verify-full")
# The server's time limits a service should have: an example of each, and on what.
WANTED: Final = {
    "statement_timeout": ("30s", "statements"),
    "lock_timeout": ("5s", "waiting for a lock"),
    "idle_in_transaction_session_timeout": ("60s", "transactions left open"),
}


def findings_of(facts: Facts, settings: Settings, plan: Plan) -> list[Finding]:
    """Return what each rule found on one endpoint, in the order of the rules.

    Args:
        facts: about it.
        settings: the pool's.
        plan: how many connections the service wants.
    """
    if not facts.answers:
        return [reach(facts)]
    found = [rule(facts) for rule in RULES]
    found += [rule(facts, settings) for rule in RULES_OF_SETTINGS]
    found += [rule(facts, plan) for rule in RULES_OF_PLAN]
    return [finding for finding in found if finding is not None]


def round_trip(facts: Facts) -> Finding | None:
    """Return whether the server is near."""
    if facts.round_trip is None:
        return None
    text = f"a round trip takes {milliseconds(facts.round_trip)}"
    if facts.round_trip < LONG_ROUND_TRIP:
        return fine("round-trip", text)
    return warning(
        "round-trip",
        f"{text}, and each hold costs two of them at least",
        "Run the application nearer to the server, or hold connections for longer "
        "pieces of work.",
    )


def version(facts: Facts) -> Finding | None:
    """Return whether the server is new enough."""
    if facts.version is None:
        return None
    if facts.version >= OLDEST_VERSION:
        return fine("version", f"PostgreSQL {facts.release}")
    return warning(
        "version",
        f"PostgreSQL {facts.release} is older than those that pgdbpool is made for",
        "Upgrade to PostgreSQL 14 or newer: older ones do not report when they "
        "become a standby.",
    )


def read_only(facts: Facts) -> Finding | None:
    """Return whether the primary may be written to."""
    if facts.role != "primary" or facts.read_only is None:
        return None
    if not facts.read_only:
        return fine("read-only", "transactions may write")
    return warning(
        "read-only",
        "default_transaction_read_only is on: what is written will be refused",
        f"ALTER ROLE {quoted(facts.user)} SET default_transaction_read_only = off; or "
        "find out who has set it for the database or the server, and why.",
    )


def lag(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether a standby's data are young enough to be read."""
    if facts.lag is None or facts.role != "standby":
        return None
    text = f"its data are {facts.lag:.1f} s old"
    if facts.lag_bytes:
        text += f", and {megabytes(facts.lag_bytes)} of WAL are to be replayed"
    if settings.max_lag is None or facts.lag <= settings.max_lag:
        return fine("lag", text)
    return warning(
        "lag",
        f"{text}: more than max_lag={settings.max_lag:g}, so nobody reads from it",
        "Look what holds the replaying up: a long query with "
        "max_standby_streaming_delay, the network or the disk.",
    )


def replication(facts: Facts) -> Finding | None:
    """Return whether a standby gets what the primary writes, and replays it."""
    if facts.streaming is None:
        return None
    if facts.paused:
        return warning(
            "replication",
            "its replaying is paused",
            "SELECT pg_wal_replay_resume(), unless somebody paused it on purpose.",
        )
    if facts.streaming:
        return fine("replication", "it is connected to a server that sends it WAL")
    return warning(
        "replication",
        "it is a standby that no server sends WAL to",
        "Look at primary_conninfo and at the standby's log; without replication its "
        "data only grow older. One that is fed from an archive needs no change.",
    )


def tls(facts: Facts) -> Finding | None:
    """Return whether what is sent is encrypted, and to the right server."""
    if facts.tls is None or facts.local is None:
        return None
    if not facts.tls:
        return _plain(facts)
    if facts.tls in OLD_TLS:
        return warning(
            "tls",
            f"{facts.tls} is broken",
            "Upgrade the server's or this machine's OpenSSL, and set "
            "ssl_min_protocol_version = 'TLSv1.2' on the server.",
        )
    if facts.local or facts.sslmode in VERIFYING:
        return fine("tls", facts.tls)
    return warning(
        "tls",
        f"{facts.tls}, but with sslmode={facts.sslmode} anybody can pretend to be "
        "the server",
        "sslmode=verify-full in the DSN, with sslrootcert= the certificate of the "
        "authority (or sslrootcert=system).",
    )


def _plain(facts: Facts) -> Finding:
    if facts.local:
        return fine("tls", "none, and nothing leaves this machine")
    if facts.gss:
        return fine("tls", "none, but Kerberos encrypts")
    return warning(
        "tls",
        "what is sent is not encrypted",
        "Set ssl = on on the server, and sslmode=verify-full with sslrootcert= in the "
        "DSN.",
    )


def privileges(facts: Facts) -> Finding | None:
    """Return whether the role may do more than an application should."""
    if facts.superuser is None:
        return None
    advice = (
        "Have the application log in as a role of its own that owns nothing: "
        "CREATE ROLE app LOGIN, and GRANT what it needs."
    )
    if facts.superuser:
        text = f"{facts.user} is a superuser: whoever finds an injection has it all"
        return warning("privileges", text, advice)
    if facts.bypasses_rls:
        text = f"{facts.user} has BYPASSRLS: row-level security does not hold for it"
        return warning(
            "privileges",
            text,
            f"ALTER ROLE {quoted(facts.user)} NOBYPASSRLS, unless that is meant.",
        )
    return fine("privileges", f"{facts.user} is an ordinary role")


def server_limits(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether the server ends what hangs."""
    if not facts.limits:
        return None
    unset = [name for name in WANTED if not facts.limits.get(name)]
    if not unset:
        return fine("server-limits", ", ".join(WANTED))
    hook = ", unless configure sets them" if settings.configure is not None else ""
    role = quoted(facts.user)
    return warning(
        "server-limits",
        f"no limit on {', '.join(WANTED[name][1] for name in unset)}: "
        f"{', '.join(unset)} not set{hook}",
        "; ".join(f"ALTER ROLE {role} SET {n} = '{WANTED[n][0]}'" for n in unset)
        + ": or whatever suits the slowest request.",
    )


def idle_sessions(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether the server leaves the pool's idle connections alone."""
    limit = facts.limits.get(LIMITS[-1])
    if limit is None:
        return None
    if not limit:
        return fine("idle-sessions", "idle connections are left alone")
    if settings.min_size == 0 and (settings.max_idle or limit) < limit:
        return fine("idle-sessions", f"max_idle is below the server's {limit:g} s")
    return warning(
        "idle-sessions",
        f"it ends sessions that are idle for {limit:g} s, and with them the pool's",
        f"ALTER ROLE {quoted(facts.user)} SET idle_session_timeout = 0; the pool has "
        "max_idle for that.",
    )


def client_limits(facts: Facts) -> Finding | None:
    """Return whether this side notices a server that has gone."""
    wanted = ["connect_timeout"]
    if not facts.local:
        wanted += ["keepalives", "tcp_user_timeout"]
    # Unlike the others keepalives are on where nobody says anything.
    defaults = {"keepalives": "1"}
    unset = [
        name
        for name in wanted
        if int(facts.client.get(name, defaults.get(name, "0")) or 0) <= 0
    ]
    if not unset:
        return fine("client-limits", ", ".join(wanted))
    return warning(
        "client-limits",
        f"a server that is gone is noticed late or never: no {', '.join(unset)}",
        "Take connect_timeout=0 and the like out of DSN, environment and service "
        "file; with a service file say there connect_timeout=5 keepalives_idle=15 "
        "tcp_user_timeout=20000.",
    )


def pooler(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether ``via`` says what is in between."""
    is_told = settings.via == "transaction-pooler"
    mode = facts.pooler
    if mode is Mode.STATEMENT:
        return wrong(
            "pooler",
            "a pooler in between lends a session for one statement only",
            "pool_mode = transaction in PgBouncer; a transaction cannot be had "
            "otherwise.",
        )
    if mode is Mode.TRANSACTION and not is_told:
        return wrong(
            "pooler",
            "a pooler in between gives each transaction another session, and via is "
            "direct: what the pool or a handler sets would meet other clients",
            'via="transaction-pooler" (PGDBPOOL_VIA=transaction-pooler): see '
            "doc/poolers.md.",
        )
    if mode is Mode.UNKNOWN:
        return warning(
            "pooler",
            "there is a pooler in between, and it could not be found out how it lends "
            "its sessions: a second client got none in time",
            "Ask again when it is less busy. In transaction mode give "
            'via="transaction-pooler".',
        )
    return _no_transaction_pooler(mode, is_told=is_told)


def _no_transaction_pooler(mode: Mode | None, *, is_told: bool) -> Finding:
    what = "no pooler" if mode is None else f"a pooler in {mode.value} mode"
    if not is_told or mode is Mode.TRANSACTION:
        return fine("pooler", f"{what} is in between")
    return warning(
        "pooler",
        f"via is transaction-pooler, and {what} is in between: the pool does without "
        "much for nothing",
        'via="direct", or the address of the pooler in the DSN.',
    )


def quoted(role: str | None) -> str:
    """Return a role's name as SQL has it."""
    name = role or "app"
    is_plain = re.fullmatch("[a-z_][a-z0-9_]*", name)
    return name if is_plain else '"' + name.replace('"', '""') + '"'


def milliseconds(seconds: float) -> str:
    """Return a short time in words."""
    number = seconds * 1000
    return f"{number:.2f} ms" if number < 1 else f"{number:.1f} ms"


def megabytes(number: int) -> str:
    """Return a number of bytes in words."""
    for factor, unit in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} bytes"


RULES: Final[Sequence[Callable[[Facts], Finding | None]]] = (
    reach,
    addresses,
    round_trip,
    version,
    read_only,
    replication,
    tls,
    privileges,
    client_limits,
)
# Those to which it matters what the pool is set to.
RULES_OF_SETTINGS: Final[Sequence[Callable[[Facts, Settings], Finding | None]]] = (
    lag,
    server_limits,
    idle_sessions,
    pooler,
)
# And how much the service wants.
RULES_OF_PLAN: Final[Sequence[Callable[[Facts, Plan], Finding | None]]] = (
    connections,
    rolling,
)

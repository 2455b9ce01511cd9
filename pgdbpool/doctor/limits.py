"""Rules about time limits, the server's and the client's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgdbpool.doctor.asking import LIMITS
from pgdbpool.doctor.facts import Facts, Mode
from pgdbpool.doctor.findings import Finding, fine, warning
from pgdbpool.doctor.words import alter_role

if TYPE_CHECKING:
    from pgdbpool.settings import Settings

# The server's time limits a service should have: an example of each, and on what.
WANTED: Final = {
    "statement_timeout": ("30s", "statements"),
    "lock_timeout": ("5s", "waiting for a lock"),
    "idle_in_transaction_session_timeout": ("60s", "transactions left open"),
}


def server_limits(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether the server ends what hangs."""
    if not facts.limits:
        return None
    unset = [name for name in WANTED if not facts.limits.get(name)]
    if not unset:
        return fine("server-limits", ", ".join(WANTED))
    hook = ", unless configure sets them" if settings.configure is not None else ""
    changes = [f"SET {name} = '{WANTED[name][0]}'" for name in unset]
    migrations = ""
    if "statement_timeout" in unset:
        migrations = "; migrations begin with SET statement_timeout = 0"
    return warning(
        "server-limits",
        f"no limit on {', '.join(WANTED[name][1] for name in unset)}: "
        f"{', '.join(unset)} not set{hook}",
        f"{alter_role(facts, *changes)}: or whatever suits the slowest request. It "
        f"holds for new sessions{migrations}.",
    )


def idle_sessions(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether the server leaves the pool's idle connections alone."""
    limit = facts.limits.get(LIMITS[-1])
    if limit is None:
        return None
    if not limit:
        return fine("idle-sessions", "idle connections are left alone")
    whose, other = "the pool's", "the pool has max_idle for that"
    if facts.pooler not in (None, Mode.SESSION):
        whose, other = "the pooler's", "PgBouncer has server_idle_timeout for that"
    elif settings.min_size == 0 and (settings.max_idle or limit) < limit:
        return fine("idle-sessions", f"max_idle is below the server's {limit:g} s")
    return warning(
        "idle-sessions",
        f"it ends sessions that are idle for {limit:g} s, and with them {whose}",
        f"{alter_role(facts, 'SET idle_session_timeout = 0')}; {other}.",
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

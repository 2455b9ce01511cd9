"""What follows from the facts about one server.

Pure: each rule takes the facts, says what is wrong and what to do about it, and has no
finding where nothing is known. `clusters` is about all servers together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgdbpool.doctor.between import pooler
from pgdbpool.doctor.facts import Facts, Plan
from pgdbpool.doctor.findings import Finding, fine, warning
from pgdbpool.doctor.fitting import budget, connections, own, rolling
from pgdbpool.doctor.limits import client_limits, idle_sessions, server_limits
from pgdbpool.doctor.reaching import addresses, reach, service
from pgdbpool.doctor.securing import privileges, tls
from pgdbpool.doctor.standbys import lag, replication
from pgdbpool.doctor.words import alter_role, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgdbpool.settings import Settings

# Seconds. Each hold costs two round trips at least.
LONG_ROUND_TRIP: Final = 0.02
# PostgreSQL 14 is the first that reports its role with its answers.
OLDEST_VERSION: Final = 140000


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
        "Run the application nearer to the server. In autocommit ping_idle spares one "
        "round trip where a connection was used a moment ago; in a transaction the "
        "ping is its BEGIN, which is due anyway.",
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
        f"{alter_role(facts, 'SET default_transaction_read_only = off')}; or find out "
        "who has set it for the database or the server, and why.",
    )


RULES: Final[Sequence[Callable[[Facts], Finding | None]]] = (
    reach,
    addresses,
    service,
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
    own,
    connections,
    budget,
    rolling,
)

"""Rules about whether a service fits a server. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgdbpool.doctor.findings import Finding, Severity, fine, warning, wrong

if TYPE_CHECKING:
    from pgdbpool.doctor.facts import Facts, Plan


def connections(facts: Facts, plan: Plan) -> Finding | None:
    """Return whether the connections of the service fit the server."""
    if facts.max_connections is None or facts.pooler is not None:
        return None
    free = free_of(facts)
    text = (
        f"{plan}; the server has {free} free (max_connections "
        f"{facts.max_connections}, {facts.reserved} reserved, {facts.in_use} in use by "
        f"others)"
    )
    limit = limit_of(facts)
    if limit is not None and limit < free:
        text, free = f"{plan}; the role or the database may have {limit}", limit
    if plan.needed <= free:
        return fine("connections", text)
    return wrong(
        "connections",
        f"{text}: does not fit, the server will refuse connections",
        "Lower max_size, the workers or PGDBPOOL_TOTAL, raise the limit, or put "
        "PgBouncer in between.",
    )


def rolling(facts: Facts, plan: Plan) -> Finding | None:
    """Return whether the service fits twice, as while its processes are replaced."""
    fits = connections(facts, plan)
    if fits is None or fits.severity is not Severity.FINE:
        return None
    limit = limit_of(facts)
    free = free_of(facts) if limit is None else min(limit, free_of(facts))
    if plan.needed * 2 <= free:
        return fine("rolling-restart", "fits twice, as a rolling restart needs")
    return warning(
        "rolling-restart",
        f"{plan} fits, but not twice in {free}, as a rolling restart needs",
        "Lower max_size, raise max_connections, or stop the old processes before the "
        "new ones start.",
    )


def free_of(facts: Facts) -> int:
    """Return what the server has left for the service, its own included."""
    taken = (facts.reserved or 0) + (facts.in_use or 0)
    return max(0, (facts.max_connections or 0) - taken)


def limit_of(facts: Facts) -> int | None:
    """Return what role and database may have at most, None for no limit."""
    if facts.superuser:
        return None
    given = (facts.role_limit, facts.database_limit)
    return min(
        (limit for limit in given if limit is not None and limit >= 0), default=None
    )

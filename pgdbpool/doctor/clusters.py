"""What follows from the facts about all servers of a pool, as one cluster. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pgdbpool.doctor.findings import Finding, Severity
from pgdbpool.endpoint.need import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdbpool.doctor.facts import Facts, Plan


def measure(servers: Sequence[Facts]) -> None:
    """Fill in how far each standby is behind what the primary has written.

    What a standby has replayed last may be old only because nobody writes. So its age
    counts where there is more to replay.
    """
    written = [one.position for one in servers if one.role == "primary"]
    positions = [position for position in written if position is not None]
    for one in servers:
        if one.role != "standby" or one.position is None or not positions:
            continue
        one.lag_bytes = max(0, max(positions) - one.position)
        one.lag = one.replayed if one.lag_bytes else 0.0


def findings_of_all(
    servers: Sequence[Facts], need: Need | None, plan: Plan
) -> list[Finding]:
    """Return what concerns more than one endpoint.

    Args:
        servers: the facts about each.
        need: what a plain ``connection()`` needs.
        plan: how many connections the service wants.
    """
    found = [
        cluster(servers),
        primary(servers, need),
        twice(servers),
        threads(plan),
    ]
    return [finding for finding in found if finding is not None]


def cluster(servers: Sequence[Facts]) -> Finding | None:
    """Return whether all servers are of one cluster."""
    systems: dict[str, list[str]] = defaultdict(list)
    for one in servers:
        if one.system is not None:
            systems[one.system].append(one.name)
    if sum(map(len, systems.values())) <= 1:
        return None
    if len(systems) == 1:
        return Finding("cluster", Severity.FINE, "all servers are of one cluster")
    groups = "; ".join(", ".join(names) for names in systems.values())
    return Finding(
        "cluster",
        Severity.WRONG,
        f"these are {len(systems)} clusters, not one: {groups}",
        "A pool is for a primary and the standbys that replicate it: give each cluster "
        "a pool of its own.",
    )


def primary(servers: Sequence[Facts], need: Need | None) -> Finding | None:
    """Return whether there is one primary, if one is needed."""
    answering = [one for one in servers if one.role is not None]
    if not answering or need not in (None, Need.PRIMARY):
        return _standby(answering, need)
    found = {place_of(one): one.name for one in answering if one.role == "primary"}
    primaries = list(found.values())
    if len(primaries) == 1:
        return Finding("primary", Severity.FINE, f"{primaries[0]} is the primary")
    if primaries:
        return Finding(
            "primary",
            Severity.WRONG,
            f"{len(primaries)} servers say that they are the primary: "
            f"{', '.join(primaries)}",
            "Stop the one that was not meant to be, and make it a standby again with "
            "pg_rewind. Is each to be written to, give target_session_attrs=any.",
        )
    return Finding(
        "primary",
        # One name may be that of the readers.
        Severity.WARNING if need is None else Severity.WRONG,
        "no server that answers is the primary: what is written will be refused",
        "Name the primary too (host=db1,db2), or promote a standby. Is all of it only "
        "for reading, say so: target_session_attrs=standby.",
    )


def place_of(one: Facts) -> tuple[str | None, str]:
    """Return what tells a server from all others, whatever its name."""
    return (one.name, "") if one.started is None else (one.system, one.started)


def _standby(answering: Sequence[Facts], need: Need | None) -> Finding | None:
    if not answering or need is not Need.STANDBY:
        return None
    if any(one.role == "standby" for one in answering):
        return Finding("primary", Severity.FINE, "there is a standby, as is asked for")
    return Finding(
        "primary",
        Severity.WRONG,
        "target_session_attrs asks for a standby, and there is none",
        "Name a standby, or give target_session_attrs=prefer-standby.",
    )


def twice(servers: Sequence[Facts]) -> Finding | None:
    """Return whether each server is named once."""
    places: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    for one in servers:
        places[place_of(one)].append(one.name)
    several = [names for names in places.values() if len(names) > 1]
    if not several:
        return None
    same = "; ".join(" and ".join(names) for names in several)
    return Finding(
        "twice",
        Severity.WARNING,
        f"this is one server: {same}",
        "Name it once: a pool that takes it for two has twice the connections there.",
    )


def threads(plan: Plan) -> Finding | None:
    """Return whether each thread of a worker can have a connection."""
    if plan.threads is None:
        return None
    if plan.threads <= plan.size:
        return Finding("threads", Severity.FINE, "each thread can have a connection")
    return Finding(
        "threads",
        Severity.WARNING,
        f"a worker has {plan.threads} threads and {plan.size} connections, so threads "
        "will wait for each other",
        "Raise max_size (or PGDBPOOL_TOTAL), or run fewer threads.",
    )

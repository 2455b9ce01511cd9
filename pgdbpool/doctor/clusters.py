"""What follows from the facts about all servers of a pool, as one cluster. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pgdbpool.doctor.findings import Finding, Severity, fine, warning, wrong
from pgdbpool.endpoint.need import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdbpool.doctor.facts import Facts, Plan


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
        cluster(servers, need),
        primary(servers, need),
        twice(servers),
        threads(plan),
    ]
    return [finding for finding in found if finding is not None]


def cluster(servers: Sequence[Facts], need: Need | None) -> Finding | None:
    """Return whether all servers are of one cluster."""
    systems: dict[str, list[str]] = defaultdict(list)
    for one in servers:
        if one.system is not None:
            systems[one.system].append(one.name)
    if sum(map(len, systems.values())) <= 1:
        return None
    if len(systems) == 1:
        return fine("cluster", "all servers are of one cluster")
    groups = "; ".join(", ".join(names) for names in systems.values())
    text = f"these are {len(systems)} clusters, not one: {groups}"
    if need is Need.ANY:
        return warning(
            "cluster",
            f"{text}; with target_session_attrs=any each is written to",
            "Look whether what is written to one gets to the others (logical "
            "replication); else give each cluster a pool of its own.",
        )
    return wrong(
        "cluster",
        text,
        "A pool is for a primary and the standbys that replicate it: give each cluster "
        "a pool of its own.",
    )


def primary(servers: Sequence[Facts], need: Need | None) -> Finding | None:
    """Return whether there is one primary, if one is needed."""
    answering = [one for one in servers if one.role is not None]
    found = {place_of(one): one for one in answering if one.role == "primary"}
    primaries = list(found.values())
    if len(primaries) > 1 and need is not Need.STANDBY:
        return _several(primaries, need)
    if not answering or need not in (None, Need.PRIMARY):
        return _standby(answering, need)
    if primaries:
        return fine("primary", f"{primaries[0].name} is the primary")
    return Finding(
        "primary",
        # One name may be that of the readers.
        Severity.WARNING if need is None else Severity.WRONG,
        "no server that answers is the primary: what is written will be refused",
        "Name the primary too (host=db1,db2), or promote a standby. Is all of it only "
        "for reading, say so: target_session_attrs=standby.",
    )


def _several(primaries: Sequence[Facts], need: Need | None) -> Finding | None:
    """Return what two primaries mean: of one cluster that they have parted."""
    of_system: dict[str | None, list[Facts]] = defaultdict(list)
    for one in primaries:
        of_system[one.system].append(one)
    parted = [one for one in of_system.values() if len(one) > 1]
    if parted:
        return _parted(parted[0], need)
    if need not in (None, Need.PRIMARY):
        return None
    return wrong(
        "primary",
        _claim(primaries),
        "Give each cluster a pool of its own. Is each to be written to, since they "
        "replicate each other, give target_session_attrs=any.",
    )


def _parted(primaries: Sequence[Facts], need: Need | None) -> Finding | None:
    if need not in (None, Need.PRIMARY) and primaries[0].system is None:
        return None  # who knows whether they are of one cluster
    newest = max(one.timeline or 0 for one in primaries)
    latest = [one.name for one in primaries if one.timeline == newest]
    others = ", ".join(one.name for one in primaries if one.name not in latest)
    advice = "Find out whose data are wanted, and stop the other"
    if len(latest) == 1:
        advice = (
            f"{latest[0]} has the newer timeline, so it was promoted: stop {others}"
        )
    kin = "" if primaries[0].system is None else ", of one cluster"
    return Finding(
        "primary",
        Severity.WRONG if need in (None, Need.PRIMARY) else Severity.WARNING,
        f"{_claim(primaries)}{kin}: what is written to one is missing in the other",
        f"{advice}; make that a standby again with pg_rewind, by which what it alone "
        "has is lost.",
    )


def _claim(primaries: Sequence[Facts]) -> str:
    names = ", ".join(
        f"{one.name} (timeline {one.timeline})" if one.timeline else one.name
        for one in primaries
    )
    return f"{len(primaries)} servers say that they are the primary: {names}"


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

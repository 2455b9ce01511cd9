"""Rules about whether a service fits a server. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgdbpool.doctor.findings import Finding, Severity, fine, warning, wrong
from pgdbpool.gunicorn.budget import TOTAL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgdbpool.doctor.facts import Facts, Plan


class Room(NamedTuple):
    """What a server, a role or a database has left for the service.

    Attributes:
        free: connections, those that the service has already included.
        limit: what it may have in all.
        text: the sum in words.
    """

    free: int
    limit: int
    text: str


def room_of(facts: Facts) -> Room | None:
    """Return what bounds the service most; None if that is not known.

    Behind a pooler it is the pooler's business.
    """
    if facts.max_connections is None or facts.pooler is not None:
        return None
    return min(_rooms(facts, facts.max_connections), key=lambda room: room.free)


def _rooms(facts: Facts, limit: int) -> Iterator[Room]:
    in_use, reserved = facts.in_use or 0, facts.reserved or 0
    free = max(0, limit - reserved - in_use)
    parts = f"max_connections {limit}, {reserved} reserved, {in_use} in use by others"
    if facts.own:
        parts += f", {facts.own} taken for its own"
    if facts.own and not facts.named:
        parts += ": give PGDBPOOL_NAME"
    yield Room(free, limit, f"the server has {free} free ({parts})")
    if facts.superuser:  # whom PostgreSQL lets in all the same
        return
    for what, most, taken in (
        ("role", facts.role_limit, facts.role_in_use or 0),
        ("database", facts.database_limit, facts.database_in_use or 0),
    ):
        if most is not None and most >= 0:
            free = max(0, most - taken)
            parts = f"CONNECTION LIMIT {most}, {taken} in use by others"
            yield Room(free, most, f"the {what} has {free} free ({parts})")


def own(facts: Facts, plan: Plan) -> Finding | None:
    """Return whether only the service's connections are taken for its own."""
    if facts.own is None or facts.pooler is not None:
        return None
    text = f"{facts.own} connections there are taken for its own"
    if facts.named or facts.own <= plan.needed:
        return fine("own", text)
    return warning(
        "own",
        f"{text}, and it wants only {plan.needed}: it has no name to tell them from "
        f"others of {facts.user} by",
        "Give PGDBPOOL_NAME, the name of its pool, or application_name in the DSN; or "
        "say with --hosts, --workers and --threads how large it is.",
    )


def connections(facts: Facts, plan: Plan) -> Finding | None:
    """Return whether the connections of the service fit the server."""
    room = room_of(facts)
    if room is None:
        return None
    text = f"{plan}; {room.text}"
    if plan.needed <= room.free:
        return fine("connections", text)
    return wrong(
        "connections",
        f"{text}: does not fit, the server will refuse connections",
        f"Lower max_size, the workers or {TOTAL_VARIABLE}, raise the limit, or put "
        "PgBouncer in between.",
    )


def budget(facts: Facts, plan: Plan) -> Finding | None:
    """Return whether the service keeps its budget, and that fits the server."""
    if plan.total is None:
        return None
    room = room_of(facts)
    given = f"{TOTAL_VARIABLE}={plan.total}"
    problems = []
    if plan.on_each_host > plan.total:
        problems.append(f"{plan.on_each_host} connections of each host exceed {given}")
    if room is not None and plan.hosts * plan.total > room.free:
        hosts = "" if plan.hosts == 1 else f", {plan.hosts} times,"
        problems.append(f"{given}{hosts} is more than there is: {room.text}")
    if not problems:
        return fine("budget", f"within {given}")
    return warning(
        "budget",
        "; ".join(problems),
        "Give a smaller max_size or none, so that each worker takes its share, and a "
        f"{TOTAL_VARIABLE} that the server has.",
    )


def rolling(facts: Facts, plan: Plan) -> Finding | None:
    """Return whether the service fits twice, as while its processes are replaced."""
    fits, room = connections(facts, plan), room_of(facts)
    if fits is None or room is None or fits.severity is not Severity.FINE:
        return None
    if plan.needed * 2 <= room.free:
        return fine("rolling-restart", "fits twice, as a rolling restart needs")
    return warning(
        "rolling-restart",
        f"{plan} fits, but not twice in {room.free}, as a rolling restart needs",
        "Lower max_size, raise the limit, or stop the old processes before the new "
        "ones start.",
    )

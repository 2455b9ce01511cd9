"""Rules about whether a standby serves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgdbpool.doctor.findings import Finding, fine, warning
from pgdbpool.doctor.words import megabytes

if TYPE_CHECKING:
    from pgdbpool.doctor.facts import Facts
    from pgdbpool.settings import Settings


def lag(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether a standby replays in time what the primary writes."""
    if facts.lag is None or facts.role != "standby":
        return None
    text, longest = _told(facts)
    limit = settings.max_lag
    if limit is None or (longest is not None and longest <= limit):
        return fine("lag", text)
    meanwhile = "while it is so, the pool does not read from it"
    is_late = facts.lag > limit
    return warning(
        "lag",
        f"{text}: more than max_lag={limit:g}; {meanwhile}"
        if is_late
        else f"{text}: that may be more than max_lag={limit:g}, and then the pool does "
        "not read from it",
        "Look what holds the replaying up: a long query with "
        "max_standby_streaming_delay, the network or the disk.",
    )


def _told(facts: Facts) -> tuple[str, float | None]:
    """Return a lag in words, and how long it can be, None if nobody knows."""
    shortest = facts.lag or 0.0
    if facts.reached:
        text = f"it has replayed within {shortest:.1f} s what the primary had written"
        return text, shortest
    text = (
        f"after {shortest:.1f} s it has {megabytes(facts.lag_bytes or 0)} to replay yet"
    )
    if facts.replayed is None:
        return text, None
    longest = max(shortest, facts.replayed)
    return f"{text}, and its last commit is {longest:.1f} s old", longest


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

"""The truth about a run: every key looked up in the database, beside the pool."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pgdbpool.demo.report import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgdbpool.demo.driver import Seen


def judge(
    seen: Seen, counts: Mapping[str, int], restarts: int, switch_overs: int = 0
) -> tuple[Result, list[str]]:
    """Return the result of a run and what to say about it.

    A write that is there twice has failed, whatever its answer was.

    Args:
        seen: What the load saw.
        counts: How many orders each key has, for every key that has one.
        restarts: How often PostgreSQL was restarted under the load.
        switch_overs: How often a standby was made the primary under it.
    """
    lost = [key for key in seen.acknowledged if not counts.get(key)]
    written = seen.acknowledged + seen.unknown
    twice = [key for key in written if counts.get(key, 0) > 1]
    total = dataclasses.asdict(seen.total)
    total["failed"] += len(twice)
    result = Result(
        **total,
        restarts=restarts,
        switch_overs=switch_overs,
        acknowledged_writes=len(seen.acknowledged),
        lost_writes=len(lost),
    )
    return result, [*seen.reasons, *_notes(seen, counts, lost, twice)]


def _notes(
    seen: Seen, counts: Mapping[str, int], lost: list[str], twice: list[str]
) -> list[str]:
    notes = []
    if seen.unknown:
        there = sum(key in counts for key in seen.unknown)
        absent = len(seen.unknown) - there
        notes.append(
            "Writes whose COMMIT was cut off, looked up afterwards: "
            f"{there} there, {absent} not."
        )
    if lost:
        notes.append(f"Acknowledged and lost: {', '.join(lost[:5])}")
    if twice:
        notes.append(f"Written twice: {', '.join(twice[:5])}")
    return notes

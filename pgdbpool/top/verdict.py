"""How a pool is doing, in one line: the words of the page (`verdictOf`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgdbpool.top.texts import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdbpool.top.figures import Holder, Server

# So many reasons are told.
MOST_REASONS: Final = 2


@dataclass(frozen=True)
class Health:
    """What one worker's pool says of itself.

    Attributes:
        write_ready, read_ready, saturated, reasons: as of `PoolHealth`.
    """

    write_ready: bool
    read_ready: bool
    saturated: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """One pool in words.

    Attributes:
        kind: ``well``, ``busy`` or ``bad``.
        words: for people.
    """

    kind: str
    words: str


def verdict_of(
    health: Sequence[Health], holders: Sequence[Holder], servers: Sequence[Server]
) -> Verdict:
    """Return how a pool is doing.

    Args:
        health: as each worker that answers has it.
        holders: of its connections, in all workers, the longest first.
        servers: its endpoints, in its order.
    """
    told = dict.fromkeys(reason for one in health for reason in one.reasons)
    reasons = "; ".join([*told][:MOST_REASONS])
    if not all(one.read_ready for one in health):
        return Verdict("bad", f"not reachable: {reasons}")
    if not all(one.write_ready for one in health):
        return Verdict("bad", f"reads only: {reasons}")
    if any(one.saturated for one in health):
        return Verdict("busy", "saturated: all connections are in use")
    long = [one for one in holders if one.is_long]
    if long:
        return Verdict("busy", f"held for {_longest(long)}")
    away = [f"{one.name} is {one.state}" for one in servers if one.is_away]
    if away:
        return Verdict("busy", ", ".join(away))
    return Verdict("well", "all well")


def _longest(long: list[Holder]) -> str:
    one = long[0]
    whose = one.place if one.request is None else f"{one.request}, {one.place}"
    more = f", and {len(long) - 1} more" if len(long) > 1 else ""
    return f"{duration(one.seconds)}: {whose}{more}"

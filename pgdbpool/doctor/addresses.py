"""What was found at each address of one name, as endpoints."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from pgdbpool.doctor.facts import Facts, Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

# With these libpq goes on to the next address; any other answer is the last.
NOBODY: Final = (Trouble.UNREACHABLE, Trouble.SILENT)


def merged(name: str, addresses: Sequence[str], found: Sequence[Facts]) -> list[Facts]:
    """Return the facts of each server, of what was found at each address of a name.

    Args:
        name: host and port.
        addresses: of the name.
        found: in the same order.
    """
    answered = [facts for facts in found if facts.answers]
    if not answered:
        return [dataclasses.replace(_most_telling(found), name=name)]
    servers: dict[object, Facts] = {}
    for facts in answered:
        is_known = facts.started is not None
        key = (facts.system, facts.started) if is_known else id(facts)
        servers.setdefault(key, facts)
    several = list(servers.values())
    if len(several) == 1:
        several = [dataclasses.replace(several[0], name=name)]
    for address, facts in zip(addresses, found, strict=True):
        if facts.trouble in NOBODY:
            several[0].silent_addresses.append(address)
        elif not facts.answers:
            several[0].refusing_addresses[address] = facts.error or ""
    return several


def _most_telling(found: Sequence[Facts]) -> Facts:
    """Return who has said most of those that did not let us in; the first of equals."""
    order: dict[Trouble | None, int] = {Trouble.SILENT: 1, Trouble.UNREACHABLE: 2}
    return min(found, key=lambda one: order.get(one.trouble, 0))

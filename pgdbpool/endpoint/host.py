"""A host by its name: where that leads, and who was found there.

A name can have several addresses, of one server or of several. Who answers at each
tells: servers that say they were started at the same microsecond are one.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from pgdbpool.endpoint.standing import Finding

# An address has vanished when it is in none of so many answers: a name of several
# servers may give another one each time.
ANSWERS: Final = 6

# What ``localhost`` has are two addresses of one machine.
LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


Addresses = frozenset[str]


@dataclass(frozen=True, slots=True)
class Presence:
    """Who answered at one address.

    Attributes:
        started: when that server was started, which tells it from all others.
        finding: its part in its cluster.
    """

    started: str
    finding: Finding


class Host:
    """Where a name has led of late, and the surveys of that.

    Pure; the pool's lock guards it. A survey visits the addresses that are new, and if
    somebody answers there the others too, to compare.

    Args:
        name: the name.

    Attributes:
        name: the name.
        resolve_at: when to resolve it again, monotonic seconds; ``inf`` while it is.
        known: the addresses whose server is known.
        presences: who answered in the last survey, by address; None: nobody.
        pending: the addresses that are being visited.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.resolve_at = 0.0
        self.known: Addresses = frozenset()
        self.presences: dict[str, Presence | None] = {}
        self.pending: set[str] = set()
        self._answers: deque[Addresses] = deque(maxlen=ANSWERS)

    def answered(self, addresses: Addresses) -> None:
        """Take note of what the name was resolved to."""
        self._answers.append(addresses)

    @property
    def addresses(self) -> Addresses:
        """All that it led to of late."""
        return frozenset[str]().union(*self._answers)

    @property
    def is_sure(self) -> bool:
        """Whether it was resolved often enough to miss an address."""
        return len(self._answers) == ANSWERS

    def visit_next(self) -> Addresses:
        """Return where to go next; empty: the survey is over."""
        living = self.addresses
        new = living - self.known
        if len(living) < 2 or living <= LOOPBACK or not new:  # noqa: PLR2004 - several
            return frozenset()
        if new - self.presences.keys():
            return new - self.presences.keys()
        if any(self.presences[address] for address in new):
            return living - self.presences.keys()
        return frozenset()

    def servers(self) -> dict[Addresses, Finding]:
        """Return who answered: the addresses of each server, and its part."""
        found: dict[str, set[str]] = {}
        findings: dict[str, Finding] = {}
        for address, present in sorted(self.presences.items()):
            if present is not None:
                found.setdefault(present.started, set()).add(address)
                findings[present.started] = present.finding
        return {frozenset(at): findings[started] for started, at in found.items()}

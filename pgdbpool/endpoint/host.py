"""A host by its name: where that leads, and who was found there.

A name can have several addresses, of one server or of several. Who answers at each
tells: servers that say they were started at the same microsecond are one.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from pgdbpool.endpoint.standing import Finding

# An address has vanished when it is in none of so many answers in a row; of a name
# that gives only some of its addresses each time, in as many times more.
ANSWERS: Final = 6
MOST_ANSWERS: Final = 60

# Answers that are older, seconds, tell nothing of what is so now.
STALE: Final = 60.0

# So many addresses are visited at a time.
MOST_VISITS: Final = 8

# What ``localhost`` has are two addresses of one machine.
LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


Addresses = frozenset[str]


@dataclass(frozen=True, slots=True)
class Presence:
    """Who answered at one address.

    Attributes:
        started: when that server was started, which tells it from all others.
        finding: its part in its cluster.
        system: which cluster that is; None if it does not say.
    """

    started: str
    finding: Finding
    system: str | None = None


class Host:
    """Where a name has led of late, and the surveys of that.

    Pure; the pool's lock guards it. A survey visits the addresses that are new, and if
    somebody answers there the others too, to compare.

    Args:
        name: the name.

    Attributes:
        name: the name.
        resolve_at: when to resolve it again, monotonic seconds; ``inf`` while it is.
        answered_at: when it was last resolved.
        is_met: it was surveyed, if there was anything to survey.
        known: the addresses whose server is known.
        presences: who answered in the last survey, by address; None: nobody.
        pending: the addresses that are being visited.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.resolve_at = 0.0
        self.answered_at = -math.inf
        self.is_met = False
        self.known: Addresses = frozenset()
        self.presences: dict[str, Presence | None] = {}
        self.pending: set[str] = set()
        self._answers: deque[Addresses] = deque(maxlen=MOST_ANSWERS)

    def is_stale(self, now: float) -> bool:
        """Whether it may have come to lead elsewhere without being noticed."""
        return self.answered_at > -math.inf and now - self.answered_at > STALE

    def answered(self, addresses: Addresses, now: float) -> None:
        """Take note of what the name was resolved to."""
        if self.is_stale(now):
            self._answers.clear()
        self.answered_at = now
        self._answers.append(addresses)
        self.pending &= self.addresses

    @property
    def addresses(self) -> Addresses:
        """All that it led to of late."""
        return self._union(self._enough())

    @property
    def is_sure(self) -> bool:
        """Whether it was resolved often enough to miss an address."""
        return len(self._answers) >= self._enough()

    @property
    def latest(self) -> Addresses:
        """What it led to the last time."""
        return self._union(1)

    def _enough(self) -> int:
        """Return how many answers have all addresses in them."""
        largest = max(map(len, self._answers), default=0)
        if not largest:
            return ANSWERS
        times = -(-len(self._union(MOST_ANSWERS)) // largest)
        return min(ANSWERS * times, MOST_ANSWERS)

    def _union(self, number: int) -> Addresses:
        return frozenset[str]().union(*list(self._answers)[-number:])

    def visit_next(self) -> Addresses:
        """Return where to go next; empty: the survey is over."""
        living = self.addresses
        new = living - self.known
        if len(living) < 2 or living <= LOOPBACK or not new:  # noqa: PLR2004 - several
            return frozenset()
        left = new - self.presences.keys()
        if not left and any(self.presences[address] for address in new):
            left = living - self.presences.keys()
        return frozenset(sorted(left)[:MOST_VISITS])

    def conclude(self) -> None:
        """End a survey: who did not answer is new again."""
        self.is_met = True
        silent = {one for one, present in self.presences.items() if present is None}
        self.known = (self.known | self.presences.keys()) - silent

    def servers(self) -> dict[Addresses, Presence]:
        """Return who answered: each server, by its addresses."""
        found: dict[str, set[str]] = {}
        servers: dict[str, Presence] = {}
        for address, present in sorted(self.presences.items()):
            if present is not None:
                found.setdefault(present.started, set()).add(address)
                servers[present.started] = present
        return {frozenset(at): servers[started] for started, at in found.items()}

"""Who is the primary, how far the standbys are behind, whom to ask next.

Pure: facts and times come in as arguments, and the pool's lock guards the monitor.

A server that says it is the primary is believed once it was probed, and only while
nobody of a higher timeline was ever seen: each promotion begins a new one, so the
higher of two primaries is the one that was promoted (PostgreSQL manual,
"Timelines"). With equal timelines the one that was first stays.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Finding, Role
from pgdbpool.endpoint.state import State

# How often each server is asked, seconds: usually, and while no primary is known.
INTERVAL: Final = 1.0
SHORT_INTERVAL: Final = 0.1

# How many of the primary's positions are kept to measure lag in seconds by.
HISTORY: Final = 600

Tell = Callable[[str], object]


class Monitor:
    """What is known of the cluster as a whole.

    Args:
        endpoints: its servers.
        tell: what to do with a warning; called with the pool's lock held.
        wanted: what the user said a plain hold needs; None: nothing.

    Attributes:
        endpoints: its servers.
        is_settled: it is known which servers there are; before, nobody serves.
        primary: the endpoint that writes go to; None while none is known.
        standbys: the endpoints that are standbys, in the user's order.
        need: what serves who did not say: a primary if any was ever one, else anybody.
        leaderless_since: since when there has been no primary, monotonic seconds.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], tell: Tell, wanted: Need | None = None
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._tell = tell
        # Who wants any server writes to each that takes it, so none is one too many.
        self._is_primary_one = wanted is not Need.ANY
        self.is_settled = True
        self.primary: Endpoint | None = None
        self.standbys: tuple[Endpoint, ...] = ()
        self.need = Need.ANY
        self.leaderless_since: float | None = None
        # Timelines and positions are those of a cluster; its number, where known.
        self._highest: dict[str | None, int] = {}
        self._measured: str | None = None
        self._doubted: set[tuple[str, int | None]] = set()
        # When the primary was where, and without one who was furthest; both grow.
        self._times: deque[float] = deque(maxlen=HISTORY)
        self._positions: deque[int] = deque(maxlen=HISTORY)

    def regroup(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take note that these are the servers from now on."""
        self.endpoints = tuple(endpoints)
        self.leaderless_since = None
        self._elect(now)

    # Facts.

    def found(self, endpoint: Endpoint, finding: Finding, now: float) -> None:
        """Take note of what a probe of the endpoint found."""
        standing = endpoint.standing
        if not standing.is_known:
            # Who was never seen before has not been away, nor who lost a session.
            living = endpoint.count(State.IDLE, State.IN_USE, State.RESERVED)
            was_away = standing.role and endpoint.health.failures and not living
            standing.returned_at = now if was_away else None
            standing.pace, standing.pings = 0.0, 0
            standing.is_astray, standing.lag = False, None
        standing.found(finding, now)
        self._elect(now)
        if endpoint is self.primary and finding.position is not None:
            self._note_position(finding.position, now)
            for standby in self.standbys:
                self._compare(standby, finding.position, finding.asked_at)
                if standby.standing.lag is None:
                    self._measure_lag(standby, now)
                    self._ask_again(standby, now)
        elif finding.role is Role.STANDBY:
            self._measure_lag(endpoint, now)
            if self.primary is None and all(map(_is_met, self.endpoints)):
                self._follow_furthest(now)
        standing.probe_at = now + self._interval()

    def heard(self, endpoint: Endpoint, role: Role, now: float) -> None:
        """Take note of a role that a session reports between two probes."""
        standing = endpoint.standing
        if role is standing.role:
            return
        standing.heard(role, now)
        if role is Role.PRIMARY:
            standing.lost()  # not before its timeline is known
        self._elect(now)

    def lost(self, endpoint: Endpoint, now: float) -> None:
        """Take note that the endpoint lost a session or cannot be reached."""
        endpoint.standing.lost()
        self._elect(now)

    def _elect(self, now: float) -> None:
        claimants = [e for e in self.endpoints if _claims(e)]
        chosen = self._chosen(claimants)
        if self.primary not in chosen:
            self.primary = chosen[0] if chosen else None
            self._measure_by(self.primary)
        self.standbys = tuple(
            e for e in self.endpoints if e.standing.role is Role.STANDBY
        )
        if any(e.standing.was_primary for e in self.endpoints):
            self.need = Need.PRIMARY
        if self.primary is not None:
            self.leaderless_since = None
        elif self.leaderless_since is None:
            self.leaderless_since = now
        if self._is_primary_one:
            for endpoint in claimants:
                if endpoint is not self.primary:
                    self._doubt(endpoint)

    def _chosen(self, claimants: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return who may be the primary of those who say they are."""
        for standing in (e.standing for e in claimants):
            highest = self._highest.get(standing.system, 0)
            self._highest[standing.system] = max(highest, standing.timeline or 0)
        chosen = [e for e in claimants if not self._is_outvoted(e)]
        if len({e.standing.system for e in chosen}) > 1:  # one took another's place
            chosen = [e for e in chosen if _is_where_its_name_leads(e)] or chosen
        return chosen

    def _is_outvoted(self, endpoint: Endpoint) -> bool:
        """Whether a higher timeline of its cluster was seen."""
        standing = endpoint.standing
        return (standing.timeline or 0) < self._highest[standing.system]

    def _measure_by(self, primary: Endpoint | None) -> None:
        """Forget the positions of another cluster."""
        if primary is not None and primary.standing.system != self._measured:
            self._measured = primary.standing.system
            self._positions.clear()
            self._times.clear()
            for endpoint in self.endpoints:
                endpoint.standing.is_astray = False

    def _doubt(self, endpoint: Endpoint) -> None:
        """Warn, once, of a second server that says it is the primary."""
        ours = self.primary and self.primary.standing.system
        if self.primary is not None and ours != endpoint.standing.system:
            return  # it is another cluster's
        claim = (endpoint.name, endpoint.standing.timeline)
        if claim in self._doubted:
            return
        self._doubted.add(claim)
        other = (
            f"{self.primary.name} is, on timeline {self.primary.standing.timeline}"
            if self.primary is not None
            else f"timeline {self._highest[endpoint.standing.system]} was seen before"
        )
        self._tell(
            f"{endpoint.name} says it is the primary, on timeline {claim[1]}, but "
            f"{other}: nothing is written to it. Stop it, or make it a standby"
        )

    # Lag.

    def _follow_furthest(self, now: float) -> None:
        """Measure by who is furthest, as long as there is no primary to measure by."""
        positions = (standby.standing.position or 0 for standby in self.standbys)
        furthest = max(positions, default=0)
        # Also when a primary had written more: nobody has that any more.
        if not self._positions or furthest != self._positions[-1]:
            self._note_position(furthest, now)
            for standby in self.standbys:
                self._measure_lag(standby, now)

    def _note_position(self, position: int, now: float) -> None:
        while self._positions and position < self._positions[-1]:
            # A promoted standby that had not got everything.
            self._times.pop()
            self._positions.pop()
        self._times.append(now)
        self._positions.append(position)

    def _measure_lag(self, endpoint: Endpoint, now: float) -> None:
        """Compare with where the primary was when: also right when nothing moves."""
        standing = endpoint.standing
        if standing.position is None or not self._positions or standing.is_astray:
            standing.lag = standing.lag_bytes = None
            return
        if standing.lag is None and standing.position > self._positions[-1]:
            self._doubt_position()
            return
        standing.lag_bytes = max(0, self._positions[-1] - standing.position)
        reached = bisect_right(self._positions, standing.position)
        if reached == len(self._positions):
            standing.lag = 0.0
        elif reached == 0 and len(self._positions) < HISTORY:
            standing.lag = None  # since before anything is known: it may be hours
        else:
            standing.lag = now - self._times[max(reached - 1, 0)]

    def _doubt_position(self) -> None:
        """Ask the primary at once: who is new may only seem to be ahead of it."""
        if self.primary is not None and self.primary.standing.probe_at != math.inf:
            self.primary.standing.probe_at = 0.0

    def _compare(self, standby: Endpoint, position: int, asked_at: float) -> None:
        """See whether a standby has what the primary, asked later, has not written.

        A standby that was not rewound after a failover has, and cannot follow. When
        the primary has written as much, nothing tells; so it stays so until the
        standby is lost, as it is when it is rewound.
        """
        standing = standby.standing
        is_later = asked_at > standing.found_at and standing.system == self._measured
        if standing.is_astray or not is_later or (standing.position or 0) <= position:
            return
        standing.is_astray = True
        standing.lag = standing.lag_bytes = None
        self._tell(
            f"{standby.name} has replayed what the primary never wrote: nothing is "
            "read from it. Rewind it (pg_rewind), or make it anew"
        )

    def _ask_again(self, standby: Endpoint, now: float) -> None:
        """Ask soon who was asked a moment before the primary was, for the first time.

        What the primary wrote in between looks like a lag of unknown length.
        """
        standing = standby.standing
        if standing.lag is None and len(self._positions) == 1:
            standing.probe_at = min(standing.probe_at, now + SHORT_INTERVAL)

    # Probes.

    def _interval(self) -> float:
        return SHORT_INTERVAL if self.primary is None else INTERVAL

    def hurry(self, now: float) -> None:
        """Ask all at once, for there is no primary."""
        for endpoint in self.endpoints:
            standing = endpoint.standing
            if not endpoint.count(State.RESERVED):  # else it is being asked
                standing.probe_at = min(standing.probe_at, now + SHORT_INTERVAL)

    def next_probe(self) -> float:
        """Return when the next endpoint that has an idle connection is to be asked."""
        due = (e.standing.probe_at for e in self.endpoints if e.shelf)
        return min(due, default=math.inf)


def _is_met(endpoint: Endpoint) -> bool:
    """Whether a server has said who it is, or cannot be reached to say so."""
    return endpoint.standing.role is not None or endpoint.health.is_down


def _is_where_its_name_leads(endpoint: Endpoint) -> bool:
    host = endpoint.host
    return (
        host is None or not endpoint.addresses or bool(host.latest & endpoint.addresses)
    )


def _claims(endpoint: Endpoint) -> bool:
    standing = endpoint.standing
    return standing.role is Role.PRIMARY and standing.is_known

"""Which endpoint serves whom: decided at each acquire, in constant time.

Pure: reads what is known, changes nothing, and is called with the pool's lock held.

Reads go to one of two standbys drawn by chance, the one that has less to do: nearly
as even as looking at all, at the same cost for three as for fifty (Mitzenmacher,
"The Power of Two Choices in Randomized Load Balancing", 1996).
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from random import random
from typing import Final

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import State
from pgdbpool.routing.monitor import Monitor
from pgdbpool.settings import Settings

# Below this ratio two servers are equally fast: two sessions of one server differ by
# half of it, by the core they happen to run on.
AS_FAST: Final = 4.0
# Faster than this, seconds, is no difference: who is seldom asked wakes up slowly.
FASTEST: Final = 0.0005

# So often the first drawn serves, fast or slow: or one that was slow would remain so.
EXPLORED: Final = 1 / 16

# A server that came back may have this many holds at first, twice as many each
# second, until it has caught up with the rest.
FIRST_HOLDS: Final = 1
LONGEST_START: Final = 10.0


class Chooser:
    """The choice among the endpoints of one pool.

    Args:
        settings: the pool's.
        monitor: what is known of the servers.
        need: what a plain ``connection()`` needs; None: a primary if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        monitor: Monitor,
        need: Need | None,
    ) -> None:
        self._monitor = monitor
        self._need = need
        self._max_lag = settings.max_lag
        self._pick = {
            "least_in_use": self._less_in_use,
            "round_robin": self._next_in_turn,
            "weighted": self._by_weight,
            "nearest": self._nearest,
        }[settings.balance]
        self._turns = count()

    def need_of(self, hold: Hold) -> Need:
        """Return what a hold needs of its server."""
        return hold.need or self._need or self._monitor.need

    def order(self, hold: Hold, now: float) -> Iterator[Endpoint]:
        """Yield the endpoints that may serve a hold, the best first."""
        if not self._monitor.is_settled:
            return
        need = hold.need or self._need or self._monitor.need
        primary = self._monitor.primary
        if need is Need.PRIMARY:
            if primary is not None:
                yield primary
            return
        if need is Need.ANY:
            yield from self._some(self._monitor.endpoints, hold, now)
            return
        is_served = False
        for endpoint in self._some(self._monitor.standbys, hold, now):
            is_served = True
            yield endpoint
        if not is_served and need is Need.PREFER_STANDBY and primary is not None:
            yield primary

    def _some(
        self, endpoints: Sequence[Endpoint], hold: Hold, now: float
    ) -> Iterator[Endpoint]:
        for _ in endpoints:
            first = self._pick(endpoints)
            if self._may_read(first, hold, now):
                yield first
                endpoints = [one for one in endpoints if one is not first]
                break
        # Drawn again each time, or one of them would have the share of all others.
        left = [one for one in endpoints if self._may_read(one, hold, now)]
        while left:
            following = self._pick(left)
            left.remove(following)
            yield following

    def serves(self, endpoint: Endpoint, hold: Hold, now: float) -> bool:
        """Whether a connection that became available may be given to a hold."""
        if not self._monitor.is_settled:
            return False
        need = hold.need or self._need or self._monitor.need
        is_primary = endpoint is self._monitor.primary
        if need is Need.PRIMARY:
            return is_primary
        if need is Need.ANY:
            return True
        if endpoint.standing.role is Role.STANDBY:
            return self._may_read(endpoint, hold, now)
        if need is Need.STANDBY or not is_primary:
            return False
        standbys = self._monitor.standbys
        return not any(self._may_read(standby, hold, now) for standby in standbys)

    def readers(self, now: float) -> set[Endpoint]:
        """Return the standbys that may serve at this moment."""
        standbys = self._monitor.standbys
        return {one for one in standbys if self._may_read(one, None, now)}

    def _may_read(self, endpoint: Endpoint, hold: Hold | None, now: float) -> bool:
        standing, health = endpoint.standing, endpoint.health
        # Who refuses new logins, being full, serves on those it has.
        if health.unreachable_since or (health.refusal and not endpoint.entries):
            return False
        if standing.role is Role.STANDBY:
            if standing.is_astray or (hold is not None and endpoint is hold.avoided):
                return False
            limit = self._max_lag
            if limit is not None and (standing.lag is None or standing.lag > limit):
                return False
            after = None if hold is None else hold.after
            if after is not None and (standing.position or 0) < after:
                return False
        return _is_admitted(endpoint, now)

    # Policies: one endpoint of at least one.

    def _less_in_use(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        number = len(endpoints)
        chance = random() * number  # noqa: S311 - balance
        one = endpoints[int(chance)]
        if number == 1:
            return one
        if chance % 1.0 < EXPLORED:
            return one
        step = 1 + int((chance % 1.0) * (number - 1))
        other = endpoints[(int(chance) + step) % number]
        return other if _burden(other, one) < _burden(one, other) else one

    def _next_in_turn(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        return endpoints[next(self._turns) % len(endpoints)]

    def _by_weight(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        sums = list(accumulate(endpoint.weight for endpoint in endpoints))
        return endpoints[min(bisect(sums, random() * sums[-1]), len(sums) - 1)]  # noqa: S311 - balance

    def _nearest(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        return min(endpoints, key=_distance)


def _burden(endpoint: Endpoint, other: Endpoint) -> float:
    """Return what waits at one endpoint, as compared with another."""
    busy = (len(endpoint.entries) - len(endpoint.shelf) + 1) / endpoint.weight
    pace, others = endpoint.standing.pace, other.standing.pace
    if not others or pace <= max(others, FASTEST) * AS_FAST:
        return busy
    return busy * pace / others


def _distance(endpoint: Endpoint) -> float:
    trip = endpoint.standing.round_trip
    return float("inf") if endpoint.health.is_down or trip is None else trip


def _is_admitted(endpoint: Endpoint, now: float) -> bool:
    """Whether a server that came back has been given enough to do for the moment."""
    since = endpoint.standing.returned_at
    if since is None or now - since > LONGEST_START:
        return True
    return endpoint.count(State.IN_USE) < FIRST_HOLDS * 2 ** (now - since)

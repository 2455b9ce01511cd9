"""What can be asked of a pool's state: how many, who, and who is refused.

Nothing here changes anything; the pool's lock guards all that is looked at.
"""

import math
from collections.abc import Iterable, Sequence

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.state import State
from pgdbpool.errors import EndpointDown, NoPrimary, PoolError
from pgdbpool.routing.choose import Chooser
from pgdbpool.routing.monitor import Monitor, Tell
from pgdbpool.settings import Settings
from pgdbpool.waiters import Line


class Census:
    """The state of one pool, for questions.

    Args:
        endpoints: the servers.
        settings: the pool's.
        need: what a plain ``connection()`` needs where there are several; None: a
            primary if there is one.
        tell: what to do with a warning about the cluster.

    Attributes:
        endpoints: the servers.
        settings: the pool's.
        line: who waits for a connection.
        min_size, max_size: the limits, for each endpoint.
        is_open: whether the pool serves.
        is_single: there is but one endpoint, which serves everyone.
        monitor: who is who among several.
        chooser: which of several serves whom.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: Settings,
        need: Need | None,
        tell: Tell,
    ) -> None:
        self.endpoints = endpoints
        self.settings = settings
        self.min_size = settings.min_size
        self.max_size = settings.max_size
        self.is_open = False
        self.line = Line()
        self.monitor = Monitor(endpoints, tell, need)
        self.chooser = Chooser(settings, self.monitor, need)
        # Where there is but one name, nobody is served before it is known where that
        # leads: it can be a standby.
        is_alone = len(endpoints) == 1
        self.monitor.is_settled = not (
            is_alone and endpoints[0].host and settings.threaded
        )
        self.is_single = is_alone and self.monitor.is_settled
        for endpoint in endpoints:
            endpoint.is_alone = is_alone

    def candidates(self, hold: Hold, now: float) -> Iterable[Endpoint]:
        """Return who may serve a hold, the best first."""
        return self.endpoints if self.is_single else self.chooser.order(hold, now)

    def next_for(self, endpoint: Endpoint, now: float) -> Hold | None:
        """Return the first in line whom an endpoint may serve."""
        for waiter in self.line:
            hold = waiter.hold
            if hold is not None and (
                self.is_single or self.chooser.serves(endpoint, hold, now)
            ):
                return hold
        return None

    def is_ready_for(self, hold: Hold, now: float) -> bool:
        """Whether ``min_size`` are open at each server that would serve a hold."""
        servers = list(self.candidates(hold, now))
        states = (State.IDLE, State.IN_USE, State.RESERVED)
        are_ready = all(one.count(*states) >= self.min_size for one in servers)
        return bool(servers) and are_ready

    def is_wanted(self, conn: PooledConnection, now: float) -> bool:
        """Whether somebody waits who may have a connection as it is: for writing."""
        hold = self.next_for(conn.entry.endpoint, now) if self.line else None
        return hold is not None and not hold.is_reading

    def refuses(self, hold: Hold, now: float) -> type[PoolError] | None:
        """Return how a caller is refused who found nothing idle, None: it waits."""
        serving = self.monitor.endpoints
        refusals = {self._refusal(endpoint, now) for endpoint in serving}
        if None not in refusals:
            return EndpointDown if len(refusals) > 1 else refusals.pop()
        if self.is_single or self.chooser.need_of(hold) is not Need.PRIMARY:
            return None
        since, grace = self.monitor.leaderless_since, self.settings.grace
        if since is None or grace is None or now - since < grace:
            return None
        return NoPrimary

    def _refusal(self, endpoint: Endpoint, now: float) -> type[EndpointDown] | None:
        health = endpoint.health
        if health.has_lasted(self.settings.grace, now):
            return EndpointDown
        # What is in use comes back, and what is connecting may succeed yet.
        if health.refusal and not endpoint.entries:
            return health.refusal
        return None

    def refusal_due(self, now: float) -> float:
        """Return when those who wait will be refused, if nothing gets better.

        A time that is over changed what there was to change.
        """
        grace = self.settings.grace
        if grace is None or not self.line:
            return math.inf
        since = [
            endpoint.health.unreachable_since
            for endpoint in self.endpoints
            if endpoint.health.unreachable_since is not None
        ]
        if not self.is_single and self.monitor.leaderless_since is not None:
            since.append(self.monitor.leaderless_since)
        coming = (one for one in since if now - one < grace)
        return min(coming, default=math.inf) + grace

    def is_deadlocked(self, hold: Hold, now: float) -> bool:
        """Whether no holder could ever release once this one stands in line too."""
        servers = self._servers_of(hold, now)
        if any(len(endpoint.entries) < self.max_size for endpoint in servers):
            return False
        # Only a holder closes the circle, and few who wait are one.
        if hold.thread not in {h.thread for h in self.holds()}:
            return False
        waiting = {hold, *(w.hold for w in self.line if w.hold is not None)}
        while hold in waiting:
            threads = {h.thread for h in waiting}
            served = {h for h in waiting if self._can_be_served(h, threads, now)}
            if not served:
                return True
            waiting -= served
        return False

    def _can_be_served(self, hold: Hold, stuck: set[int], now: float) -> bool:
        """Whether a server may come to serve a hold, though some threads are stuck."""
        servers = self._servers_of(hold, now)
        return not servers or not all(self._is_held(e, stuck) for e in servers)

    def _servers_of(self, hold: Hold, now: float) -> Sequence[Endpoint]:
        if self.is_single:
            return self.endpoints
        return [e for e in self.monitor.endpoints if self.chooser.serves(e, hold, now)]

    def _is_held(self, endpoint: Endpoint, stuck: set[int]) -> bool:
        """Whether all of a server is in the blocks and requests of some threads."""
        return len(endpoint.entries) >= self.max_size and all(
            entry.hold is not None
            and entry.conn is not None
            and entry.hold.is_block
            and entry.hold.thread in stuck
            for entry in endpoint.entries
        )

    def is_short(self) -> bool:
        """Whether somebody waits here for what other pools have."""
        return False

    def room(self) -> str:
        """Return how full a limit is that other pools share, for messages."""
        return ""

    def count(self, *states: State) -> int:
        """Return how many entries are in one of the states."""
        return sum(endpoint.count(*states) for endpoint in self.endpoints)

    def size(self) -> int:
        """Return how many entries there are."""
        return sum(len(endpoint.entries) for endpoint in self.endpoints)

    def holds(self) -> list[Hold]:
        """Return the holds, oldest first."""
        found = [
            entry.hold
            for endpoint in self.endpoints
            for entry in endpoint.entries
            if entry.hold is not None
        ]
        return sorted(found, key=lambda hold: hold.since)

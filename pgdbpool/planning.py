"""Which connects to begin: for who waits, for ``min_size``, to find a lost server.

What is decided is only planned: a job, which whoever comes by carries out without
the pool's lock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from pgdbpool.census import Census
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.host import Host
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.settings import Settings
from pgdbpool.stats import Stats

# More connects at a time would mostly come too late: each release serves a
# waiter as well, and what is no longer wanted loads the server for nothing.
MOST_CONNECTING: Final = 4

Job = Callable[[], object]


class Acts(NamedTuple):
    """What a roster decides and others do: each makes a job of it."""

    begin_connect: Callable[[Entry], Job]
    close: Callable[[PooledConnection, Reason], Job]
    probe: Callable[[Entry, PooledConnection], Job]
    resolve: Callable[[Host], Job]
    visit: Callable[[Endpoint, str], Job]
    warn: Callable[[str], Job]


class Planner(Census):
    """A census that decides on connects; the pool's lock guards it.

    Args:
        endpoints: the servers.
        settings: the pool's.
        need: what a plain ``connection()`` needs where there are several; None: a
            primary if there is one.
        acts: make the jobs of what was decided.

    Attributes:
        jobs: what was decided and is to be done without the lock.
        stats: what happened so far.
        is_filling: whether the pool keeps ``min_size`` open, which it does from its
            first use on.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: Settings,
        need: Need | None,
        acts: Acts,
    ) -> None:
        super().__init__(endpoints, settings, need, self.warn)
        self.jobs: deque[Job] = deque()
        self.stats = Stats()
        self.is_filling = False
        self._acts = acts

    def warn(self, text: str) -> None:
        """Have an operator told, without the lock."""
        self.jobs.append(self._acts.warn(text))

    def plan(self, now: float, asked: float | None = None) -> None:
        """Decide which connects to begin: for waiters, for min_size, as a probe.

        Args:
            now: monotonic seconds.
            asked: when somebody asked who is not in line; None: nobody did.
        """
        if not self.is_open:
            return
        demand = self._demand(now)
        hold = self.line[0].hold if self.line else None
        since = asked if hold is None else hold.since
        for endpoint in self.endpoints:
            for _ in range(self._wanted(endpoint, demand.get(endpoint, 0), now)):
                self.open_at(endpoint, now, since)

    def meet(self, now: float, pause: float = 0.0) -> None:
        """Begin a connect to each server that has none and may be tried.

        Args:
            now: monotonic seconds.
            pause: how long what has failed is left alone, at least, seconds.
        """
        for endpoint in self.endpoints:
            if self._may_meet(endpoint, now, pause):
                self.open_at(endpoint, now, now)

    def _may_meet(self, endpoint: Endpoint, now: float, pause: float) -> bool:
        health = endpoint.health
        again = (
            max(health.retry_at, health.error_at + pause) if health.failures else now
        )
        return self.is_open and not endpoint.entries and again <= now

    def grow(self, endpoint: Endpoint, now: float) -> None:
        """Open one more where a hold should have been served, but none was idle.

        Else who once has more connections than the others serves more for ever.
        """
        if (
            self.is_open
            and len(endpoint.entries) < self.max_size
            and not endpoint.health.needs_pause
            and not endpoint.count(State.CONNECTING)
        ):
            self.open_at(endpoint, now)

    def open_at(
        self,
        endpoint: Endpoint,
        now: float,
        since: float | None = None,  # noqa: ARG002 - for who has to share
    ) -> Entry | None:
        """Begin a connect, whoever it is for.

        Args:
            endpoint: the server.
            now: monotonic seconds.
            since: when who needs it asked for it; None: it could as well not be.

        Returns:
            Its entry; None: it cannot be yet.
        """
        self.stats.connections_num += 1
        entry = endpoint.new_entry(now)
        self.jobs.append(self._acts.begin_connect(entry))
        return entry

    def _demand(self, now: float) -> dict[Endpoint, int]:
        """Return for how many who wait each endpoint should have a connection."""
        if self.is_single:
            return {self.endpoints[0]: len(self.line)}
        demand = dict.fromkeys(self.endpoints, 0)
        room = sum(self._room(endpoint) for endpoint in self.endpoints)
        for waiter in islice(self.line, room):
            assert waiter.hold is not None  # noqa: S101 - see `_serve`
            for endpoint in self.chooser.order(waiter.hold, now):
                if demand[endpoint] < self._room(endpoint):
                    demand[endpoint] += 1
                    break
        return demand

    def _is_to_be_met(self, endpoint: Endpoint) -> bool:
        """Whether a connect is due only to learn who a server is."""
        is_of_interest = not endpoint.entries or self.monitor.primary is None
        can_ask = (State.CONNECTING, State.IDLE, State.RESERVED)
        return bool(self.line) and is_of_interest and not endpoint.count(*can_ask)

    def _room(self, endpoint: Endpoint) -> int:
        """Return how many more it may have, those under way among them."""
        connecting = endpoint.count(State.CONNECTING)
        return max(0, self.max_size - len(endpoint.entries)) + connecting

    def _wanted(self, endpoint: Endpoint, waiting: int, now: float) -> int:
        size = len(endpoint.entries)
        room = self.max_size - size
        if room <= 0 or endpoint.is_leaving:
            return 0
        connecting = endpoint.count(State.CONNECTING)
        wanted = waiting - connecting
        if self.is_filling:
            wanted = max(wanted, self.min_size - size)
        if not self.is_single and self._is_to_be_met(endpoint):
            wanted = max(wanted, 1)
        health = endpoint.health
        if health.needs_pause:
            # One prober at a time, whoever waits; the first success opens the door.
            is_wanted = wanted > 0 or (health.is_down and self.is_filling)
            is_due = connecting == 0 and now >= health.retry_at
            return int(is_wanted and is_due)
        return max(0, min(wanted, room, MOST_CONNECTING - connecting))

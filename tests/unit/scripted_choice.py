"""A chooser among servers of which the test says how they are."""

import heapq
import itertools
import sys
from collections import Counter

import pytest

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold, Reading, StrictReading
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import FEWEST_PINGS
from pgdbpool.endpoint.state import State
from pgdbpool.routing.choose import Chooser
from pgdbpool.routing.monitor import Monitor
from pgdbpool.settings import Settings
from tests.unit.scripted_cluster import POSITION, primary_at, standby_at
from tests.unit.scripted_roster import REFUSED, START

FRAME = sys._getframe()
WRITING = Hold(START, FRAME, None, True)
READING = Reading(START, FRAME, None, True)
STRICT = StrictReading(START, FRAME, None, True)

FAST = 0.001  # seconds of a ping


class Choice:
    """A chooser among a primary and three standbys that are all well.

    Attributes:
        primary, standbys: the endpoints, by role.
        endpoints: all of them, the primary first.
        now: the time, which only the test moves.
    """

    def __init__(
        self,
        *,
        need: Need = Need.PRIMARY,
        weights: tuple[float, ...] = (1, 1, 1),
        **given: object,
    ) -> None:
        settings = Settings.of("", given)
        self.endpoints = [
            Endpoint({"host": f"db{number}"}, {}, settings, weight)
            for number, weight in enumerate((1.0, *weights), 1)
        ]
        self.primary, *self.standbys = self.endpoints
        self.monitor = Monitor(self.endpoints, pytest.fail)
        self.now = START
        self.monitor.found(self.primary, primary_at(POSITION), self.now)
        for standby in self.standbys:
            self.monitor.found(standby, standby_at(POSITION), self.now)
        self.chooser = Chooser(settings, self.monitor, need)

    def order(self, hold: Hold) -> list[Endpoint]:
        """Return who may serve a hold, the best first."""
        return list(self.chooser.order(hold, self.now))

    def first(self, hold: Hold = READING) -> Endpoint:
        """Return who serves a hold."""
        return next(iter(self.chooser.order(hold, self.now)))

    def shares(self, number: int = 3000, hold: Hold = READING) -> dict[Endpoint, float]:
        """Return who serves how much, while nothing is in use anywhere."""
        served = Counter(self.first(hold) for _ in range(number))
        return {endpoint: served[endpoint] / number for endpoint in self.endpoints}

    def busy(self, endpoint: Endpoint, number: int) -> None:
        """Let so many connections of an endpoint be in use."""
        while len(endpoint.entries) < number:
            endpoint.new_entry(self.now).state = State.IN_USE

    def come_back(self, endpoint: Endpoint) -> None:
        """Let a standby be away for a moment."""
        endpoint.health.connect_failed(REFUSED, self.now)
        self.monitor.lost(endpoint, self.now)
        self.monitor.found(endpoint, standby_at(POSITION), self.now)
        endpoint.health.connected()

    def answer_pings(self, endpoint: Endpoint, seconds: float) -> None:
        """Let an endpoint take so long to answer, many times."""
        for _ in range(10 * FEWEST_PINGS):
            endpoint.standing.answered(seconds)

    def drive(
        self, takes: dict[Endpoint, float], *, clients: int = 12, holds: int = 6000
    ) -> dict[Endpoint, float]:
        """Let clients hold one after the other; return each endpoint's share.

        Args:
            takes: how long a hold takes at each endpoint.
            clients: how many there are, each with one hold at a time.
            holds: how many in all.
        """
        numbers = itertools.count()
        ends: list[tuple[float, int, Endpoint | None]] = [
            (0.0, next(numbers), None) for _ in range(clients)
        ]
        served: Counter[Endpoint] = Counter()
        for _ in range(holds):
            when, _number, endpoint = heapq.heappop(ends)
            if endpoint is not None:
                endpoint.entries.pop()
            endpoint = self.first()
            endpoint.new_entry(self.now)
            served[endpoint] += 1
            heapq.heappush(ends, (when + takes[endpoint], next(numbers), endpoint))
        return {endpoint: served[endpoint] / holds for endpoint in self.endpoints}

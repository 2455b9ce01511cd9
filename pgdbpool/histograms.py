"""How long waits, holds and connects took: a bounded number of histograms."""

import re
from bisect import bisect_left
from types import CodeType
from typing import Final, Protocol

# Seconds; the buckets that OpenTelemetry's semantic conventions advise for
# ``db.client.connection.wait_time`` and ``use_time``.
BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

# So many routes have histograms of their own; the others share one.
MOST_ROUTES: Final = 100
OTHER: Final = "(other)"
# So many requests are remembered with their route, to be found without a search.
MOST_REQUESTS: Final = 1000

# What differs from one request of a route to the next: numbers, identifiers, tokens.
_VARIABLE = re.compile(r"(?<=/)(?:\d+|[0-9a-fA-F-]{16,}|[^/]{41,})(?=/|$)")


class Ended(Protocol):
    """What is known of a hold that has ended; see `endpoint.entry.Hold`."""

    code: CodeType
    instruction: int
    route: str | None
    waited: float

    @property
    def place(self) -> str:
        """Where it was acquired."""


class Histogram:
    """Durations, sorted into buckets.

    Attributes:
        counts: how many were up to each of `BOUNDS`, but not to the one before; last,
            how many were longer.
        total: the sum, seconds.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Routes:
    """Histograms of waits and holds for each route, up to `MOST_ROUTES`."""

    def __init__(self) -> None:
        self._routes: dict[str, tuple[Histogram, Histogram]] = {}
        # With the code, so that no other comes to have its identity.
        self._known: dict[object, tuple[Histogram, Histogram, object]] = {}

    def add(self, hold: Ended, held: float) -> None:
        """Count one more hold that has ended, after so many seconds."""
        # Where there is no request, by the identity of the code: its hash would take
        # longer than all the rest.
        key = hold.route or (id(hold.code), hold.instruction)
        waits, holds, _ = self._known.get(key) or self._find(hold, key)
        waits.add(hold.waited)
        holds.add(held)

    def _find(self, hold: Ended, key: object) -> tuple[Histogram, Histogram, object]:
        route = route_name(hold)
        if route not in self._routes and len(self._routes) >= MOST_ROUTES:
            route = OTHER
        if route not in self._routes:
            self._routes[route] = (Histogram(), Histogram())
        if len(self._known) >= MOST_REQUESTS:
            self._known.clear()
        return self._known.setdefault(key, (*self._routes[route], hold.code))

    def items(self) -> list[tuple[str, Histogram, Histogram]]:
        """Return each route with its waits and holds."""
        return [(route, *pair) for route, pair in self._routes.items()]


def route_name(hold: Ended) -> str:
    """Return the route of a hold: its request's, else the place that acquired."""
    return hold.place if hold.route is None else route_of(hold.route)


def route_of(request: str) -> str:
    """Return what requests of one route have in common: ``GET /order/*``.

    Parts of the path that are numbers, identifiers or longer than 40 characters are
    taken for what differs, and so is a query.
    """
    return _VARIABLE.sub("*", request.partition("?")[0])

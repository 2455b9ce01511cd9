"""How long waits, holds and connects took: a bounded number of histograms."""

import functools
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

# What differs from one request of a route to the next, and what could be a secret.
# Words stay: ``password-reset-confirm``, ``oauth2``, ``getUserProfile``.
_VARIABLE = re.compile(
    r"""(?<=/)(?:
        (?=[^/]*\d)[^/A-Za-z]+                            # a number, a date
        | [0-9A-Fa-f-]{16,}                               # a UUID, a digest
        | (?=[^/]*\d)(?=[^/]*[A-Za-z])[^/]{12,}           # a token
        | (?=[^/]*\d[^/\d]*[A-Za-z][^/\d]*\d)[^/]{8,}     # a short one
        | (?=[^/]*\d)(?=[^/]*[a-z])(?=[^/]*[A-Z])[^/]{8,}
        | (?=(?:[^/]*?[a-z][A-Z]){3})[^/]+                # one without digits
        | (?=[^/]*[a-z][A-Z])(?=[^/]*[A-Z]{2})[^/]{16,}
        | [^/@;+%=,]*[@;+%=,][^/]*                        # an address, a parameter
        | [^/]{25,}
    )(?=/|$)""",
    re.VERBOSE,
)


class Requested(Protocol):
    """What a hold tells of its request; see `endpoint.entry.Hold`."""

    request: str | None


class Ended(Requested, Protocol):
    """What is known of a hold that has ended."""

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
    return route_in(hold) or hold.place


def route_in(hold: Requested) -> str | None:
    """Return the route of a hold's request, as a framework or the path tells it."""
    request, rule = hold.request, getattr(hold, "route", None)
    if rule is None or rule is request:
        return None if request is None else route_of(request)
    return rule_of(rule)


@functools.lru_cache(maxsize=MOST_REQUESTS)
def route_of(request: str) -> str:
    """Return what requests of one route have in common: ``GET /order/*``.

    Parts of the path that are numbers, identifiers, addresses, like tokens or longer
    than 24 characters are taken for what differs, and so is a query.
    """
    return _VARIABLE.sub("*", request.partition("?")[0])


@functools.lru_cache(maxsize=MOST_REQUESTS)
def rule_of(rule: str) -> str:
    """Return a framework's rule; what is fixed in it can be a secret, too.

    Placeholders stay, as in ``GET /order/<int:number>``.
    """
    return _VARIABLE.sub(lambda part: part[0] if "<" in part[0] else "*", rule)

"""What is counted of a pool for its metrics, and nowhere else."""

import threading
from collections import Counter
from typing import Final, Protocol

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import PoolError
from pgdbpool.histograms import BOUNDS, OTHER, Histogram
from pgdbpool.snapshot import Timings

# So many endpoints have series of their own: where a name leads may change for ever.
MOST_ENDPOINTS: Final = 100


class Listener(Protocol):
    """Who wants to know that something has happened, whatever it was."""

    is_listening: bool

    def stir(self, is_release: bool) -> None:  # noqa: FBT001 - on the path of every hold
        """Take note of an event."""


class Tally:
    """Counts refusals by their kind, and connects by their endpoint.

    Args:
        listener: is told of each event; None: nobody is.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child must."""
        # The lock guards these three. A finalizer that acquires or connects while this
        # thread is here comes through.
        self._lock = threading.RLock()
        self._refused: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._connects: dict[str, Histogram] = {}

    def acquired(self, hold: Hold, waited: float, error: PoolError | None) -> None:  # noqa: ARG002 - an `Observer`
        """Take note that a hold was served, or refused."""
        if error is not None:
            with self._lock:
                self._refused[type(error).__name__] += 1
        listener = self._listener
        if listener is not None and listener.is_listening:
            listener.stir(False)

    def released(self, hold: Hold, held: float) -> None:  # noqa: ARG002 - as above
        """Take note that a hold has ended."""
        listener = self._listener
        if listener is not None and listener.is_listening:
            listener.stir(True)

    def connected(
        self, endpoint: Endpoint, seconds: float, error: BaseException | None
    ) -> None:
        """Take note that a connect has succeeded, or failed."""
        with self._lock:
            name = endpoint.name
            if name not in self._connects:
                if len(self._connects) >= MOST_ENDPOINTS:
                    name = OTHER
                self._connects.setdefault(name, Histogram())
            if error is None:
                self._connects[name].add(seconds)
            else:
                self._failed[name] += 1
        listener = self._listener
        if listener is not None and listener.is_listening:
            listener.stir(False)

    def refused(self) -> dict[str, int]:
        """Return how many acquires were refused, by the names of the errors."""
        with self._lock:
            return dict(self._refused)

    def connects(self) -> dict[str, tuple[Timings, int]]:
        """Return how long connects took, and how many failed, by endpoint."""
        with self._lock:
            return {
                name: (
                    Timings(BOUNDS, tuple(histogram.counts), histogram.total),
                    self._failed[name],
                )
                for name, histogram in self._connects.copy().items()
            }

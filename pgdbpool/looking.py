"""What can be asked of a pool at any moment, by people and programs."""

from pgdbpool.care import Caring
from pgdbpool.endpoint.snapshot import EndpointState
from pgdbpool.endpoint.state import State
from pgdbpool.stats import Stats


class Looking(Caring):
    """The part of `ConnectionPool` that tells how it is doing."""

    def __repr__(self) -> str:
        """Return name, sizes and endpoints in one line."""
        roster = self._roster
        with self._lock:
            state = "open" if roster.is_open else "closed"
            endpoints = ", ".join(map(repr, roster.endpoints))
            return (
                f"<ConnectionPool {self.name!r} {state} {roster.min_size}-"
                f"{roster.max_size}, {len(roster.line)} waiting: {endpoints}>"
            )

    @property
    def min_size(self) -> int:
        """How many connections are kept open."""
        return self._roster.min_size

    @property
    def max_size(self) -> int:
        """How many connections there can be."""
        return self._roster.max_size

    @property
    def timeout(self) -> float | None:
        """How long an acquire may take, in seconds."""
        return self.settings.timeout

    @property
    def endpoints(self) -> list[EndpointState]:
        """How each server is doing at this moment."""
        with self._lock:
            return [EndpointState.of(e, self.max_size) for e in self._roster.endpoints]

    @property
    def closed(self) -> bool:
        """Whether the pool refuses to serve: closed, or not open yet."""
        return not self._roster.is_open

    def get_stats(self) -> dict[str, int]:
        """Return counters and sizes, by the names psycopg_pool has for them."""
        with self._lock:
            return self._stats()

    def pop_stats(self) -> dict[str, int]:
        """Return what `get_stats` does and begin to count from zero."""
        with self._lock:
            stats = self._stats()
            self._roster.stats = Stats()
        return stats

    def _stats(self) -> dict[str, int]:
        roster = self._roster
        return {
            "pool_min": roster.min_size * len(roster.endpoints),
            "pool_max": roster.max_size * len(roster.endpoints),
            "pool_size": roster.size(),
            "pool_available": roster.count(State.IDLE),
            "requests_waiting": len(roster.line),
            **roster.stats.as_dict(),
        }

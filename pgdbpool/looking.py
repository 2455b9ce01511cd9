"""What can be asked of a pool at any moment, by people and programs."""

from time import monotonic
from typing import Protocol

from pgdbpool.care import Caring
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.snapshot import EndpointState
from pgdbpool.endpoint.state import State
from pgdbpool.errors import PoolError, SettingsError
from pgdbpool.snapshot import Holder, Measured, PoolHealth, PoolState, Sight
from pgdbpool.stats import Stats


class Observer(Protocol):
    """Who is told of all that happens; called without the lock, must not block."""

    def acquired(self, hold: Hold, waited: float, error: PoolError | None, /) -> None:
        """Take note that a hold was served, or refused, after so many seconds."""

    def released(self, hold: Hold, held: float, /) -> None:
        """Take note that a hold has ended after so many seconds."""

    def connected(
        self, endpoint: Endpoint, seconds: float, error: BaseException | None, /
    ) -> None:
        """Take note that a connect has succeeded, or failed."""


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

    @property
    def tells_routes(self) -> bool:
        """Whether somebody is told of which route a request is."""
        given = self.settings
        is_observed = given.observe or given.leak_warn_after is not None
        return is_observed or given.sql_comments

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who is told of each acquire, release and connect; add to it with ``+=``.

        Raises:
            SettingsError: the pool was made without ``observe=True``.
        """
        raise SettingsError(
            f"observe: must be True for pool {self.name!r} to have observers"
        )

    @observers.setter
    def observers(self, _: tuple[Observer, ...]) -> None:
        _ = self.observers  # raises

    def holders(self) -> list[Holder]:
        """Return who has a connection, the longest first. Does not block."""
        with self._lock:
            now = monotonic()  # not before: who comes meanwhile holds from later on
            sight = Sight.of(self._roster, now)
        return sight.holders()

    def snapshot(self) -> PoolState:
        """Return all there is to see, of one moment. Does not block."""
        with self._lock:
            outline, sight = self._outline(), Sight.of(self._roster, monotonic())
        return outline.filled(sight)

    def outline(self) -> PoolState:
        """Return what `snapshot` does without connections and line. Does not block."""
        with self._lock:
            return self._outline()

    def _outline(self) -> PoolState:
        measured = self._measured()
        return PoolState.outline(self.name, self._roster, self._stats(), measured)

    def _measured(self) -> Measured:
        """Return what was measured; under the lock."""
        return {}, None

    def health(self, *, connect: bool = True) -> PoolHealth:
        """Return whether the pool can serve, as far as it knows. Acquires nothing.

        A pool that has reached no server begins to open a connection, so that the next
        answer is another. Without threads, and without a server that takes writes, it
        does so here and now, and blocks for as long as that takes. With a shared limit
        that is reached it may close a connection meanwhile.

        Args:
            connect: False: it does neither.
        """
        found = self._health()
        if not connect or found.write_ready or self.closed:
            return found
        self._seek(is_lost=not found.read_ready)
        return found if self.settings.threaded else self._health()

    def _health(self) -> PoolHealth:
        with self._lock:
            return PoolHealth.of(self._roster, monotonic())

    def get_stats(self) -> dict[str, int]:
        """Return counters and sizes, by the names psycopg_pool has for them.

        Two are our own: ``requests_served``, which got their connection, and
        ``requests_released``, which have given it back.
        """
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

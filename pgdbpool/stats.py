"""What a pool counts: events only, since every state can be looked up.

The names are those of ``psycopg_pool``'s ``get_stats()``. Two are our own, for means
that are true: ``requests_served`` have waited for ``requests_wait_ms``, together with
``requests_errors``, and ``requests_released`` have held for ``usage_ms``.
"""

import dataclasses


@dataclasses.dataclass(slots=True)
class Stats:
    """Counters of one pool since it was made, guarded by the pool's lock.

    Times are seconds here and whole milliseconds in `as_dict`.

    Attributes:
        requests_unserved: those of ``requests_num`` that have no connection: they wait,
            or were refused. Below zero when `pop_stats` came while they waited. It is
            counted in the place of who was served, which is on the path of every
            acquire.
    """

    requests_num: int = 0
    requests_unserved: int = 0
    requests_queued: int = 0
    requests_wait: float = 0.0
    requests_errors: int = 0
    requests_released: int = 0
    usage: float = 0.0
    returns_bad: int = 0
    connections_num: int = 0
    connections_time: float = 0.0
    connections_errors: int = 0
    connections_lost: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by the names of psycopg_pool, and the two of our own."""
        return {
            "requests_num": self.requests_num,
            "requests_queued": self.requests_queued,
            "requests_wait_ms": int(self.requests_wait * 1000),
            "requests_errors": self.requests_errors,
            "requests_served": self.requests_num - self.requests_unserved,
            "requests_released": self.requests_released,
            "usage_ms": int(self.usage * 1000),
            "returns_bad": self.returns_bad,
            "connections_num": self.connections_num,
            "connections_ms": int(self.connections_time * 1000),
            "connections_errors": self.connections_errors,
            "connections_lost": self.connections_lost,
        }

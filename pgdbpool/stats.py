"""What a pool counts: events only, since every state can be looked up.

The names are those of ``psycopg_pool``'s ``get_stats()``.
"""

import dataclasses


@dataclasses.dataclass(slots=True)
class Stats:
    """Counters of one pool since it was made, guarded by the pool's lock.

    Times are seconds here and whole milliseconds in `as_dict`.
    """

    requests_num: int = 0
    requests_queued: int = 0
    requests_wait: float = 0.0
    requests_errors: int = 0
    usage: float = 0.0
    returns_bad: int = 0
    connections_num: int = 0
    connections_time: float = 0.0
    connections_errors: int = 0
    connections_lost: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by the names that psycopg_pool has for them."""
        return {
            "requests_num": self.requests_num,
            "requests_queued": self.requests_queued,
            "requests_wait_ms": int(self.requests_wait * 1000),
            "requests_errors": self.requests_errors,
            "usage_ms": int(self.usage * 1000),
            "returns_bad": self.returns_bad,
            "connections_num": self.connections_num,
            "connections_ms": int(self.connections_time * 1000),
            "connections_errors": self.connections_errors,
            "connections_lost": self.connections_lost,
        }

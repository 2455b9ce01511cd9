"""Which pools are shown: those that were given, else all that serve."""

from __future__ import annotations

from pgdbpool.errors import SettingsError
from pgdbpool.pool import ConnectionPool, all_pools


class Pools:
    """The pools of this process that are shown.

    Args:
        given: these; none: all it has at that moment, but for those that are closed or
            not open yet, of which nobody knows whether they are wanted still.

    Raises:
        SettingsError: one of them is no pool.
    """

    def __init__(self, given: tuple[ConnectionPool, ...]) -> None:
        for pool in given:
            if not isinstance(pool, ConnectionPool):
                raise SettingsError(f"pools: {pool!r} is no ConnectionPool")
        self._given = given

    @property
    def names(self) -> list[str] | None:
        """What those are called that were given; None: there were none."""
        return sorted(pool.name for pool in self._given) or None

    @property
    def may_be_shared(self) -> bool:
        """Whether any thread may look at one of them, now or later."""
        return not self._given or bool(self.shared())

    def all(self) -> list[ConnectionPool]:
        """Return those that the thread of a request may look at."""
        return list(self._given) or [pool for pool in all_pools() if not pool.closed]

    def shared(self) -> list[ConnectionPool]:
        """Return those that any thread may look at."""
        return [pool for pool in self.all() if pool.settings.threaded]

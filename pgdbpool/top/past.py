"""What the pools did in each of the last seconds, as far as it has been heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgdbpool.top.told import count, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Some workers are late with their last seconds: these are asked for again.
OVERLAP: Final = 5
# What is kept, seconds.
LENGTH: Final = 300


class Moment(NamedTuple):
    """What a pool did in a second, or in some seconds together.

    Attributes:
        seconds: in how many.
        acquires: holds that were asked for.
        served, errors: acquires that got a connection, and that were refused.
        waited: how long those had waited, seconds; in all.
        released: holds that ended.
        held: how long those had lasted, seconds; in all.
        lost: sessions that were lost.
    """

    seconds: int
    acquires: int
    served: int
    errors: int
    waited: float
    released: int
    held: float
    lost: int

    @property
    def wait(self) -> float | None:
        """How long who waited did so, in the mean; None: nobody did."""
        number = self.served + self.errors
        return self.waited / number if number else None

    @property
    def hold(self) -> float | None:
        """How long a hold lasted, in the mean; None: none ended."""
        return self.held / self.released if self.released else None


class Past:
    """The last minutes of each pool.

    The clock is the service's: that of whoever looks may be another.

    Attributes:
        since: of what was up to this second nothing new is to be heard.
        now: the last second of which something can be known.
    """

    def __init__(self) -> None:
        self.since = 0
        self.now = 0
        self._moments: dict[str, dict[int, Moment]] = {}
        self._silent: set[int] = set()

    def add(self, state: dict[str, Any]) -> None:
        """Take in what a status page tells.

        Raises:
            ArithmeticError, LookupError, TypeError, ValueError, AttributeError: it
                tells something else.
        """
        taken_at = int(seconds(state["taken_at"]))
        columns = state["history"]["columns"]
        for name, rows in state["history"]["pools"].items():
            mine = self._moments.setdefault(name, {})
            for values in rows:
                row = dict(zip(columns, values, strict=True))
                mine[count(row["second"])] = _moment(row)
        # What a worker did while it was silent, nobody but itself has told.
        is_back = any(
            one["answers"] and one["pid"] in self._silent for one in state["workers"]
        )
        self._silent = {one["pid"] for one in state["workers"] if not one["answers"]}
        self.since = 0 if is_back else max(0, taken_at - OVERLAP)
        # Of the one that has just ended not every worker knows.
        self.now = taken_at - 1
        for mine in self._moments.values():
            for second in [*mine]:
                if not self.now - LENGTH < second <= self.now:
                    del mine[second]

    def known(self, names: Iterable[str]) -> int:
        """Return how many seconds ago the first was that is known of these pools."""
        first = [min(self._moments.get(name, ()), default=self.now) for name in names]
        return self.now - min(first, default=self.now) + 1

    def last(self, name: str, number: int) -> list[Moment | None]:
        """Return that many seconds of a pool, the oldest first; None: not known."""
        mine = self._moments.get(name, {})
        begin = self.now - number + 1
        return [mine.get(second) for second in range(begin, self.now + 1)]


def together(moments: Sequence[Moment | None]) -> Moment | None:
    """Return the sums; None: nothing is known of any."""
    known = [one for one in moments if one is not None]
    if not known:
        return None
    return Moment(*(sum(values) for values in zip(*known, strict=True)))


def _moment(row: dict[str, Any]) -> Moment:
    return Moment(
        seconds=1,
        acquires=count(row["acquires"]),
        served=count(row["served"]),
        errors=count(row["errors"]),
        waited=count(row["waited_ms"]) / 1000,
        released=count(row["released"]),
        held=count(row["held_ms"]) / 1000,
        lost=count(row["lost"]),
    )

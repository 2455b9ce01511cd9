"""How long the requests of each route wait and hold, with `observe`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pgdbpool.top.part import Part
from pgdbpool.top.sheet import Column, Sheet
from pgdbpool.top.texts import duration
from pgdbpool.top.told import count, seconds

if TYPE_CHECKING:
    from pgdbpool.top.figures import Figures
    from pgdbpool.top.window import Window

# So many of those are shown that hold for longest, all their holds together.
MOST: Final = 8
FAIR: Final = 3
NARROWEST: Final = 12
# This share of the holds is within a bound.
SHARE: Final = 0.95


@dataclass
class Route:
    """The requests of one route of one pool, in all workers.

    Attributes:
        pool, name: which.
        waited, held: how long, seconds; in all.
        bounds: of the buckets, seconds.
        counts: how many holds there are in each, and last beyond all.
    """

    pool: str
    name: str
    waited: float = 0.0
    held: float = 0.0
    bounds: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, told: dict[str, Any]) -> None:
        """Take in what a worker has measured."""
        self.waited += seconds(told["waits"]["total"])
        self.held += seconds(told["holds"]["total"])
        self.bounds = [seconds(bound) for bound in told["holds"]["bounds"]]
        counts = [count(one) for one in told["holds"]["counts"]]
        mine = self.counts or [0] * (len(self.bounds) + 1)
        self.counts = [one + other for one, other in zip(mine, counts, strict=True)]

    @property
    def number(self) -> int:
        """How many holds there were."""
        return sum(self.counts)

    @property
    def within(self) -> str:
        """How long most holds were at most."""
        passed = 0
        for bound, number in zip(self.bounds, self.counts, strict=False):
            passed += number
            if passed >= SHARE * self.number:
                return duration(bound)
        return f"over {duration(self.bounds[-1])}" if self.bounds else "-"


def routes(figures: Figures, window: Window) -> Part:
    """Return those first that keep connections busy for longest."""
    several = len(figures.pools) > 1
    sheet = Sheet(
        [
            *[Column("pool", least=4)][:several],
            Column("route", least=NARROWEST),
            Column("holds", is_number=True),
            Column("wait, mean", rank=1, is_number=True),
            Column("hold, mean", is_number=True),
            Column("95 % within", rank=2, is_number=True),
        ],
        window.glyphs.cut,
    )
    for one in figures.routes[:MOST]:
        sheet.add(
            *[one.pool][:several],
            one.name,
            f"{one.number:,}",
            duration(one.waited / one.number),
            duration(one.held / one.number),
            one.within,
        )
    heading, lines = sheet.lines(window.width)
    more = max(0, len(figures.routes) - MOST)
    return Part([heading], lines, fair=FAIR, more=more)

"""The last minutes of each pool, a bar for every few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from pgdbpool.top.past import Moment, together
from pgdbpool.top.sheet import Cell, Column, Sheet
from pgdbpool.top.texts import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgdbpool.top.figures import Figures
    from pgdbpool.top.window import Window

# So many seconds are "now".
RECENT: Final = 5
# Errors matter for longer.
MINUTE: Final = 60
WIDEST: Final = 100
NARROWEST: Final = 10


@dataclass(frozen=True)
class Kind:
    """What a chart is of.

    Attributes:
        name: its.
        value: of some seconds together; None: there is none.
        in_words: what is said of a value.
        style: of its bars.
    """

    name: str
    value: Callable[[Moment], float | None]
    in_words: Callable[[float | None], str]
    style: str


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    is_whole = value >= 9.95 or value == int(value)  # noqa: PLR2004 - what would be 10.0
    return f"{value:,.{0 if is_whole else 1}f}/s"


KINDS: Final = (
    Kind("acquires", lambda one: one.acquires / one.seconds, _rate, "cyan"),
    Kind("wait", lambda one: one.wait, duration, "yellow"),
    Kind("hold", lambda one: one.hold, duration, "cyan"),
    Kind("errors", lambda one: (one.errors + one.lost) / one.seconds, _rate, "red"),
)


def charts(figures: Figures, window: Window) -> tuple[Text, list[Text]]:
    """Return a heading, and a line for each chart of each pool."""
    past, names = figures.past, [one.name for one in figures.pools]
    span = max(MINUTE, past.known(names))
    several = [Column("pool", least=4)] if len(names) > 1 else []
    sheet = Sheet(
        [
            *several,
            Column(""),
            Column(
                f"the last {duration(span)}",
                least=NARROWEST,
                most=WIDEST,
                is_number=True,
            ),
            Column("now", is_number=True),
            Column("highest", rank=1, is_number=True),
        ],
        window.glyphs.cut,
    )
    for kind in KINDS:
        for name in names:
            seconds = past.last(name, span)
            sheet.add(
                *[name][: len(several)],
                kind.name,
                _drawn(kind, seconds, past.now, window.glyphs.bars),
                _now(kind, seconds),
                kind.in_words(_highest(kind, seconds)),
            )
    return sheet.lines(window.width)


def _drawn(
    kind: Kind, seconds: Sequence[Moment | None], now: int, bars: str
) -> Callable[[int], Text]:
    """Return what draws it in so many columns."""

    def draw(width: int) -> Text:
        values = [
            None if one is None else kind.value(one)
            for one in shared(seconds, now, width)
        ]
        return Text(sparkline(values, bars)[-width:], kind.style)

    return draw


def shared(
    seconds: Sequence[Moment | None], now: int, width: int
) -> list[Moment | None]:
    """Return as many parts of some seconds as there is room for, the oldest first.

    They begin where the clock can be divided: what is in one part stays together.

    Args:
        seconds: the last ones, to `now`.
        now: the last second.
        width: how many parts there may be, but for one that is not whole.
    """
    share = -(-len(seconds) // max(1, width))
    begin = now - len(seconds) + 1
    parts: dict[int, list[Moment | None]] = {}
    for second, one in enumerate(seconds, begin):
        parts.setdefault(second // share, []).append(one)
    return [together(part) for part in parts.values()]


def sparkline(values: Sequence[float | None], bars: str) -> str:
    """Return a bar for each value, the highest filling its line.

    What is not known has none, and what is not nothing is never lowest.
    """
    most = max((value for value in values if value is not None), default=0.0)
    return "".join(
        " " if value is None else bars[_level(value, most, len(bars) - 1)]
        for value in values
    )


def _level(value: float, most: float, highest: int) -> int:
    return max(1, int(value / most * highest)) if value > 0 else 0


def _now(kind: Kind, seconds: Sequence[Moment | None]) -> Cell:
    if kind.name != "errors":
        recent = together(seconds[-RECENT:])
        return Cell(kind.in_words(None if recent is None else kind.value(recent)))
    minute = together(seconds[-MINUTE:])
    if minute is None:
        return Cell("-")
    lost = f", {minute.lost} lost" if minute.lost else ""
    is_bad = minute.errors or minute.lost
    return Cell(f"{minute.errors} in 60 s{lost}", "bold red" if is_bad else "")


def _highest(kind: Kind, seconds: Sequence[Moment | None]) -> float | None:
    """Return the highest that was ever now."""
    sums = (
        together(seconds[max(0, end - RECENT) : end])
        for end in range(1, len(seconds) + 1)
    )
    values = (kind.value(one) for one in sums if one is not None)
    return max((value for value in values if value is not None), default=None)

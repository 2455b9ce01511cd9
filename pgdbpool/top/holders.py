"""Who has a connection for longest, and who waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgdbpool.top.part import Part
from pgdbpool.top.sheet import Cell, Column, Sheet
from pgdbpool.top.texts import duration, text

if TYPE_CHECKING:
    from pgdbpool.top.figures import Figures
    from pgdbpool.top.window import Window

# Of the longest so many are shown.
MOST: Final = 8
NARROWEST: Final = 12
GOOD: Final = 20
# So many lines have room before other parts have more, and before they have all.
LEAST: Final = 2
FAIR: Final = 4


def waiting(figures: Figures, window: Window) -> Part:
    """Return those first who have waited for longest."""
    several = len(figures.pools) > 1
    sheet = Sheet(
        [
            Column(f"{figures.line} waiting", is_number=True),
            *[Column("pool", least=4)][:several],
            Column("request", least=NARROWEST, good=GOOD),
            Column("acquires at", least=NARROWEST, good=GOOD, has_end=True),
            Column("worker", rank=1),
        ],
        window.glyphs.cut,
    )
    for one in figures.waiting[:MOST]:
        sheet.add(
            Cell(duration(one.seconds), "yellow"),
            *[one.pool][:several],
            one.request or "-",
            one.place,
            str(one.worker),
        )
    heading, lines = sheet.lines(window.width)
    more = max(0, figures.line - MOST)
    return Part([heading], lines, LEAST, FAIR, more)


def holders(figures: Figures, window: Window) -> Part:
    """Return those first who have had one for longest."""
    if not figures.holders:
        return Part([], [text("nobody has a connection", "dim")], fair=1)
    several = len(figures.pools) > 1
    sheet = Sheet(
        [
            Column("held for", is_number=True),
            *[Column("pool", least=4)][:several],
            Column("request", least=NARROWEST, good=GOOD),
            Column("acquired at", least=NARROWEST, good=GOOD, has_end=True),
            Column("transaction", least=11, rank=2),
            Column("worker", rank=3),
            Column("server", least=NARROWEST, rank=4),
            Column("backend", rank=1),
        ],
        window.glyphs.cut,
    )
    for one in figures.holders[:MOST]:
        mark = f"{window.glyphs.long} " if one.is_long else ""
        sheet.add(
            Cell(f"{mark}{duration(one.seconds)}", "bold red" if one.is_long else ""),
            *[one.pool][:several],
            one.request or "-",
            one.place,
            one.transaction,
            str(one.worker),
            one.server,
            "-" if one.backend is None else str(one.backend),
        )
    heading, lines = sheet.lines(window.width)
    more = max(0, len(figures.holders) - MOST)
    return Part([heading], lines, LEAST, FAIR, more)

"""The servers of the pools, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from pgdbpool.top.sheet import Cell, Column, Sheet
from pgdbpool.top.texts import cut, duration, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgdbpool.top.figures import Figures, Server
    from pgdbpool.top.window import Glyphs, Window

WIDEST_CELLS: Final = 40
NARROWEST_CELLS: Final = 4
NARROWEST_NAME: Final = 12
# Where workers differ about a server, this says so; other columns go first.
GOOD_ROLE: Final = len("primary and standby")
GOOD_STATE: Final = len("up (10), unknown (10)")
# What a server said is shown as far as that.
LONGEST_ERROR: Final = 600


def servers(figures: Figures, window: Window) -> tuple[Text, list[Text]]:
    """Return a heading, and a line for each server of each pool."""
    sheet = Sheet(
        [
            Column("pool", least=4),
            Column("server", least=NARROWEST_NAME),
            Column("role", least=7, good=GOOD_ROLE),
            Column("state", least=7, good=GOOD_STATE),
            Column("lag", rank=1, is_number=True),
            Column("round trip", rank=2, is_number=True),
            Column("used"),
            Column("", least=NARROWEST_CELLS, most=WIDEST_CELLS, rank=3),
        ],
        window.glyphs.cut,
    )
    for one in figures.servers:
        sheet.add(
            one.pool,
            one.name,
            one.role,
            Cell(one.state, _style_of(one)),
            duration(one.lag if one.role == "standby" else None),
            duration(one.round_trip),
            f"{one.in_use}/{one.most}",
            _cells(one, window.glyphs),
        )
    return sheet.lines(window.width)


def _style_of(server: Server) -> str:
    if server.is_well:
        return "green"
    return "bold red" if server.is_away else "yellow"


def _cells(server: Server, glyphs: Glyphs) -> Callable[[int], Text]:
    """Return what draws a cell for each connection, or for several if they are many."""
    free = server.most - server.in_use - server.idle - server.connecting
    kinds = (
        (server.long, glyphs.long, "bold red"),
        (server.in_use - server.long, glyphs.in_use, "cyan"),
        (server.connecting, glyphs.connecting, "yellow"),
        (server.idle, glyphs.idle, "green"),
        (free, glyphs.free, "dim"),
    )

    def draw(width: int) -> Text:
        share = max(1, -(-server.most // max(1, width)))
        drawn = Text()
        for count, cell, style in kinds:
            drawn.append(cell * min(width, -(-max(count, 0) // share)), style)
        return drawn[:width]

    return draw


def errors(figures: Figures) -> Iterator[Text]:
    """Return what those said that are not well, if no verdict tells it already."""
    verdicts = [pool.verdict.words for pool in figures.pools]
    said = dict.fromkeys(
        (one.name, one.last_error)
        for one in figures.servers
        if one.last_error is not None
        and not any(one.last_error in words for words in verdicts)
    )
    for name, error in said:
        yield text(f"{name}: {cut(error, LONGEST_ERROR, '...')}", "red")


def legend(window: Window) -> Text:
    """Return what the cells mean."""
    glyphs = window.glyphs
    words = (
        f"{glyphs.in_use} in use",
        f"{glyphs.long} for long",
        f"{glyphs.connecting} being opened",
        f"{glyphs.idle} idle",
        f"{glyphs.free} not open",
    )
    return window.cropped(text("  ".join(words), "dim"))

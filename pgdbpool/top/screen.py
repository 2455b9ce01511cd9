"""How it looks in a terminal: what there is room for, the most urgent on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from pgdbpool.top.part import Part
from pgdbpool.top.parts import parts_of
from pgdbpool.top.texts import text
from pgdbpool.top.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from pgdbpool.top.figures import Figures


class Screen:
    """All of it, as far as the console's height goes.

    Args:
        figures: what to show; None: there is nothing yet.
        trouble: why there is nothing newer; empty: there is.
    """

    def __init__(self, figures: Figures | None, trouble: str = "") -> None:
        self._figures = figures
        self._trouble = trouble

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Draw it."""
        window = Window.of(console, options)
        parts = []
        if self._trouble:
            lines = window.folded(text(self._trouble, "bold red"))
            parts.append(Part([], lines, least=len(lines)))
        if self._figures is not None:
            parts += parts_of(self._figures, window)
        lines = _fitting(parts, window.height)
        yield Text("\n").join(map(window.cropped, lines))


def _fitting(parts: Sequence[Part], height: int) -> list[Text]:
    """Return the lines of all parts that there is room for."""
    rooms = shares(parts, height)
    found = [part.within(room) for part, room in zip(parts, rooms, strict=True)]
    found = [lines for lines in found if lines]
    used = sum(map(len, found))
    # Some air between them, if it takes nothing away.
    if used + len(found) - 1 > height:
        return [line for lines in found for line in lines]
    return [line for lines in found for line in (*lines, Text())][:-1]


def shares(parts: Sequence[Part], height: int) -> list[int]:
    """Return how many lines each part has.

    First each has what it needs at least, then what is fair, then all it wants; each
    time those come first that stand first.
    """
    rooms = [0] * len(parts)
    for wants in (
        [part.wants(part.least) for part in parts],
        [part.wants(part.fair) for part in parts],
        [part.full for part in parts],
    ):
        for at, wanted in enumerate(wants):
            room = min(wanted, rooms[at] + height - sum(rooms))
            if room > len(parts[at].heading):
                rooms[at] = max(rooms[at], room)
    return rooms

"""A part of the screen, and how many of its lines are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgdbpool.top.texts import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text


@dataclass(frozen=True)
class Part:
    """Something that is shown, all of it or less.

    Attributes:
        heading: lines above it.
        lines: the most urgent first.
        least: so many of the lines come before more of any other part.
        fair: so many come before all of any other part.
        more: how many there are besides the lines.
    """

    heading: Sequence[Text]
    lines: Sequence[Text]
    least: int = 0
    fair: int = 0
    more: int = 0

    def wants(self, number: int) -> int:
        """Return the room for so many of its lines, with the heading."""
        lines = min(number, len(self.lines) + bool(self.more))
        return len(self.heading) + lines if lines else 0

    @property
    def full(self) -> int:
        """The room for all of it."""
        return self.wants(len(self.lines) + 1)

    def within(self, room: int) -> list[Text]:
        """Return as much as has room, and how much there is besides."""
        lines = room - len(self.heading)
        if lines < 1:
            return []
        if lines >= len(self.lines) and not self.more:
            return [*self.heading, *self.lines]
        # The last line says how many are left out, but for the only one.
        shown = self.lines[: max(1, lines - 1)]
        rest = len(self.lines) - len(shown) + self.more
        note = [text(f"and {rest} more", "dim")][: lines - len(shown)]
        return [*self.heading, *shown, *note]

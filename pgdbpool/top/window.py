"""What is drawn on, and with what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

INDENT: Final = "  "


@dataclass(frozen=True)
class Glyphs:
    """What is drawn with.

    Attributes:
        bars: of a chart, the lowest first.
        in_use, long, connecting, idle, free: connections.
        cut: stands for what has no room.
    """

    bars: str
    in_use: str
    long: str
    connecting: str
    idle: str
    free: str
    cut: str


UNICODE: Final = Glyphs("▁▂▃▄▅▆▇█", "■", "▲", "◌", "□", "·", "…")
# For terminals that say they have no more.
ASCII: Final = Glyphs("_.:-=+*#", "#", "!", "~", "o", ".", "~")


@dataclass(frozen=True)
class Window:
    """A terminal's.

    Attributes:
        console: whose it is.
        width: no line is wider.
        height: of all lines together.
        glyphs: what it can show.
    """

    console: Console
    width: int
    height: int
    glyphs: Glyphs

    @classmethod
    def of(cls, console: Console, options: ConsoleOptions) -> Window:
        """Return what a console tells of itself."""
        glyphs = ASCII if options.ascii_only else UNICODE
        return cls(console, options.max_width, options.size.height, glyphs)

    def cropped(self, line: Text) -> Text:
        """Return as much of a line as there is room for."""
        line.truncate(self.width, overflow="crop")
        return line

    def folded(self, line: Text) -> list[Text]:
        """Return a line as several, of which all but the first are indented."""
        room = max(1, self.width - len(INDENT))
        first, *rest = lines = line.wrap(self.console, room, overflow="fold")
        for one in lines:
            one.rstrip()
        return [first, *(Text(INDENT) + one for one in rest)]

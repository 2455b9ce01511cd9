"""Words for a terminal: harmless, short, and as the page says them."""

from __future__ import annotations

import math
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from pgdbpool import terminal

# More of one text is never looked at.
LONGEST: Final = 2000
# Below so many seconds a duration has this unit, digits of a fraction, and name.
UNITS: Final[tuple[tuple[float, float, int, str], ...]] = (
    (0.00995, 0.001, 1, "ms"),
    (0.0995, 0.001, 0, "ms"),
    (9.95, 1.0, 1, "s"),
    (119.5, 1.0, 0, "s"),
    (7170.0, 60.0, 0, "min"),
    (math.inf, 3600.0, 0, "h"),
)


def printable(words: str) -> str:
    """Return what is looked at of it, without what a terminal would obey."""
    return terminal.printable(words[:LONGEST])


def text(words: str, style: str = "") -> Text:
    """Return a text in which nothing is markup, whoever has said it."""
    return Text(printable(words), style)


def cut(words: str, width: int, mark: str, *, from_left: bool = False) -> str:
    """Return as much of it as has room in so many columns, with a mark if not all."""
    if cell_len(words) <= width:
        return words
    if width < 1:
        return ""
    step = -1 if from_left else 1
    kept, room = 0, width - 1
    for one in words[::step]:
        room -= cell_len(one)
        if room < 0:
            break
        kept += 1
    return mark + words[len(words) - kept :] if from_left else words[:kept] + mark


def duration(seconds: float | None) -> str:
    """Return it in the page's words; below 10 ms with tenths."""
    if seconds is None:
        return "-"
    _, unit, digits, name = next(one for one in UNITS if seconds < one[0])
    # Rounded as JavaScript does: not to the even one of two.
    tenths = 10**digits
    value = math.floor(max(0.0, seconds) / unit * tenths + 0.5) / tenths
    return f"{value:.{digits}f} {name}"


def counted(number: int, noun: str) -> str:
    """Return how many there are, with the noun in its plural if need be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

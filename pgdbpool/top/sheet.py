"""A table whose columns share the width of a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.cells import cell_len
from rich.text import Text

from pgdbpool.top.texts import cut, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP: Final = 2


@dataclass(frozen=True)
class Cell:
    """Words of one style."""

    words: str
    style: str = ""


# Words, or what draws in so many columns.
Content: TypeAlias = "Cell | Callable[[int], Text]"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: what stands above.
        least: it may be cut to this width; None: to none.
        good: before it is cut further than this, others are left out.
        most: what is drawn in it takes up to this width of what is left over.
        rank: where there is no room the highest is left out first; 0: never.
        is_number: it stands on the right.
        has_end: of what is too long the end is shown.
    """

    heading: str
    least: int | None = None
    good: int = 0
    most: int = 0
    rank: int = 0
    is_number: bool = False
    has_end: bool = False


class Sheet:
    """Rows of a table.

    Args:
        columns: from left to right.
        mark: stands for what was cut off.
    """

    def __init__(self, columns: Sequence[Column], mark: str) -> None:
        self._columns = columns
        self._mark = mark
        self._rows: list[tuple[Content, ...]] = []

    def add(self, *cells: str | Content) -> None:
        """Add a row. Nothing in it is markup, or anything that a terminal obeys.

        Args:
            *cells: for each column words, or a function that draws in so many columns.
        """
        self._rows.append(tuple(map(_clean, cells)))

    def lines(self, width: int) -> tuple[Text, list[Text]]:
        """Return the heading and the rows, none of them wider than that."""
        kept = list(range(len(self._columns)))
        ranks = sorted({column.rank for column in self._columns}, reverse=True)
        for rank in ranks:
            kept = [at for at in kept if self._columns[at].rank <= rank]
            if widths := self._widths(kept, width, "good"):
                break
        else:
            widths = self._widths(kept, width, "least") or self._natural(kept)
        heading = tuple(Cell(column.heading, "dim") for column in self._columns)
        lines = [
            self._line([row[at] for at in kept], kept, widths, width)
            for row in (heading, *self._rows)
        ]
        return lines[0], lines[1:]

    def _natural(self, kept: list[int]) -> list[int]:
        found = []
        for at in kept:
            cells = [row[at] for row in self._rows]
            words = [cell.words for cell in cells if isinstance(cell, Cell)]
            column = self._columns[at]
            found.append(max(map(cell_len, [column.heading, *words])))
            if column.most:
                found[-1] = max(found[-1], column.least or 0)
        return found

    def _widths(self, kept: list[int], width: int, limit: str) -> list[int] | None:
        """Return how wide each column is; None: there is no room for so many.

        Args:
            kept: the columns.
            width: of all together.
            limit: the attribute that says how far they may be cut.
        """
        widths = self._natural(kept)
        left = width - sum(widths) - GAP * (len(kept) - 1)
        giving = [
            n
            for n, at in enumerate(kept)
            if self._columns[at].least is not None and not self._columns[at].most
        ]
        while left < 0:
            giving = [n for n in giving if widths[n] > self._least(kept[n], limit)]
            if not giving:
                return None
            widest = max(giving, key=lambda n: widths[n])
            widths[widest] -= 1
            left += 1
        for n, at in enumerate(kept):
            if self._columns[at].most > widths[n]:
                more = min(left, self._columns[at].most - widths[n])
                widths[n] += more
                left -= more
        return widths

    def _least(self, at: int, limit: str) -> int:
        column = self._columns[at]
        least: int = getattr(column, limit) or column.least or 0
        return max(least, cell_len(column.heading))

    def _line(
        self,
        cells: list[Content],
        kept: list[int],
        widths: list[int],
        width: int,
    ) -> Text:
        line = Text()
        for at, cell, room in zip(kept, cells, widths, strict=True):
            column = self._columns[at]
            drawn = self._drawn(cell, room, column)
            blank = " " * max(0, room - drawn.cell_len)
            line.append_text(Text(blank) + drawn if column.is_number else drawn)
            line.append(" " * GAP if column.is_number else blank + " " * GAP)
        line.rstrip()
        line.truncate(width, overflow="crop")
        return line

    def _drawn(self, cell: Content, room: int, column: Column) -> Text:
        if not isinstance(cell, Cell):
            return cell(room)
        words = cut(cell.words, room, self._mark, from_left=column.has_end)
        return Text(words, cell.style)


def _clean(
    cell: str | Content,
) -> Content:
    if isinstance(cell, str):
        return Cell(printable(cell))
    return Cell(printable(cell.words), cell.style) if isinstance(cell, Cell) else cell

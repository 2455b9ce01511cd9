"""The parts of the screen, each a heading and its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from pgdbpool.top.charts import charts
from pgdbpool.top.holders import holders, waiting
from pgdbpool.top.part import Part
from pgdbpool.top.routes import routes
from pgdbpool.top.servers import errors, legend, servers
from pgdbpool.top.sheet import Column, Sheet
from pgdbpool.top.texts import counted, cut, duration, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from pgdbpool.top.figures import Figures
    from pgdbpool.top.window import Window

# So many servers are shown before others have all of theirs.
FAIR: Final = 4
# A verdict is shown as far as that.
LONGEST_VERDICT: Final = 600
WIDEST_NAME: Final = 20
# What a server said so long ago is marked as old, seconds.
OLD: Final = 6.0
KINDS: Final = {"well": "green", "busy": "bold yellow", "bad": "bold red"}


def parts_of(figures: Figures, window: Window) -> Iterator[Part]:
    """Return all there is to show, the most urgent first."""
    head = [_head(figures, window), *_verdicts(figures, window)]
    yield Part([], head, least=len(head))
    heading, lines = servers(figures, window)
    unwell = sum(not one.is_well for one in figures.servers)
    yield Part([heading], lines, least=unwell + 1, fair=unwell + FAIR)
    said = [line for one in errors(figures) for line in window.folded(one)]
    yield Part([], said, least=len(said))
    yield waiting(figures, window)
    yield holders(figures, window)
    heading, lines = charts(figures, window)
    yield Part([heading], lines, fair=len(lines))
    yield routes(figures, window)
    yield _sessions(figures, window)
    yield Part([], [legend(window)], fair=1)


def _head(figures: Figures, window: Window) -> Text:
    line = text(f"pgdbpool {figures.version} on {figures.host}", "bold")
    line.append(f"  {counted(figures.workers, 'worker')}", "not bold")
    if figures.silent:
        line.append(f", {figures.silent} silent", "bold red")
    return window.cropped(line)


def _verdicts(figures: Figures, window: Window) -> Iterator[Text]:
    longest = max((cell_len(pool.name) for pool in figures.pools), default=0)
    for pool in figures.pools:
        line = text(pool.name, "bold")
        line.append(" " * (min(longest, WIDEST_NAME) - line.cell_len))
        words = cut(pool.verdict.words, LONGEST_VERDICT, "...")
        line.append_text(text(f"  {words}", f"not bold {KINDS[pool.verdict.kind]}"))
        yield from window.folded(line)
    if not figures.pools:
        yield window.cropped(text("there is no pool yet", "yellow"))


def _sessions(figures: Figures, window: Window) -> Part:
    """Return the sessions, as many as there are; whoever has no room for them cuts."""
    seen = figures.seen
    title = text(f"sessions, as the servers see them: {', '.join(seen.notes)}", "dim")
    if not seen.sessions:
        words = "not asked yet: that needs an idle connection"
        told = f"none is known; {', '.join(seen.notes)}" if seen.notes else words
        return Part([], [window.cropped(text(f"sessions: {told}", "dim"))])
    sheet = Sheet(
        [
            Column("server", least=6, good=16, rank=1),
            Column("backend"),
            Column("state", least=6),
            Column("for", is_number=True),
            Column("waits for", least=9, good=16, rank=2),
            Column("transaction", is_number=True),
            Column("whose", least=12, rank=3),
            Column("held by", least=12, good=20),
        ],
        window.glyphs.cut,
    )
    for one in seen.sessions:
        ago = f", {duration(one.age)} ago" if one.age > OLD else ""
        sheet.add(
            one.server,
            str(one.pid),
            one.state or "not shown to us",
            f"{duration(one.seconds)}{ago}",
            one.waits_for or "-",
            duration(one.transaction),
            one.whose,
            one.holder or "-",
        )
    heading, lines = sheet.lines(window.width)
    return Part([window.cropped(title), heading], lines)

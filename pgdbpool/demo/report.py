"""What the demo shows: on a terminal with colours and bars, else plain lines."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgdbpool.demo.tally import Figures

PLAIN_INTERVAL = 1.0


@dataclasses.dataclass(frozen=True)
class Moment:
    """What the live line shows.

    Attributes:
        elapsed: Seconds since the load began.
        figures: What its clients have seen.
        connections: Of the shop, to all servers.
        database: The state of the database as a whole.
        servers: Who is what; empty where there is one server only.
    """

    elapsed: float
    figures: Figures
    connections: int
    database: str
    servers: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run has shown; the fields are the keys of the final JSON line."""

    requests: int
    failed: int
    retried: int
    unknown: int
    p50_ms: float
    p99_ms: float
    restarts: int
    switch_overs: int
    longest_wait_ms: float
    acknowledged_writes: int
    lost_writes: int

    @property
    def is_good(self) -> bool:
        """Whether nothing failed and no acknowledged write is missing."""
        return self.failed == 0 and self.lost_writes == 0

    def as_json(self) -> str:
        """Return the final line of ``--json``."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


class Report:
    """Tells the user what happens, without control codes unless on a terminal."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """Take where to write; standard output when not given."""
        stream = stream or sys.stdout
        if isinstance(stream, io.TextIOWrapper):
            # A bar or an ellipsis that the locale lacks is no reason to fail.
            stream.reconfigure(errors="replace")
        # Asked of the stream alone: FORCE_COLOR and its like, which CI services
        # set, would put control codes into their logs.
        self._console = Console(
            file=stream, force_terminal=stream.isatty(), highlight=False
        )

    @property
    def _is_lively(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def say(self, text: str = "", style: str = "") -> None:
        """Write a line."""
        self._console.print(Text(text, style), soft_wrap=True)

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs; it is given a function to move it."""
        if not self._is_lively:
            self.say(f"{label}: {total:,} …")
            yield lambda _done: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextlib.contextmanager
    def live_line(self) -> Iterator[Callable[[Moment], None]]:
        """Keep a line up to date while the block runs; plain: a new one a second."""
        if not self._is_lively:
            yield self._plain_line()
            return
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda moment: live.update(line(moment), refresh=True)

    def table(self, result: Result, notes: list[str]) -> None:
        """Show the result of a run."""
        table = Table("", "", show_header=False, title="pgdbpool demo")
        table.columns[1].justify = "right"
        for label, figure in rows(result):
            table.add_row(label, figure)
        self._console.print(table)
        for note in notes:
            self.say(note)
        if result.is_good:
            self.say("Nothing failed, nothing was lost.", "bold green")
        else:
            self.say("FAILED", "bold red")

    def _plain_line(self) -> Callable[[Moment], None]:
        last = 0.0
        shown = ("", "")

        def show(moment: Moment) -> None:
            nonlocal last, shown
            states = (moment.database, moment.servers)
            if moment.elapsed - last >= PLAIN_INTERVAL or states != shown:
                last, shown = moment.elapsed, states
                self.say(line(moment).plain.replace("\n", "  "))

        return show


def line(moment: Moment) -> Text:
    """Return the live line, which fits into 80 columns, and one for the servers."""
    figures = moment.figures
    style = "green" if moment.database == "up" else "bold yellow"
    return Text.assemble(
        f"requests {figures.requests:,}  ",
        (f"errors {figures.failed}", "bold red" if figures.failed else ""),
        f"  p50 {figures.p50_ms:.1f}  p99 {figures.p99_ms:.1f} ms  ",
        f"connections {moment.connections}  ",
        (f"database {moment.database}", style),
        f"  {moment.elapsed:.0f} s",
        (f"\n{moment.servers}" if moment.servers else "", style),
        no_wrap=True,
        overflow="ellipsis",
    )


def rows(result: Result) -> list[tuple[str, str]]:
    """Return the lines of the final table."""
    return [
        ("requests", f"{result.requests:,}"),
        ("failed", f"{result.failed:,}"),
        ("answered 503 and repeated", f"{result.retried:,}"),
        ("writes of unknown outcome", f"{result.unknown:,}"),
        ("half were answered within", f"{result.p50_ms:.1f} ms"),
        ("99 % were answered within", f"{result.p99_ms:.1f} ms"),
        ("longest wait, repeats included", f"{result.longest_wait_ms:,.0f} ms"),
        ("restarts of PostgreSQL", f"{result.restarts:,}"),
        ("switch-overs to a standby", f"{result.switch_overs:,}"),
        ("acknowledged writes", f"{result.acknowledged_writes:,}"),
        ("acknowledged writes that are lost", f"{result.lost_writes:,}"),
    ]

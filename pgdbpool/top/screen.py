"""How it looks in a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgdbpool.top.figures import Figures, Server

BARS: Final = "▁▂▃▄▅▆▇█"
# Of the longest so many are shown.
MOST_HOLDERS: Final = 8
MOST_WAITING: Final = 4
WIDEST_CELLS: Final = 40
STATES: Final = {"up": "green", "down": "bold red", "astray": "bold red"}


def screen(figures: Figures) -> RenderableType:
    """Return all of it, one part below the other."""
    parts: list[RenderableType] = [_head(figures), _servers(figures)]
    if figures.rates:
        parts.append(_rates(figures))
    parts.append(_holders(figures))
    if figures.waiting:
        parts.append(_waiting(figures))
    return Group(*parts)


def _head(figures: Figures) -> Text:
    text = Text(f"pgdbpool {figures.version} on {figures.host}", style="bold")
    text.append(f"  {figures.workers} worker{'s' * (figures.workers != 1)}", "default")
    if figures.silent:
        text.append(f", {figures.silent} silent", "bold red")
    return text


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="ellipsis",
            no_wrap=True,
        )
    return table


def _servers(figures: Figures) -> Table:
    table = _table("pool", "server", "role", "state", "lag", "used", "", right=("lag",))
    for server in figures.servers:
        lag = "" if server.lag is None else f"{server.lag:.1f} s"
        table.add_row(
            server.pool,
            server.name,
            server.role or "?",
            Text(server.state, STATES.get(server.state, "yellow")),
            lag,
            f"{server.in_use}/{server.most}",
            _cells(server),
        )
        if server.last_error is not None:
            table.add_row("", Text(server.last_error, "red"))
    return table


def _cells(server: Server) -> Text:
    """Return a cell for each connection, or for several where there are many."""
    share = max(1, -(-server.most // WIDEST_CELLS))
    free = server.most - server.in_use - server.idle - server.connecting
    text = Text()
    for count, cell, style in (
        (server.long, "■", "bold red"),
        (server.in_use - server.long, "■", "cyan"),
        (server.connecting, "◌", "yellow"),
        (server.idle, "□", "green"),
        (free, "·", "dim"),
    ):
        text.append(cell * -(-max(count, 0) // share), style)
    return text


def _rates(figures: Figures) -> Table:
    numbers = ("per s", "wait", "hold", "errors", "lost")
    table = _table("pool", "acquires of the last minute", *numbers, right=numbers)
    for name, rate in figures.rates.items():
        table.add_row(
            name,
            sparkline(rate.acquires),
            str(rate.acquires[-1] if rate.acquires else 0),
            _duration(rate.wait),
            _duration(rate.hold),
            _bad(rate.errors),
            _bad(rate.lost),
        )
    return table


def sparkline(values: tuple[int, ...]) -> str:
    """Return a bar for each value, the highest filling its line."""
    most = max(values, default=0)
    if not most:
        return BARS[0] * len(values)
    return "".join(BARS[value * (len(BARS) - 1) // most] for value in values)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1.0 else f"{seconds:.1f} s"


def _bad(count: int) -> Text:
    return Text(str(count), "bold red" if count else "dim")


def _holders(figures: Figures) -> Table:
    table = _table(
        "held",
        "for",
        "acquired at",
        "transaction",
        "worker",
        "backend",
        right=("held",),
    )
    for one in figures.holders[:MOST_HOLDERS]:
        table.add_row(
            Text(
                _duration(one["seconds"]), "bold red" if one["is_long"] else "default"
            ),
            one["request"] or "-",
            one["place"],
            one["transaction"],
            str(one["worker"]),
            str(one["backend_pid"] or "-"),
        )
    more = len(figures.holders) - MOST_HOLDERS
    if more > 0:
        table.add_row("", f"and {more} more")
    if not figures.holders:
        table.add_row("", "nobody has a connection")
    return table


def _waiting(figures: Figures) -> Table:
    count = len(figures.waiting)
    table = _table("waits", f"{count} in line: for", "at", "worker", right=("waits",))
    for one in figures.waiting[:MOST_WAITING]:
        table.add_row(
            Text(_duration(one["seconds"]), "yellow"),
            one["request"] or "-",
            one["place"],
            str(one["worker"]),
        )
    return table

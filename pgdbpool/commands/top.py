"""``pgdbpool top``: the status page in a terminal, live."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import time
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live

from pgdbpool.top.screen import Screen
from pgdbpool.top.source import Source, SourceError
from pgdbpool.top.texts import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgdbpool.top.figures import Figures

HERE = "http://127.0.0.1:8000/_pgdbpool/"
INTERRUPTED = 130
TERMINATED = 143
INTERVAL = click.FloatRange(min=0.1, max=60.0)
# Where there is no terminal, no line is cut; nor is there an end to a page.
ENDLESS = 1000
PAGELESS = 100_000


@click.command()
@click.argument("url", default=HERE)
@click.option(
    "--token",
    envvar="PGDBPOOL_STATUS_TOKEN",
    show_envvar=True,
    metavar="TOKEN",
    help="What opens the page, if it needs that. Rather in the variable: whoever can "
    "list processes sees arguments.",
)
@click.option(
    "--interval", type=INTERVAL, metavar="SECONDS", default=1.0, help="How often."
)
@click.option("--once", is_flag=True, help="Print it once, and end.")
def top(*, url: str, token: str | None, interval: float, once: bool) -> None:
    """Show who has which connection, live, until Ctrl-C.

    URL is that of a status page (pgdbpool.status.StatusApp); by default the demo's.
    It goes on when the service is restarted. Without a terminal there is only --once.
    The exit status is 1 if there is no such page, or it is closed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that cannot be encoded is no reason to say nothing.
        sys.stdout.reconfigure(errors="replace")
    try:
        source = Source(url, token)
        if once:
            _print(source.look())
        else:
            _show(source, interval)
    except SourceError as error:
        click.echo(f"pgdbpool top: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0 if not once else INTERRUPTED)


def _print(figures: Figures) -> None:
    width = None if sys.stdout.isatty() else ENDLESS
    Console(width=width, height=PAGELESS).print(Screen(figures))


def _show(source: Source, interval: float) -> None:
    """Show it again and again. Blocks until it is interrupted."""
    console = Console()
    is_drawable = console.is_terminal and not console.is_dumb_terminal
    if not (sys.stdout.isatty() and is_drawable):
        raise click.UsageError("there is no terminal to draw in: give --once")
    figures, seen_at, trouble = None, 0.0, ""
    with (
        _ended_cleanly(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            began = time.monotonic()
            try:
                figures, seen_at, trouble = source.look(), began, ""
            except SourceError as error:
                if not error.may_pass:
                    raise
                trouble = f"{error}; trying again."
                if figures is not None:
                    ago = duration(began - seen_at)
                    trouble += f" What you see is {ago} old."
            live.update(Screen(figures, trouble), refresh=True)
            time.sleep(max(0.0, interval - (time.monotonic() - began)))


@contextlib.contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: what was changed of the terminal goes back."""

    def end(*_: object) -> None:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""``pgdbpool top``: the status page in a terminal, live."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pgdbpool.top.figures import figures_of
from pgdbpool.top.screen import screen
from pgdbpool.top.source import Source, SourceError

HERE = "http://127.0.0.1:8000/_pgdbpool/"
INTERRUPTED = 130
INTERVAL = click.FloatRange(min=0.1, max=60.0)


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
    It goes on when the service is restarted. The exit status is 1 if there is no such
    page, or it is closed.
    """
    try:
        source = Source(url, token)
        if once:
            Console().print(screen(figures_of(source.look(time.time()))))
        else:
            _live(source, interval)
    except SourceError as error:
        click.echo(f"pgdbpool top: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0 if not once else INTERRUPTED)


def _live(source: Source, interval: float) -> None:
    """Show it again and again. Blocks until it is interrupted."""
    with Live(screen=True, auto_refresh=False) as live:
        shown: RenderableType = Text("")
        trouble = Text("")
        while True:
            began = time.monotonic()
            try:
                shown = screen(figures_of(source.look(time.time())))
                trouble = Text("")
            except SourceError as error:
                if not error.may_pass:
                    raise
                trouble = Text(f"{error}; trying again", style="bold red")
            live.update(Group(trouble, shown) if trouble else shown, refresh=True)
            time.sleep(max(0.0, interval - (time.monotonic() - began)))

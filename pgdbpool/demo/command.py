"""``pgdbpool demo``: what it takes and what it says about itself."""

from __future__ import annotations

import math
import sys

import click

from pgdbpool.demo.run import Options, run

WORKERS = click.IntRange(1, 64)
THREADS = click.IntRange(1, 256)
PORT = click.IntRange(0, 65_535)
STANDBYS = click.IntRange(0, 4)
SECONDS = click.FloatRange(min=1)


@click.command()
@click.option(
    "--dsn",
    metavar="DSN",
    help="Use this database (a connection string or URL) instead of an embedded "
    "PostgreSQL. The demo works in a schema of its own, which it removes, "
    "and never restarts your server.",
)
@click.option(
    "--standbys",
    type=STANDBYS,
    metavar="N",
    default=0,
    help="Streaming standbys beside the embedded PostgreSQL: they take the reads, "
    "and what was a restart is a switch-over to one of them.",
)
@click.option(
    "--workers", type=WORKERS, metavar="N", default=2, help="gunicorn workers."
)
@click.option(
    "--threads", type=THREADS, metavar="N", default=4, help="Threads a worker."
)
@click.option(
    "--port",
    type=PORT,
    metavar="N",
    default=8000,
    help="Where to serve on 127.0.0.1; 0 takes any free port.",
)
@click.option(
    "--seconds",
    type=SECONDS,
    metavar="N",
    help="Drive the shop for N seconds, restart PostgreSQL (or switch over) in the "
    "middle, check every acknowledged write, and end.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With --seconds: the last line of standard output is the result as JSON.",
)
def demo(
    *,
    dsn: str | None,
    standbys: int,
    workers: int,
    threads: int,
    port: int,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Run a small web shop on pooled connections.

    Starts PostgreSQL in a temporary directory, fills a shop with 100,000 orders,
    and serves it under gunicorn until Ctrl-C. Its status page has buttons that
    restart PostgreSQL under it, or freeze it for five seconds; the signals USR1 and
    USR2 do the same.

    With --seconds a second process orders and reads as well-behaved clients do,
    400 times a second at most, and PostgreSQL is restarted (-m fast) under it. The
    exit status is 0 only if no request failed and no acknowledged write is missing.

    With --standbys the pool has several servers: standbys that stream from the
    primary take the reads, and instead of a restart the primary is stopped, a
    standby is promoted, and the old primary comes back as a standby of it.
    """
    if seconds is not None and not math.isfinite(seconds):
        raise click.BadParameter("must be a number of seconds", param_hint="--seconds")
    if as_json and seconds is None:
        raise click.UsageError("--json needs --seconds")
    if dsn is not None and standbys:
        raise click.UsageError("--standbys are of an embedded PostgreSQL, not of --dsn")
    sys.exit(run(Options(dsn, workers, threads, port, seconds, as_json, standbys)))

"""``pgdbpool check``: the doctor, who looks at the servers before the pool does."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console

from pgdbpool.commands.asked import dotenv_option, prefix_option, settings_asked
from pgdbpool.doctor.diagnosis import Diagnosis, diagnose, refused
from pgdbpool.doctor.facts import Plan
from pgdbpool.doctor.findings import Severity
from pgdbpool.doctor.table import show
from pgdbpool.errors import SettingsError

if TYPE_CHECKING:
    from pgdbpool.environment import Found

# Where there is no terminal, no line is folded.
ENDLESS = 1000
INTERRUPTED = 130
NUMBER = click.IntRange(1, 100_000)
SECONDS = click.FloatRange(min=0.1, max=3600)


@click.command()
@click.argument("dsn", nargs=-1)
@click.option(
    "--workers", type=NUMBER, metavar="N", default=1, help="Processes on each host."
)
@click.option(
    "--threads",
    type=NUMBER,
    metavar="N",
    help="Threads of a worker. Without a max_size each is to have a connection.",
)
@click.option("--hosts", type=NUMBER, metavar="N", default=1, help="Hosts.")
@click.option("--max-size", type=NUMBER, metavar="N", help="In place of the setting's.")
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    default=5.0,
    help="For each endpoint; they are examined at the same time.",
)
@prefix_option
@dotenv_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def check(
    *,
    dsn: tuple[str, ...],
    workers: int,
    threads: int | None,
    hosts: int,
    max_size: int | None,
    timeout: float,
    prefix: str,
    dotenv: str | None,
    as_json: bool,
) -> None:
    """Look at each server of a pool, and say what to change.

    DSN is a connection string or URL; several are the servers of one pool. Without
    one it is what ConnectionPool.from_env() would connect to. All other settings are
    the environment's, as `pgdbpool settings` prints them. Secrets are never shown, but
    an argument is seen by all users of a machine: a password is better off in the
    environment or in ~/.pgpass.

    The exit status is 0 if nothing is wrong, warnings or not. It is 1 if a setting is
    wrong, a server cannot be reached or refuses the login, there is no primary or more
    than one, the servers are not one cluster, the connections do not fit, or a pooler
    gives each transaction another session and `via` does not say so. It is 2 for an
    option that does not exist, and 130 after Ctrl-C.
    """
    if math.isnan(timeout):
        raise click.BadParameter("must be a number of seconds", param_hint="--timeout")
    given: dict[str, object] = {} if max_size is None else {"max_size": max_size}
    try:
        settings, found = settings_asked(prefix, dotenv, {**given, **_place(dsn)})
        plan = Plan.of(
            settings, os.environ, hosts=hosts, workers=workers, threads=threads
        )
        diagnosis = diagnose(settings, plan, timeout)
    except (SettingsError, ImportError) as error:
        if as_json:
            click.echo(json.dumps(refused(error), indent=2))
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    _say(diagnosis, found, as_json=as_json)
    if diagnosis.severity is Severity.WRONG:
        sys.exit(1)


def _say(diagnosis: Diagnosis, found: Found, *, as_json: bool) -> None:
    if as_json:
        told = {**diagnosis.as_json(), "warnings": found.warnings}
        click.echo(json.dumps(told, indent=2))
        return
    width = None if sys.stdout.isatty() else ENDLESS
    console = Console(markup=False, highlight=False, emoji=False, width=width)
    show(console, diagnosis, found.warnings)


def _place(dsns: tuple[str, ...]) -> dict[str, object]:
    """Return the settings that say where the database is, if arguments do."""
    if not dsns:
        return {}
    return {"conninfo": dsns[0] if len(dsns) == 1 else dsns, "endpoints": None}

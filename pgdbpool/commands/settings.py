"""``pgdbpool settings``: each value that holds, and where it came from."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from pgdbpool.commands.asked import dotenv_option, prefix_option, settings_asked
from pgdbpool.commands.effective import (
    Effective,
    endpoints_of,
    settings_of,
)
from pgdbpool.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgdbpool.environment import Found

# Where there is no terminal, no line is folded.
ENDLESS = 1000


@click.command()
@prefix_option
@dotenv_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def settings(*, prefix: str, dotenv: str | None, as_json: bool) -> None:
    """Print what ConnectionPool.from_env() finds, and where.

    Each setting with its value and its origin, each endpoint as libpq will see it,
    and what is set and does not count. Secrets are masked. Nothing is connected; what
    a variable names as module:function is imported, from the working directory too.

    The exit status is 1 if something is wrong, and the error says which variable.
    """
    try:
        pools, found = settings_asked(prefix, dotenv)
    except (SettingsError, ImportError) as error:
        raise click.ClickException(str(error)) from None
    values = settings_of(pools, found)
    endpoints = endpoints_of(pools, os.environ)
    if as_json:
        click.echo(_json(values, endpoints, found))
    else:
        _print(values, endpoints, found)


def _json(
    values: Mapping[str, Effective],
    endpoints: Sequence[Mapping[str, Effective]],
    found: Found,
) -> str:
    def flat(parts: Mapping[str, Effective]) -> dict[str, dict[str, object]]:
        return {name: vars(part) for name, part in parts.items()}

    told = {
        "settings": flat(values),
        "endpoints": [flat(one) for one in endpoints],
        "warnings": found.warnings,
    }
    return json.dumps(told, indent=2)


def _print(
    values: Mapping[str, Effective],
    endpoints: Sequence[Mapping[str, Effective]],
    found: Found,
) -> None:
    console = Console(
        markup=False,
        highlight=False,
        emoji=False,
        width=None if sys.stdout.isatty() else ENDLESS,
    )
    table = _table("setting", "value", "origin")
    for name, one in values.items():
        table.add_row(name, str(one), one.origin)
    console.print(table)
    for number, endpoint in enumerate(endpoints, start=1):
        table = _table(f"endpoint {number}", "as libpq sees it", "origin")
        for name, one in endpoint.items():
            table.add_row(name, str(one), one.origin)
        console.print()
        console.print(table)
    for warning in found.warnings:
        console.print(f"\nwarning: {warning}")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table

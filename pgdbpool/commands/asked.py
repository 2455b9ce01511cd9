"""The settings that a command is asked about, and the options that say which."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgdbpool.environment import PREFIX, Found, find
from pgdbpool.pool import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgdbpool.settings import Settings

prefix_option = click.option(
    "--prefix", metavar="P", default=PREFIX, help="Of the pool's variables."
)
dotenv_option = click.option(
    "--dotenv",
    metavar="PATH",
    is_flag=False,
    flag_value="",
    help="Read this .env file too; without PATH the nearest one, from here upwards.",
)


def settings_asked(
    prefix: str, dotenv: str | None, given: Mapping[str, object] | None = None
) -> tuple[Settings, Found]:
    """Return the settings of the pool that an application here would make.

    What a variable names as module:function is imported, from the working directory
    too. Nothing is connected.

    Args:
        prefix: of the pool's variables.
        dotenv: the path of a .env file, or empty for the nearest one.
        given: settings that go before those of the environment.

    Raises:
        SettingsError: something is wrong; it names the variable.
        ImportError: a library or a module is missing.
    """
    here = str(Path.cwd())
    if here not in sys.path:  # as gunicorn does
        sys.path.insert(0, here)
    found = find(prefix, given, dotenv=True if dotenv == "" else dotenv or False)
    with found.explained():
        return ConnectionPool(**found.values).settings, found

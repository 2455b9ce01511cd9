"""The command ``pgdbpool``: which commands it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pgdbpool import __version__

if TYPE_CHECKING:
    from collections.abc import Callable


def _check() -> click.Command:
    from pgdbpool.commands.check import check  # noqa: PLC0415 - needs rich

    return check


def _demo() -> click.Command:
    from pgdbpool.demo.command import demo  # noqa: PLC0415 - needs the extra "demo"

    return demo


def _settings() -> click.Command:
    from pgdbpool.commands.settings import settings  # noqa: PLC0415 - needs rich

    return settings


def _top() -> click.Command:
    from pgdbpool.commands.top import top  # noqa: PLC0415 - needs rich

    return top


_COMMANDS: Final[dict[str, Callable[[], click.Command]]] = {
    "check": _check,
    "demo": _demo,
    "settings": _settings,
    "top": _top,
}


class _Commands(click.Group):
    """Imports a command when it is asked for: each needs libraries of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return all there are."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return the command of that name, if there is one.

        Raises:
            ModuleNotFoundError: a library that it needs is missing.
        """
        return _COMMANDS[cmd_name]() if cmd_name in _COMMANDS else None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="pgdbpool")
def command() -> None:
    """A connection pool for WSGI applications on PostgreSQL."""

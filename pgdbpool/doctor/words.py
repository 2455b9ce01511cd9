"""Facts in words, and statements to copy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgdbpool.doctor.facts import Facts

# What the role of an application is called where it has none; and if that is taken.
ROLE: Final = "app"
OTHER_ROLE: Final = "application"


def alter_role(facts: Facts, *changes: str) -> str:
    """Return the statements that change the application's role, and where to say them.

    Nobody is told to change a superuser: maintenance would suffer, and an application
    is to have a role of its own.
    """
    role = new_role(facts) if facts.superuser else quoted(facts.user)
    statements = "; ".join(f"ALTER ROLE {role} {change}" for change in changes)
    return f"{statements} (on the primary)" if facts.role == "standby" else statements


def new_role(facts: Facts) -> str:
    """Return what to call the role that an application should have."""
    return ROLE if facts.user != ROLE else OTHER_ROLE


def quoted(role: str | None) -> str:
    """Return a role's name as SQL has it."""
    name = role or "app"
    is_plain = re.fullmatch("[a-z_][a-z0-9_]*", name)
    return name if is_plain else '"' + name.replace('"', '""') + '"'


def milliseconds(seconds: float) -> str:
    """Return a short time in words."""
    number = seconds * 1000
    return f"{number:.2f} ms" if number < 1 else f"{number:.1f} ms"


def megabytes(number: int) -> str:
    """Return a number of bytes in words."""
    for factor, unit in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} bytes"

"""What tells the server whose session it is: a token in ``application_name``.

A process that others must be able to find sessions of, such as a gunicorn
worker, sets a random token before it connects. Process ids would not do: they
repeat across containers and over time.
"""

import os
from collections.abc import Mapping

# PostgreSQL cuts the name at NAMEDATALEN - 1 bytes (manual, "error reporting").
LONGEST_NAME = 63

_token = ""


def set_token(token: str) -> None:
    """Mark every session that this process opens from now on."""
    global _token  # noqa: PLW0603 - one identity a process, set once after its fork
    _token = token


def token() -> str:
    """Return this process's token, empty when it has none."""
    return _token


def application_name(params: Mapping[str, str]) -> str:
    """Return the user's application name with this process's token, if any."""
    name = params.get("application_name") or os.environ.get("PGAPPNAME") or "pgdbpool"
    if not _token:
        return name
    suffix = f":{_token}"
    room = LONGEST_NAME - len(suffix)
    return name.encode()[:room].decode(errors="ignore") + suffix

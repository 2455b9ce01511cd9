"""What tells the server whose session it is: its ``application_name``.

It is the user's, or names service, host and process.

A process that others must be able to find sessions of, such as a gunicorn
worker, sets a random token before it connects. Process ids would not do: they
repeat across containers and over time.
"""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

# PostgreSQL cuts the name at NAMEDATALEN - 1 bytes (manual, "error reporting").
LONGEST_NAME = 63
# Of a host's name so much is shown.
LONGEST_HOST = 20

_token = ""


def set_token(token: str) -> None:
    """Mark every session that this process opens from now on."""
    global _token  # noqa: PLW0603 - one identity a process, set once after its fork
    _token = token


def token() -> str:
    """Return this process's token, empty when it has none."""
    return _token


def application_name(params: Mapping[str, str], service: str | None) -> str:
    """Return the name of a session: the user's, or service, host and process.

    Followed by this process's token, if it has one.

    Args:
        params: of libpq.
        service: what the user calls it; None: as the program is called.
    """
    suffix = f":{_token}" if _token else ""
    room = LONGEST_NAME - len(suffix)
    given = params.get("application_name") or os.environ.get("PGAPPNAME")
    name = given or _whose(service or _program(), room)
    return name.encode()[:room].decode(errors="ignore") + suffix


def _whose(service: str, room: int) -> str:
    """Return ``service/host/process``; where room is short, less of the first two."""
    host = socket.gethostname().partition(".")[0][:LONGEST_HOST]
    rest = f"/{host}/{os.getpid()}"
    return service.encode()[: room - len(rest)].decode(errors="ignore") + rest


def _program() -> str:
    # An embedded interpreter may have no arguments, not even a list of them.
    path = Path(next(iter(getattr(sys, "argv", ())), ""))
    name = path.parent.name if path.stem == "__main__" else path.stem
    return "pgdbpool" if name in ("", "-c", "-m") else name

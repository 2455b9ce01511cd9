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
# Of a host's name so much is shown: its ends, for what tells one host from the next may
# stand at either.
LONGEST_HOST = 20
GAP = ".."

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
    given = params.get("application_name") or os.environ.get("PGAPPNAME")
    if given and not _token:
        return given
    suffix = f":{_token}" if _token else ""
    room = LONGEST_NAME - len(suffix)
    name = _plain(given)[:room] if given else _whose(service or _program(), room)
    return name + suffix


def _whose(service: str, room: int) -> str:
    """Return ``service/host/process``; where room is short, less of the service."""
    host = _plain(socket.gethostname().partition(".")[0])
    if len(host) > LONGEST_HOST:
        end = (LONGEST_HOST - len(GAP)) // 2
        host = host[:end] + GAP + host[-end:]
    rest = f"/{host}/{os.getpid()}"
    return _plain(service)[: room - len(rest)] + rest


def _plain(name: str) -> str:
    """Return a name in letters that the server does not make several of."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)


def _program() -> str:
    # An embedded interpreter may have no arguments, not even a list of them.
    path = Path(next(iter(getattr(sys, "argv", ())), ""))
    name = path.parent.name if path.stem == "__main__" else path.stem
    return "pgdbpool" if name in ("", "-c", "-m") else name

"""What kind of trouble an error is.

For a connect that fails psycopg2 gives no SQLSTATE, only libpq's text, in the server's
language where the server has said it. Wordings: PostgreSQL 10 to 18,
src/interfaces/libpq and src/backend.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import Final

import psycopg2

from pgdbpool.doctor.facts import Trouble
from pgdbpool.endpoint.health import refusal_of
from pgdbpool.errors import (
    AuthenticationFailed,
    CredentialError,
    EndpointDown,
    TooManyConnections,
)

REFUSALS: Final = {
    AuthenticationFailed: Trouble.LOGIN,
    TooManyConnections: Trouble.FULL,
    EndpointDown: Trouble.DATABASE,
}
# The first that is found counts.
WORDINGS: Final = (
    (
        Trouble.STARTING,
        re.compile(
            r"the database system is (starting up|shutting down|in recovery mode"
            r"|not (yet )?accepting connections)"
        ),
    ),
    (
        Trouble.PARAMETER,
        re.compile(
            r"unsupported startup parameter|unrecognized configuration parameter"
            r"|invalid (\S+ )?value|invalid port number|could not parse network address"
            r"|authentication method requirement|definition of service"
        ),
    ),
    (
        Trouble.STRANGE,
        re.compile(r"received invalid response|expected authentication request"),
    ),
    (Trouble.TLS, re.compile(r"\bSSL\b|certificate|private key|GSSAPI")),
    # A severity, whatever its language.
    (Trouble.REFUSED, re.compile(r":  \S")),
)
TIMED_OUT: Final = re.compile(r"failed: timeout expired")
PLACE: Final = re.compile(
    r'at "(?P<host>[^"]+)"(?: \((?P<address>[^)]+)\))?, port (?P<port>\d+) '
    r"failed: timeout expired"
)
# How long somebody who is there may take to accept a connection, seconds.
ACCEPTING: Final = 0.2
# By SQLSTATE: what a pooler, which lets in first and asks the server later, passes on.
PASSED_ON: Final = {
    "28000": Trouble.LOGIN,
    "28P01": Trouble.LOGIN,
    "3D000": Trouble.DATABASE,
    "53300": Trouble.FULL,
    "57P03": Trouble.STARTING,
}
# The SQLSTATEs of sessions that are ended from outside.
OPERATOR: Final = "57"


def of_connect(error: Exception) -> Trouble:
    """Return why a connect has failed. Blocks for a moment where nobody answered."""
    if isinstance(error, CredentialError):
        return Trouble.CREDENTIALS
    refusal = refusal_of(error)
    if refusal is not None:
        return REFUSALS[refusal]
    text = str(error)
    for trouble, wording in WORDINGS:
        if wording.search(text):
            return trouble
    if TIMED_OUT.search(text) and _is_somebody_there(text):
        return Trouble.SILENT
    return Trouble.UNREACHABLE


def of_question(error: Exception) -> Trouble:
    """Return why a server that has let us in could not be asked."""
    code: str | None = getattr(error, "pgcode", None)
    refusal = refusal_of(error)
    if refusal is not None:
        return REFUSALS[refusal]
    if code in PASSED_ON:
        return PASSED_ON[code]
    is_lost = isinstance(error, psycopg2.OperationalError) and (
        code is None or code.startswith(OPERATOR)
    )
    return Trouble.SILENT if is_lost else Trouble.STRANGE


def _is_somebody_there(text: str) -> bool:
    """Whether an address that libpq gave up takes connections all the same. Blocks."""
    place = PLACE.search(text)
    if place is None:  # a socket, and it was there
        return True
    address = place["address"] or place["host"], int(place["port"])
    with contextlib.suppress(OSError):
        socket.create_connection(address, ACCEPTING).close()
        return True
    return False

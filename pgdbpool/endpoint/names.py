"""Where a host's name leads: a failover by DNS changes that, and no session notices."""

import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import Final

import psycopg2
from psycopg2 import extensions as driver

# How often a name that connections were opened by is resolved again, seconds.
INTERVAL: Final = 10.0


def name_of(params: Mapping[str, str]) -> str | None:
    """Return the name that libpq resolves at each connect, None if there is none."""
    if "host" not in params and ("service" in params or "PGSERVICE" in os.environ):
        return None  # the service file may name another, and goes first
    host = params.get("host") or os.environ.get("PGHOST") or ""
    has_address = params.get("hostaddr") or os.environ.get("PGHOSTADDR")
    if has_address or not host or host.startswith(("/", "@")) or "," in host:
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


def addresses(name: str) -> frozenset[str]:
    """Return the addresses a name has now. Blocks, as long as the resolver does.

    Raises:
        OSError: it has none, or nobody can tell.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return frozenset(str(address[0]) for *_, address in found)


def address_of(conn: driver.connection) -> str | None:
    """Return the address a connection was opened to, None without one. No I/O."""
    try:
        # A duplicate, because the socket object closes what it was given.
        with socket.socket(fileno=os.dup(conn.fileno())) as sock:
            peer = sock.getpeername()
    except (OSError, psycopg2.Error):
        return None
    return str(peer[0]) if isinstance(peer, tuple) else None

"""Rules about whether a server can be reached. Pure."""

from __future__ import annotations

from typing import Final

from pgdbpool.doctor.facts import Facts, Trouble
from pgdbpool.doctor.findings import Finding, fine, warning, wrong

TROUBLES: Final = {
    Trouble.UNREACHABLE: (
        "it cannot be reached",
        (
            "Look whether the server runs, listens on that address and port "
            "(listen_addresses), and no firewall stands in between."
        ),
    ),
    Trouble.SILENT: (
        "it does not answer in time",
        (
            "Look whether the server, or what stands before it, hangs; if it is only "
            "slow, give a longer --timeout."
        ),
    ),
    Trouble.LOGIN: (
        "it refuses the login",
        (
            "Look at user and password, at the role (LOGIN), and at pg_hba.conf; the "
            "server's log has the reason."
        ),
    ),
    Trouble.CREDENTIALS: (
        "there is nothing to log in with",
        "Look at the password provider: what it says is above.",
    ),
    Trouble.FULL: (
        "it has no connection to spare",
        (
            "Raise max_connections or the role's CONNECTION LIMIT, or have others use "
            "fewer."
        ),
    ),
    Trouble.DATABASE: (
        "it refuses the database",
        "Look at the name of the database, and whether the role may CONNECT to it.",
    ),
    Trouble.PARAMETER: (
        "a pooler refuses a parameter of the DSN",
        (
            "Take it (often options) out of the DSN and set it with ALTER ROLE ... "
            "SET, or name it in ignore_startup_parameters of PgBouncer."
        ),
    ),
    Trouble.STRANGE: (
        "it does not answer as PostgreSQL does",
        (
            "Look at what listens there: PgBouncer's own database pgbouncer, and "
            "servers that are only like PostgreSQL, serve no pool."
        ),
    ),
}


def reach(facts: Facts) -> Finding:
    """Return whether the server could be examined."""
    if facts.trouble is None:
        return fine("reach", "it answers")
    what, advice = TROUBLES[facts.trouble]
    return wrong("reach", f"{what}: {facts.error}", advice)


def addresses(facts: Facts) -> Finding | None:
    """Return whether all addresses of a name answer."""
    silent = facts.silent_addresses
    if not silent:
        return None
    return warning(
        "addresses",
        f"its name also leads to {', '.join(silent)}, where nobody answers",
        (
            "Each connect may lose time there: take dead addresses out of the DNS, or "
            "have the server listen on all of them."
        ),
    )

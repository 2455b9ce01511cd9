"""Rules about whether a server can be reached. Pure."""

from __future__ import annotations

from typing import Final

from pgdbpool.doctor.facts import Facts, Trouble
from pgdbpool.doctor.findings import Finding, fine, warning, wrong

TROUBLES: Final = {
    Trouble.UNREACHABLE: (
        "it cannot be reached",
        (
            "Look whether the server runs, host and port are right, it listens there "
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
        "a parameter is refused",
        (
            "Correct it in the DSN or the environment. What a pooler refuses (often "
            "options), set with ALTER ROLE ... SET, or name it in "
            "ignore_startup_parameters of PgBouncer."
        ),
    ),
    Trouble.TLS: (
        "both sides do not agree on how to encrypt",
        (
            "Look at sslmode, sslrootcert, sslcert and gssencmode here, and at ssl and "
            "the certificate there: its name, its authority, its end."
        ),
    ),
    Trouble.STARTING: (
        "it takes no connections yet, or no more",
        (
            "Ask again when it is up; its log says how far it is. A standby needs "
            "hot_standby = on."
        ),
    ),
    Trouble.REFUSED: (
        "it refuses",
        "Look at what it says; its log, or that of what stands before it, has more.",
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
    """Return whether all addresses of a name let us in."""
    if facts.refusing_addresses:
        told = "; ".join(
            f"{address}, which refuses: {error}"
            for address, error in facts.refusing_addresses.items()
        )
        return wrong(
            "addresses",
            f"its name also leads to {told}",
            (
                "Have it let the role in there as well (by pg_hba.conf, or what its "
                "refusal says), or take the address out of the DNS: libpq tries no "
                "other after a refusal, so connects fail when it comes first."
            ),
        )
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


def service(facts: Facts) -> Finding | None:
    """Return whether a service file leads to one server."""
    if not facts.hosts:
        return None
    return warning(
        "service",
        f"its service file names several servers ({', '.join(facts.hosts)}): a pool "
        "takes them for one, whichever answers first, and only that one was looked at",
        (
            "Say it in the DSN: host= with all of them goes before the service file, "
            "and each is an endpoint."
        ),
    )

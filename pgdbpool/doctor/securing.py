"""Rules about who can listen, and what the role may do. Pure."""

from __future__ import annotations

from typing import Final

from pgdbpool.doctor.facts import Facts
from pgdbpool.doctor.findings import Finding, fine, warning
from pgdbpool.doctor.words import alter_role, new_role

OLD_TLS: Final = ("SSLv3", "TLSv1", "TLSv1.1")
VERIFYING: Final = ("verify-ca", "verify-full")


def tls(facts: Facts) -> Finding | None:
    """Return whether what is sent is encrypted, and to the right server."""
    if facts.tls is None or facts.local is None:
        return None
    if not facts.tls:
        return _plain(facts)
    if facts.tls in OLD_TLS:
        return warning(
            "tls",
            f"{facts.tls} is broken",
            "Upgrade the server's or this machine's OpenSSL, and set "
            "ssl_min_protocol_version = 'TLSv1.2' on the server.",
        )
    if facts.local or facts.sslmode in VERIFYING:
        return fine("tls", facts.tls)
    if facts.sslmode == "require" and facts.root_certificate:
        return fine("tls", f"{facts.tls}, and a root certificate to verify by")
    return warning(
        "tls",
        f"{facts.tls}, but with sslmode={facts.sslmode} anybody can pretend to be "
        "the server",
        "sslmode=verify-full in the DSN, with sslrootcert= the certificate of the "
        "authority (or sslrootcert=system).",
    )


def _plain(facts: Facts) -> Finding:
    if facts.local and facts.pooler is not None:
        text = "none, to a pooler on this machine; the way from there is its business"
        return fine("tls", text)
    if facts.local:
        way = facts.address or "its socket"
        return fine("tls", f"none; the way to {way} stays on this machine")
    if facts.gss:
        return fine("tls", "none, but Kerberos encrypts")
    set_on = "Set ssl = on on the server"
    if facts.pooler is not None:
        set_on = "Have the pooler offer TLS (client_tls_sslmode of PgBouncer)"
    return warning(
        "tls",
        "what is sent is not encrypted",
        f"{set_on}, and sslmode=verify-full with sslrootcert= in the DSN.",
    )


def privileges(facts: Facts) -> Finding | None:
    """Return whether the role may do more than an application should."""
    if facts.superuser is None:
        return None
    if facts.superuser:
        text = f"{facts.user} is a superuser: whoever finds an injection has it all"
        return warning("privileges", text, _own_role(facts))
    if facts.superusers:
        return warning(
            "privileges",
            f"{facts.user} can become a superuser by SET ROLE "
            f"{', '.join(facts.superusers)}",
            f"REVOKE what makes it a member. Or: {_own_role(facts)}",
        )
    if facts.bypasses_rls:
        return warning(
            "privileges",
            f"{facts.user} has BYPASSRLS: row-level security does not hold for it",
            f"{alter_role(facts, 'NOBYPASSRLS')}, unless that is meant.",
        )
    return fine("privileges", f"{facts.user} is an ordinary role")


def _own_role(facts: Facts) -> str:
    where = " (on the primary)" if facts.role == "standby" else ""
    return (
        "Have the application log in as a role of its own that owns nothing: "
        f"CREATE ROLE {new_role(facts)} LOGIN{where}, and GRANT what it needs."
    )

"""What the doctor asks a server.

Each question stands alone, in autocommit: behind a transaction pooler each can go to
another session, and an answer that is refused leaves the others as they are.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psycopg2

from pgdbpool.endpoint.names import address_of
from pgdbpool.endpoint.probe import PROBE, STARTED, SYSTEM

if TYPE_CHECKING:
    from psycopg2.extensions import connection

    from pgdbpool.doctor.facts import Facts

# What the doctor's own sessions are called.
NAME: Final = "pgdbpool check"
# So many bytes of a name are left of it, however long host, process and token are.
MOST_OF_NAME: Final = 30
MOST_OF_SERVICE: Final = 12
ROUND_TRIPS: Final = 5
# Of pg_settings, whose unit for all of them is the millisecond.
LIMITS: Final = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)
# Where libpq looks for one (manual, libpq, "SSL Support").
ROOT_CERTIFICATE: Final = "~/.postgresql/root.crt"
CLIENT: Final = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
# ALTER ROLE ... SET role makes another of a role at its login; RESET ROLE undoes it.
WHO: Final = """
    SELECT session_user::text, s.rolsuper, r.rolbypassrls OR s.rolbypassrls,
           s.rolconnlimit, d.datconnlimit,
           current_setting('default_transaction_read_only') = 'on',
           ARRAY(SELECT rolname::text FROM pg_roles
                 WHERE rolsuper AND NOT s.rolsuper
                 AND pg_has_role(s.oid, oid, 'MEMBER') ORDER BY rolname)
    FROM pg_roles AS r, pg_roles AS s, pg_database AS d
    WHERE r.rolname = current_user AND s.rolname = session_user
    AND d.datname = current_database()
"""
# As the reaper counts, but that the service goes by its role and name here. Of sessions
# of other roles one sees who and where they are, but not their kind: their walsenders
# are known by another view, and their parallel workers count as connections.
CAPACITY: Final = """
    SELECT current_setting('max_connections')::int,
           current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
           count(*) FILTER (WHERE NOT is_own)::int,
           count(*) FILTER (WHERE is_own)::int,
           count(*) FILTER (WHERE NOT is_own AND usename = session_user)::int,
           count(*) FILTER (WHERE NOT is_own AND datname = current_database())::int
    FROM (SELECT usename, datname, coalesce(usename = session_user
                 AND application_name ~ %(own)s, false)
          FROM pg_stat_activity AS session
          WHERE datid IS NOT NULL AND usesysid IS NOT NULL
          AND coalesce(backend_type, 'client backend') = 'client backend'
          AND NOT EXISTS (SELECT FROM pg_stat_replication AS sender
                          WHERE sender.pid = session.pid)
          AND application_name IS DISTINCT FROM %(doctor)s
          AND pid <> pg_backend_pid()) AS session (usename, datname, is_own)
"""
TIME: Final = """
    SELECT name, setting::float / 1000 FROM pg_settings WHERE name = ANY (%s)
"""
REPLAY: Final = """
    SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()),
           pg_is_wal_replay_paused(), EXISTS (SELECT FROM pg_stat_wal_receiver)
"""
GSS: Final = "SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()"


def pattern_of(name: str | None, service: str | None) -> str:
    """Return the regular expression that the sessions of a pool are named by.

    They have the name they were given, or service, host and process, and it may have
    been cut; then a token may follow (`pgdbpool.endpoint.identity`).

    Args:
        name: the ``application_name`` that was given.
        service: the pool's name; with neither it is any pool.
    """
    if name:
        known = name.encode()[:MOST_OF_NAME].decode(errors="ignore")
        return f"^{_as_shown(known)}" + ("(:|$)" if known == name else "")
    known = (service or "").encode()[:MOST_OF_SERVICE].decode(errors="ignore")
    more = "" if service and known == service else "[^/]*"
    return f"^{_as_shown(known)}{more}/[^/]+/[0-9]+(:|$)"


def _as_shown(name: str) -> str:
    """Return what matches a name; of letters not ASCII servers show bytes or ``?``."""
    parts = re.split("[^ -~]+", name)
    return r"[?\\x0-9a-f]+".join(map(re.escape, parts))


def ask(conn: connection, facts: Facts, own: str) -> None:
    """Find out all that a server says by itself. Blocks for a dozen round trips.

    Args:
        conn: in autocommit.
        facts: where to put it.
        own: what the names of the pool's sessions match.

    Raises:
        psycopg2.Error: it does not answer, or not as PostgreSQL does.
    """
    _look(conn, facts)
    _measure(conn, facts)
    role = must(conn, "SELECT pg_is_in_recovery()")
    facts.role = "standby" if role[0] else "primary"
    _ask_position(conn, facts)
    _ask_who(conn, facts)
    row = row_of(conn, CAPACITY, {"own": own, "doctor": NAME})
    if row is not None:
        facts.max_connections, facts.reserved, facts.in_use, facts.own = row[:4]
        facts.role_in_use, facts.database_in_use = row[4:]
    facts.limits = {str(name): float(value) for name, value in _limits(conn)}
    if not facts.tls:
        row = row_of(conn, GSS)
        facts.gss = None if row is None else bool(row[0])


def _look(conn: connection, facts: Facts) -> None:
    """Take note of what is known without a question."""
    given = conn.info.dsn_parameters
    facts.version = conn.info.server_version
    facts.tls = str(conn.info.ssl_attribute("protocol")) if conn.info.ssl_in_use else ""
    facts.sslmode = given.get("sslmode")
    root = Path(given.get("sslrootcert") or ROOT_CERTIFICATE)
    with contextlib.suppress(RuntimeError):  # there is no home
        facts.root_certificate = root.expanduser().exists()
    facts.client = {key: given[key] for key in CLIENT if given.get(key)}
    facts.address = address_of(conn)
    facts.local = (
        facts.address is None or ipaddress.ip_address(facts.address).is_loopback
    )
    hosts = (given.get("host") or given.get("hostaddr") or "").split(",")
    facts.hosts = hosts if len(hosts) > 1 else []


def _measure(conn: connection, facts: Facts) -> None:
    for _ in range(ROUND_TRIPS):
        begun_at = monotonic()
        must(conn, "SELECT 1")
        seconds = monotonic() - begun_at
        facts.round_trip = min(facts.round_trip or seconds, seconds)


def _ask_position(conn: connection, facts: Facts) -> None:
    for query, name in ((STARTED, "started"), (SYSTEM, "system")):
        row = row_of(conn, query)
        setattr(facts, name, None if row is None else str(row[0]))
    facts.position, facts.timeline = _probe(conn)
    if facts.role == "standby":
        ask_replay(conn, facts)


def ask_replay(conn: connection, facts: Facts) -> None:
    """Find out how a standby is doing. Blocks for a round trip.

    Raises:
        psycopg2.Error: the session is lost.
    """
    row = row_of(conn, REPLAY)
    if row is not None:
        facts.replayed = None if row[0] is None else float(row[0])
        facts.paused, facts.streaming = row[1:]


def position_of(conn: connection) -> int | None:
    """Return what a server wrote, or as a standby replayed. Blocks for a round trip.

    Raises:
        psycopg2.Error: the session is lost.
    """
    return _probe(conn)[0]


def _probe(conn: connection) -> tuple[int | None, int | None]:
    """Return position and timeline, as far as a server can say."""
    _, position, timeline = row_of(conn, PROBE) or (None, None, None)
    return (
        None if position is None else int(position),
        None if timeline is None else int(timeline, 16),
    )


def _ask_who(conn: connection, facts: Facts) -> None:
    row = row_of(conn, WHO)
    if row is not None:
        facts.user, facts.superuser, facts.bypasses_rls = row[:3]
        facts.role_limit, facts.database_limit, facts.read_only = row[3:6]
        facts.superusers = row[6]


def _limits(conn: connection) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(TIME, (list(LIMITS),))
        return cur.fetchall()


def row_of(conn: connection, query: str, given: object = None) -> Any:  # noqa: ANN401 - whatever it asks for
    """Return the first row of an answer; None if there is none, or it is refused.

    Raises:
        psycopg2.Error: the session is lost.
    """
    try:
        return must(conn, query, given)
    except psycopg2.Error:
        if conn.closed:
            raise
        return None


def must(conn: connection, query: str, given: object = None) -> Any:  # noqa: ANN401 - as `row_of`
    """Return the first row of an answer.

    Raises:
        psycopg2.Error: there is none.
    """
    with conn.cursor() as cur:
        cur.execute(query, given)  # type: ignore[arg-type] # a mapping or None
        row = cur.fetchone()
    if row is None:
        raise psycopg2.DataError("a question has no answer")
    return row

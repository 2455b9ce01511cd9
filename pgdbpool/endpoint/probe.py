"""What the pool asks a server about its part in its cluster."""

from time import monotonic

import psycopg2
from psycopg2 import extensions as driver

from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.host import Presence
from pgdbpool.endpoint.standing import Finding, Role

# The first eight digits of a WAL file's name are its timeline (manual, "Backup
# Control Functions", "Recovery Information Functions"; PostgreSQL 10 and newer).
PROBE = (
    "SELECT r, CASE WHEN r THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
    " - '0/0', CASE WHEN NOT r THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    " END FROM pg_is_in_recovery() AS r"
)

# What servers answer that are PostgreSQL, but keep no WAL of their own to ask for.
ROLE = "SELECT pg_is_in_recovery()"

ROLES = {"on": Role.STANDBY, "off": Role.PRIMARY}

# To the microsecond, and the same for all of its sessions.
STARTED = "SELECT extract(epoch FROM pg_postmaster_start_time())::text"

# The same for a primary and its standbys.
SYSTEM = "SELECT system_identifier FROM pg_control_system()"

WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0'"


def probe(conn: PooledConnection) -> Finding:
    """Ask for role, position and timeline. Blocks for a round trip.

    The connection must be nobody's, and at most a ping's transaction be open.

    Raises:
        psycopg2.Error: it does not answer.
    """
    if not session.is_idle(conn):  # begun for who is next in line
        session.undo_ping(conn)
        conn.pinged_for = None
    asked_at = monotonic()
    try:
        row = session.execute_alone(conn, PROBE)
    except psycopg2.Error:
        if conn.closed:
            raise
        row = session.execute_alone(conn, ROLE)
    seconds = monotonic() - asked_at
    assert row is not None  # noqa: S101 - both always have a row
    role = Role.STANDBY if row[0] else Role.PRIMARY
    position, timeline = (*row[1:], None, None)[:2]
    return Finding(
        role,
        None if position is None else int(position),
        None if timeline is None else int(timeline, 16),
        seconds,
        asked_at,
    )


def presence(conn: PooledConnection) -> Presence:
    """Ask which server it is, and for what `probe` does. Blocks for three round trips.

    Raises:
        psycopg2.Error: it does not answer.
    """
    row = session.execute_alone(conn, STARTED)
    assert row is not None  # noqa: S101 - it always has a row
    return Presence(str(row[0]), probe(conn), _system(conn))


def _system(conn: PooledConnection) -> str | None:
    try:
        row = session.execute_alone(conn, SYSTEM)
    except psycopg2.Error:  # it is not quite PostgreSQL
        if conn.closed:
            raise
        return None
    return None if row is None else str(row[0])


def written(conn: PooledConnection) -> int | None:
    """Return how far a standby must be to show what this session committed. Blocks.

    The session must be outside any transaction. None where the server cannot say.
    """
    if session.is_standby(conn) or not session.is_idle(conn):
        return None
    try:
        row = session.execute_alone(conn, WRITTEN)
    except psycopg2.Error:
        if conn.closed:
            raise
        return None
    return None if row is None else int(row[0])


def role_of(conn: driver.connection) -> Role | None:
    """Return the role that the server last reported on this session. No I/O.

    None before PostgreSQL 14, which reports none, and behind a transaction pooler,
    which repeats what it once heard.
    """
    reported = conn.get_parameter_status("in_hot_standby")
    return None if reported is None else ROLES[reported]

"""How a new connection is made ready to be held."""

import logging

import psycopg2
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver

from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import AUTOCOMMIT, PooledConnection
from pgdbpool.endpoint.multiplexed import MultiplexedConnection
from pgdbpool.settings import Settings

logger = logging.getLogger(__name__)

# PostgreSQL 14, as libpq counts versions.
CHECKS_CLIENT = 140000

# Ends the query of a client that is gone (PostgreSQL 14 and newer), unless the
# administrator set it. Milliseconds.
CHECK_CLIENT = (
    "SELECT CASE WHEN current_setting('client_connection_check_interval') = '0' "
    "THEN set_config('client_connection_check_interval', '2000', false) END"
)

KEEP_CHECKING = "; SET client_connection_check_interval = 2000"

# What DISCARD ALL does, without prepared statements, and in a form that can be
# sent as one message (PostgreSQL manual, "DISCARD").
RESET_SESSION = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)


def prepare(conn: PooledConnection, settings: Settings) -> None:
    """Make a new connection ready to be held. Blocks.

    Raises:
        psycopg2.Error: the session was lost, or ``configure`` left a
            transaction open.
        Exception: whatever ``configure`` raised.
    """
    autocommit = conn.autocommit or settings.autocommit
    reset_session = RESET_SESSION
    if not isinstance(conn, MultiplexedConnection):
        AUTOCOMMIT.__set__(conn, True)
        reset_session += KEEP_CHECKING if _check_client(conn) else ""
        AUTOCOMMIT.__set__(conn, autocommit)
    elif autocommit:
        conn.autocommit = True
    configure(conn, settings)
    conn.baseline = _baseline(conn, reset_session + _keep_reported(conn))
    session.arm(conn)
    conn.is_changed = conn.is_touched = False
    conn.hold = None
    conn.cursors.clear()


def _check_client(conn: driver.connection) -> bool:
    """Have the server look for its client during queries; whether it will."""
    if conn.server_version < CHECKS_CLIENT:
        return False
    try:
        return session.execute(conn, CHECK_CLIENT) != (None,)
    except (sqlstate.InvalidParameterValue, sqlstate.FeatureNotSupported) as error:
        # Servers on platforms without the means refuse it.
        logger.debug("client_connection_check_interval is not to be had: %s", error)
        return False


def _keep_reported(conn: driver.connection) -> str:
    """Return statements that restore what psycopg2 relies on and never asks again."""
    kept = ("client_encoding", "DateStyle")
    values = {name: conn.get_parameter_status(name) for name in kept}
    return "".join(f"; SET {name} = '{value}'" for name, value in values.items())


def configure(conn: PooledConnection, settings: Settings) -> None:
    """Call the user's hook on a connection, if there is one."""
    if settings.configure is None:
        return
    settings.configure(conn)
    if not conn.closed and conn.get_transaction_status() != session.IDLE:
        raise psycopg2.ProgrammingError(
            f"configure: {settings.configure!r} left a transaction open"
        )


def _baseline(conn: PooledConnection, reset_session: str) -> session.Baseline:
    return session.Baseline(
        autocommit=conn.autocommit,
        isolation_level=conn.isolation_level,
        readonly=conn.readonly,
        deferrable=conn.deferrable,
        encoding=conn.encoding,
        cursor_factory=conn.cursor_factory,
        string_types=dict(conn.string_types),
        binary_types=dict(conn.binary_types),
        reset_session=reset_session,
    )

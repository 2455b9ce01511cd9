"""What the pool itself sends around a hold, and how it judges the answer.

The ping costs nothing where it can: before the first statement of a
transaction psycopg2 sends ``BEGIN`` as a round trip of its own, so the pool
sends just that, ahead of time. As ``BEGIN READ WRITE``, which a hot standby
refuses, it proves the role as well (PostgreSQL manual, "Hot Standby").
"""

import dataclasses
import logging
import os
import socket
from typing import Any

import psycopg2
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver

from pgdbpool.endpoint.connection import AUTOCOMMIT, READONLY, PooledConnection
from pgdbpool.endpoint.multiplexed import MultiplexedConnection
from pgdbpool.errors import CommitUnknown
from pgdbpool.watchdog import guarded

logger = logging.getLogger(__name__)

IDLE = driver.TRANSACTION_STATUS_IDLE
ACTIVE = driver.TRANSACTION_STATUS_ACTIVE
OPEN = driver.TRANSACTION_STATUS_INTRANS
FAILED = driver.TRANSACTION_STATUS_INERROR

# COMMIT, and the BEGIN that psycopg2 would send next (`arm`).
RENEW = "COMMIT; BEGIN READ WRITE"

# The classes of SQLSTATE by which not only COMMIT can fail, but BEGIN after it:
# cancelled, out of resources, internal (PostgreSQL manual, "Error Codes").
FAILS_BEGIN = frozenset({"", "0A", "25", "53", "57", "58", "XX"})


@dataclasses.dataclass(frozen=True, slots=True)
class Baseline:
    """The driver's settings of a connection when it was ready to be held."""

    autocommit: bool
    isolation_level: int | None
    readonly: bool | None
    deferrable: bool | None
    encoding: str
    cursor_factory: Any
    string_types: dict[int, Any]
    binary_types: dict[int, Any]
    reset_session: str

    @property
    def begins_plainly(self) -> bool:
        """Whether BEGIN says nothing about isolation."""
        return self.isolation_level is None and self.deferrable is None


def execute(conn: driver.connection, statement: str) -> tuple[Any, ...] | None:
    """Send one statement past everything the user configured.

    Blocks. Returns the first row of the answer, None if it has none.
    """
    # The user's cursor class could log, wrap or refuse what is not the user's.
    cur = driver.connection.cursor(conn, cursor_factory=driver.cursor)
    try:
        cur.execute(statement)
        return cur.fetchone() if cur.description else None
    finally:
        cur.close()


def execute_alone(conn: PooledConnection, statement: str) -> tuple[Any, ...] | None:
    """Send one statement outside any transaction, where psycopg2 would add a BEGIN.

    Blocks. The connection must be idle; returns as `execute` does.
    """
    if isinstance(conn, MultiplexedConnection):
        try:
            return execute(conn, statement)
        finally:
            if not (conn.closed or is_idle(conn)):
                undo_ping(conn)
    if conn.autocommit:
        return execute(conn, statement)
    # Switching sends nothing while psycopg2 has no access mode to set.
    is_read_ping, is_write_ping = conn.is_read_ping, conn.is_write_ping
    if is_read_ping or is_write_ping:
        disarm(conn)
    AUTOCOMMIT.__set__(conn, True)
    try:
        return execute(conn, statement)
    finally:
        if not conn.closed:
            AUTOCOMMIT.__set__(conn, False)
            if is_read_ping or is_write_ping:
                READONLY.__set__(conn, is_read_ping)
                conn.is_read_ping, conn.is_write_ping = is_read_ping, is_write_ping


def arm(conn: PooledConnection) -> None:
    """Let BEGIN say READ WRITE where that takes nothing from anyone. No I/O.

    It would override a ``default_transaction_read_only`` that is on, so the
    server must report it off (it does from PostgreSQL 14 on).
    """
    baseline = conn.baseline
    if baseline.autocommit or baseline.readonly is not None:
        return
    if _reports(conn, "default_transaction_read_only", "off") and not is_standby(conn):
        READONLY.__set__(conn, False)
        conn.is_write_ping = True


def disarm(conn: PooledConnection) -> None:
    """Let BEGIN say what the session has by default. No I/O, but in autocommit."""
    conn.is_write_ping = conn.is_read_ping = False
    READONLY.__set__(conn, conn.baseline.readonly)


def is_standby(conn: driver.connection) -> bool:
    """Whether the server last reported that it is a hot standby. No I/O."""
    return _reports(conn, "in_hot_standby", "on")


def _reports(conn: driver.connection, parameter: str, value: str) -> bool:
    return conn.get_parameter_status(parameter) == value


def is_open(conn: driver.connection) -> bool:
    """Whether neither side has closed it, as far as psycopg2 knows. No I/O."""
    return not conn.closed


def is_idle(conn: driver.connection) -> bool:
    """Whether no transaction is open. No I/O."""
    return conn.get_transaction_status() == IDLE


def ping(conn: PooledConnection, *, is_reading: bool = False) -> None:
    """Prove that the session works, in its next transaction where it can be.

    Blocks for one round trip.

    Args:
        conn: a connection that nobody else has.
        is_reading: the transactions of this hold are to be READ ONLY.

    Raises:
        psycopg2.Error: it does not work.
    """
    if not is_idle(conn):  # begun for somebody else, who did not come
        undo_ping(conn)
    _set_access(conn, is_reading=is_reading)
    try:
        _ask(conn)
    except sqlstate.FeatureNotSupported:
        if not conn.is_write_ping:
            raise
        # A hot standby, and still good for reading.
        disarm(conn)
        _ask(conn)
    conn.is_pristine = conn.get_transaction_status() != IDLE


def _set_access(conn: PooledConnection, *, is_reading: bool) -> None:
    """Let BEGIN say what the hold is for. No I/O, but in autocommit."""
    if is_reading and not (conn.autocommit and isinstance(conn, MultiplexedConnection)):
        if not conn.is_read_ping:
            disarm(conn)
            READONLY.__set__(conn, True)
            conn.is_read_ping = True
        return
    if conn.is_read_ping:
        disarm(conn)
    if not conn.is_write_ping:
        arm(conn)
    elif _reports(conn, "default_transaction_read_only", "on"):
        disarm(conn)


def _ask(conn: PooledConnection) -> None:
    if conn.autocommit or driver.get_wait_callback() is not None:
        # Under a wait callback psycopg2 refuses large objects.
        execute(conn, "SELECT pg_is_in_recovery()")
    else:
        # Mode "n" opens nothing: psycopg2 sends its own BEGIN and that is all.
        driver.connection.lobject(conn, 1, "n")


def commit(conn: PooledConnection, limit: float, *, may_renew: bool = False) -> None:
    """Commit what the holder did. Blocks without limit: a COMMIT has none.

    Args:
        conn: a connection that is held.
        limit: seconds for the rollback of a transaction that cannot commit.
        may_renew: the hold ends and somebody waits for the connection, so its
            ping may come along with the COMMIT; ``conn.is_renewed`` tells.

    Raises:
        psycopg2.errors.InFailedSqlTransaction: it had failed and is undone.
        psycopg2.OperationalError: the session was lost before; nothing is
            committed.
        CommitUnknown: it was lost meanwhile.
        psycopg2.Error: what the server objected to; all is undone.
    """
    if conn.closed == 1:  # by its holder, who thereby gave its work up
        return
    status = conn.get_transaction_status()
    if status == IDLE and not conn.closed:
        return
    if status != OPEN:
        _refuse_what_cannot_be(conn, limit)
    if is_lost(conn):
        _give_up(conn, limit)
        return
    try:
        if may_renew and _is_renewable(conn):
            _renew(conn, limit)
        else:
            _end(conn, "COMMIT")
    except psycopg2.Error as error:
        if conn.closed:
            raise CommitUnknown(
                "the session was lost while COMMIT was under way: "
                "the transaction may be committed or not"
            ) from error
        raise


def _is_renewable(conn: PooledConnection) -> bool:
    """Whether the next BEGIN is known, and nothing has to come before it. No I/O."""
    return (
        type(conn) is PooledConnection  # a user's class may have a commit() of its own
        and conn.is_write_ping
        and conn.baseline.begins_plainly
        and not conn.is_cancelled
        and not _reports(conn, "default_transaction_read_only", "on")
        and not open_cursors(conn)
    )


def open_cursors(conn: PooledConnection) -> list[driver.cursor]:
    """Return the cursors of the hold that are still open. No I/O."""
    living = [reference() for reference in conn.cursors.copy()]
    return [cur for cur in living if cur is not None and not cur.closed]


def _renew(conn: PooledConnection, limit: float) -> None:
    """Commit, and ping for the next holder, in one round trip. Blocks.

    psycopg2 goes on in its transaction, and is right: it is the next one.
    """
    try:
        execute(conn, RENEW)
    except psycopg2.Error as error:
        if conn.closed:
            raise
        with guarded(conn, limit, "the rollback"):
            # Nothing is open any more, but psycopg2 does not know.
            driver.connection.rollback(conn)
        if (error.pgcode or "")[:2] in FAILS_BEGIN:
            raise CommitUnknown(
                "the server broke off COMMIT and what followed it: "
                "the transaction may be committed or not"
            ) from error
        raise
    conn.is_renewed = conn.is_pristine = True
    if conn.hold is not None:
        conn.hold.has_committed = True


def _refuse_what_cannot_be(conn: PooledConnection, limit: float) -> None:
    """Raise where the server would answer COMMIT by a rollback, without a word."""
    status = conn.get_transaction_status()
    if status == ACTIVE:
        raise psycopg2.ProgrammingError(
            "a COPY or a result is unfinished, so COMMIT was not sent: "
            "nothing is committed"
        )
    if status == FAILED:
        with guarded(conn, limit, "the rollback"):
            roll_back(conn)
        raise sqlstate.InFailedSqlTransaction(
            "a statement of this transaction failed, so COMMIT was not sent "
            "and all of it is rolled back"
        )


def _give_up(conn: PooledConnection, limit: float) -> None:
    """Raise for a session found lost, after psycopg2 has found it so, too.

    A transaction that nobody used takes nothing with it.
    """
    if conn.is_pristine:
        return
    lost = "the session was lost before COMMIT was sent: nothing is committed"
    if conn.autocommit or (conn.hold is not None and conn.hold.has_committed):
        lost = "the session was lost, and with it what was not committed before"
    try:
        with guarded(conn, limit, "the rollback"):
            roll_back(conn)
    except psycopg2.Error as error:
        raise psycopg2.OperationalError(lost) from error
    raise psycopg2.OperationalError(lost)


def is_lost(conn: PooledConnection) -> bool:
    """Whether the server has ended this session, as far as can be seen. No I/O.

    A session between two statements is silent, so whatever can be read is a
    notice, a notification, or the end.
    """
    while not conn.closed and conn.news():
        if _at_end(conn):
            return True
        try:
            conn.poll()
        except psycopg2.Error:
            return True
    return bool(conn.closed)


def _at_end(conn: PooledConnection) -> bool:
    try:
        # A duplicate, because the socket object closes what it was given.
        with socket.socket(fileno=os.dup(conn.fileno())) as sock:
            return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except (OSError, psycopg2.Error):
        return True


def undo_ping(conn: PooledConnection) -> None:
    """End the transaction that a ping began on a connection nobody holds. Blocks."""
    driver.connection.rollback(conn)
    conn.is_pristine = False


def roll_back(conn: driver.connection) -> None:
    """Undo what is open, also what an SQL BEGIN opened in autocommit. Blocks."""
    if conn.get_transaction_status() != IDLE:
        _end(conn, "ROLLBACK")


def _end(conn: driver.connection, how: str) -> None:
    if conn.autocommit:
        # psycopg2 believes there is no transaction and would send nothing.
        execute(conn, how)
    elif how == "COMMIT":
        conn.commit()
    else:
        conn.rollback()

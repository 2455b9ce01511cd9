"""What handlers do with a connection, for the tests of what it leaves behind."""

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions as driver

from tests.asking import ask

Act = Callable[[Any], object]


def select(conn: driver.connection) -> None:
    """Use the connection."""
    assert ask(conn, "SELECT 1") == 1


def undo(conn: driver.connection) -> None:
    """Roll back and go on."""
    select(conn)
    conn.rollback()
    select(conn)


def fail(conn: driver.connection) -> None:
    """Make a statement fail, and leave the transaction failed."""
    with pytest.raises(psycopg2.ProgrammingError):
        ask(conn, "SELECT nonsense")
    conn.rollback()


def fail_in_a_savepoint(conn: driver.connection) -> None:
    """Undo a part."""
    ask(conn, "SAVEPOINT here")
    with pytest.raises(psycopg2.ProgrammingError):
        ask(conn, "SELECT nonsense")
    ask(conn, "ROLLBACK TO SAVEPOINT here")


def serializable(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
    """Choose all that BEGIN can say."""
    conn.set_session("SERIALIZABLE", readonly=True, deferrable=True)
    assert ask(conn, "SHOW transaction_isolation") == "serializable"
    assert ask(conn, "SHOW transaction_read_only") == "on"
    assert ask(conn, "SHOW transaction_deferrable") == "on"


def read_only(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
    """Choose the access mode, and another."""
    conn.readonly = True
    assert ask(conn, "SHOW transaction_read_only") == "on"
    conn.commit()
    conn.readonly = False
    conn.isolation_level = driver.ISOLATION_LEVEL_REPEATABLE_READ
    conn.deferrable = None
    assert ask(conn, "SHOW transaction_isolation") == "repeatable read"


def autocommit(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
    """Switch on, off and on again."""
    conn.autocommit = True
    select(conn)
    conn.autocommit = False
    select(conn)
    conn.commit()
    conn.set_isolation_level(driver.ISOLATION_LEVEL_AUTOCOMMIT)
    select(conn)


def autocommit_after_a_choice(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
    """Take the choice back and switch, at once."""
    conn.isolation_level = driver.ISOLATION_LEVEL_SERIALIZABLE
    select(conn)
    conn.commit()
    conn.set_session("DEFAULT", autocommit=True)
    select(conn)
    conn.isolation_level = conn.readonly = None
    conn.set_session(deferrable="default")
    select(conn)


def same_encoding(conn: driver.connection) -> None:
    """Ask for the encoding that there is."""
    conn.set_client_encoding("utf-8")
    assert ask(conn, "SELECT 'é'") == "é"


def leave_a_cursor(conn: driver.connection) -> None:
    """Leave a cursor of the server open."""
    cur = conn.cursor("left")
    cur.execute("SELECT generate_series(1, 100)")
    assert cur.fetchone() == (1,)
    LEFT.append(cur)


LEFT: list[object] = []


def store_an_object(conn: driver.connection) -> None:
    """Use a large object."""
    stored = conn.lobject(0, "wb")
    stored.write(b"here")
    stored.unlink()


def set_local(conn: driver.connection) -> None:
    """Set what ends with the transaction."""
    ask(conn, "SET LOCAL statement_timeout = '7s'")
    ask(conn, "SELECT set_config('app.tenant', '7', true)")
    assert ask(conn, "SHOW app.tenant") == "7"


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        select,
        undo,
        fail,
        fail_in_a_savepoint,
        serializable,
        read_only,
        autocommit,
        autocommit_after_a_choice,
        same_encoding,
        leave_a_cursor,
        store_an_object,
        set_local,
    )
}

# And what holders ask for that could not be undone.
REFUSED: dict[str, Act] = {
    "an encoding": lambda conn: conn.set_client_encoding("LATIN1"),
    "a reset": lambda conn: conn.reset(),
    "a cursor with hold": lambda conn: conn.cursor("lasting", withhold=True),
    "a cursor with hold, by place": lambda conn: conn.cursor("lasting", None, True),
    "a level in autocommit": lambda conn: conn.set_session(
        isolation_level="SERIALIZABLE", autocommit=True
    ),
    "a mode and autocommit": lambda conn: (
        setattr(conn, "readonly", True),
        setattr(conn, "autocommit", True),
    ),
    "autocommit and a mode": lambda conn: (
        setattr(conn, "autocommit", True),
        setattr(conn, "deferrable", False),
    ),
    "a mode and autocommit by number": lambda conn: (
        setattr(conn, "readonly", False),
        conn.set_isolation_level(driver.ISOLATION_LEVEL_AUTOCOMMIT),
    ),
}

"""Whether a pooler is in between, and for how long it lends a session.

A pooler gives its clients a key of its own for cancelling, so the process that the
login has named is not the one that answers (PgBouncer makes it up; manual, 55.2.1
"Start-up"). Nothing is left in any session, and no setting of a pooler hides it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg2

from pgdbpool.doctor.asking import must
from pgdbpool.doctor.facts import Mode
from pgdbpool.watchdog import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection

PROCESS: Final = "SELECT pg_backend_pid()"
# Others use the pooler too, and may take a session between two questions.
TURNS: Final = 5


def is_pooled(conn: connection) -> bool:
    """Whether another process answers than the login has named. Blocks.

    Raises:
        psycopg2.Error: nobody answers.
    """
    return bool(must(conn, PROCESS)[0] != conn.info.backend_pid)


def mode_of(first: connection, connect: Callable[[], connection], limit: float) -> Mode:
    """Find out for how long a pooler lends a session. Blocks for ``limit`` at most.

    Two clients ask in turn who answers. A session that both have had, or a client that
    has had two, is proof that sessions are lent by the transaction.

    Args:
        first: in autocommit; may be lost by this.
        connect: opens another connection like it.
        limit: seconds; the second client may have to wait for a session.
    """
    try:
        with guarded(first, limit, "asking the pooler"):
            second = connect()
            try:
                with guarded(second, limit, "waiting for the pooler"):
                    is_shared = _share(first, second)
            finally:
                second.close()
            return _of_block(first) if is_shared else Mode.SESSION
    except psycopg2.Error:
        return Mode.UNKNOWN


def _share(first: connection, second: connection) -> bool:
    found: list[set[object]] = [set(), set()]
    for _ in range(TURNS):
        for conn, pids in zip((first, second), found, strict=True):
            pids.add(must(conn, PROCESS)[0])
    return bool(found[0] & found[1]) or any(len(pids) > 1 for pids in found)


def _of_block(conn: connection) -> Mode:
    """Return whether a transaction may have several statements.

    In statement mode PgBouncer cuts off who begins one, mostly without a word.
    """
    try:
        must(conn, "BEGIN; SELECT 1")
        with conn.cursor() as cur:
            cur.execute("ROLLBACK")
    except psycopg2.Error:
        return Mode.STATEMENT
    return Mode.TRANSACTION

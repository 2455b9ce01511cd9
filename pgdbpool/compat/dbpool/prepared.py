"""Prepared queries: the functions of the extension ``prep_queries``."""

import weakref
from collections.abc import Sequence
from typing import Any, Final

from psycopg2.extensions import connection, cursor

PREPARE: Final = '"SQLPrepare"."PrepareQueries"'
EXECUTE: Final = '"SQLPrepare"."ExecuteQuery"'


class Prepare:
    """Prepares all queries in each new session, as ``configure`` of a pool.

    The pool calls it again after each reset of a session, which leaves prepared
    statements as they are: then there is nothing to do.
    """

    def __init__(self) -> None:
        self._prepared: weakref.WeakSet[connection] = weakref.WeakSet()

    def __call__(self, conn: connection) -> None:
        """Prepare. Blocks."""
        if conn in self._prepared:
            return
        with conn.cursor() as cur:
            cur.callproc(PREPARE)
        if not conn.autocommit:
            conn.commit()
        self._prepared.add(conn)


def execute(cur: cursor, parameters: Sequence[Any]) -> Any:  # noqa: ANN401 - what JSON has
    """Return what a prepared query answers. Blocks."""
    cur.callproc(EXECUTE, parameters)
    row = cur.fetchone()
    return None if row is None else row[0]

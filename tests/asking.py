"""What a test says to a server in one line, and what the server heard."""

import re
from collections.abc import Callable
from typing import Any

from psycopg2.extensions import connection

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres

# For a DSN: the server writes down every statement of the session.
LOGGED = "-c log_statement=all"

# What changes a session beyond its transaction, also as one of several statements.
_LASTING = re.compile(
    r"(?:^|;)\s*(?:SET(?!\s+(?:LOCAL|TRANSACTION)\b)|RESET|DISCARD|(?:UN)?LISTEN)\b"
    r"|set_config\([^)]*false",
    re.IGNORECASE,
)

_STATEMENT = re.compile(r"\[(\d+)\] LOG:  statement: (.*)")


def ask(conn: connection, statement: str, *parameters: object) -> Any:  # noqa: ANN401 - whatever the database has
    """Return the first value of the answer, None if there is none."""
    with conn.cursor() as cur:
        cur.execute(statement, parameters or None)
        if cur.description is None:
            return None
        row = cur.fetchone()
        return None if row is None else row[0]


def pid(conn: connection) -> int:
    """Return which backend serves the connection, without asking it."""
    return conn.info.backend_pid


def held(pool: ConnectionPool, *acts: Callable[[connection], object]) -> int:
    """Let a block do something, and return which backend served it."""
    with pool.connection() as conn:
        backend = pid(conn)
        for act in acts:
            act(conn)
    return backend


def terminate(admin: connection, backend: int) -> None:
    """End a session from outside, and wait until it is gone."""
    assert ask(admin, "SELECT pg_terminate_backend(%s, 5000)", backend)


class Heard:
    """The statements that a server has heard since this was made.

    Only of sessions with `LOGGED` among their options, or of a server that writes
    down those of all.
    """

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._begin = len(server.log)

    def of(self, backend: int) -> list[str]:
        """Return the statements of one session in their order."""
        return [statement for number, statement in self._said() if number == backend]

    def of_all(self) -> list[str]:
        """Return the statements of all sessions in their order."""
        return [statement for _, statement in self._said()]

    def lasting(self) -> list[str]:
        """Return those of all sessions that change more than a transaction."""
        return [said for said in self.of_all() if _LASTING.search(said)]

    def _said(self) -> list[tuple[int, str]]:
        said = _STATEMENT.findall(self._server.log[self._begin :])
        return [(int(number), statement) for number, statement in said]

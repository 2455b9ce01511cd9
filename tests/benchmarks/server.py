"""The PostgreSQL that is measured against: PGDBPOOL_TEST_DSN, else the embedded one.

The embedded one gets room for the sessions the benchmarks open, and can be
restarted; with a server of the user's own, what needs either is left out and said.
It is reached through its Unix socket, the shortest round trip there is, which makes
a pool's own share the largest it can be; ``--tcp`` takes 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

from pgdbpool.demo.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS_WANTED = 720


@dataclass(frozen=True)
class Setup:
    """What every benchmark is given.

    Attributes:
        dsn: Where the server listens.
        embedded: The server itself, or None where it is not ours.
        quick: Whether a rough answer is enough.
        asked_rounds: The user's number of rounds, or None for each one's own.
    """

    dsn: str
    embedded: EmbeddedPostgres | None
    quick: bool
    asked_rounds: int | None

    def rounds(self, usual: int, quick: int) -> int:
        """Return how many rounds to run."""
        if self.asked_rounds is not None:
            return self.asked_rounds
        return quick if self.quick else usual

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the server's first process if it is ours to move between cores."""
        return () if self.embedded is None else (self.embedded.pids[0],)

    def free_sessions(self) -> int:
        """Return how many more sessions the server has room for. Blocks."""
        return int(
            ask(
                self.dsn,
                "SELECT current_setting('max_connections')::int - count(*) - 10"
                " FROM pg_stat_activity WHERE backend_type = 'client backend'",
            )
        )


def ask(dsn: str, sql: str) -> Any:  # noqa: ANN401 - whatever the query returns
    """Return the single value of a query, or None when it returns no rows. Blocks."""
    conn = psycopg2.connect(dsn)
    try:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute(sql)
            row = cur.fetchone() if cur.description else None
            return None if row is None else row[0]
    finally:
        conn.close()


@contextlib.contextmanager
def running(*, quick: bool, rounds: int | None, tcp: bool = False) -> Iterator[Setup]:
    """Give a running server for the length of the block. Blocks while it starts."""
    dsn = os.environ.get("PGDBPOOL_TEST_DSN")
    if dsn:
        yield Setup(dsn, None, quick, rounds)
        return
    with EmbeddedPostgres(settings={"max_connections": SESSIONS_WANTED}) as postgres:
        socket = {} if tcp else {"host": str(postgres.directory)}
        yield Setup(postgres.dsn(**socket), postgres, quick, rounds)

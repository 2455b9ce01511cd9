"""What the server itself says of the sessions it has."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import psycopg2
from psycopg2.extensions import connection, make_dsn

OBSERVER = "pgdbpool-tests-observer"

_BACKENDS = """
    SELECT pid, state, query FROM pg_stat_activity
    WHERE application_name = %s ORDER BY backend_start, pid
"""


class Backend(NamedTuple):
    """A session as pg_stat_activity shows it."""

    pid: int
    state: str
    query: str


@contextlib.contextmanager
def observe(dsn: str) -> Iterator[connection]:
    """Connect in autocommit, under a name of its own, and close at the end."""
    admin = psycopg2.connect(make_dsn(dsn, application_name=OBSERVER))
    try:
        admin.autocommit = True
        yield admin
    finally:
        admin.close()


def backends(admin: connection, application_name: str) -> list[Backend]:
    """Return the living sessions of that name, the oldest first."""
    with admin.cursor() as cur:
        cur.execute(_BACKENDS, (application_name,))
        return [Backend(*row) for row in cur.fetchall()]

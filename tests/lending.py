"""Servers that serve the whole run, lent to one test or one module after another.

To start one takes longer than most tests. Who has borrowed one may break it; it is
given back running, and the next one finds nothing of what was made or set there.
"""

import contextlib
from collections.abc import Iterator

from psycopg2 import sql

from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask
from tests import leftovers
from tests.clusters import is_standby, mended
from tests.waiting import until

# Of postgresql.auto.conf; where a standby finds its primary is there too, and stays.
_SET = """
    SELECT array_agg(DISTINCT name) FROM pg_file_settings
    WHERE sourcefile LIKE '%postgresql.auto.conf' AND name <> 'primary_conninfo'
"""
_MADE = {
    "TABLE": "SELECT array_agg(relname) FROM pg_class "
    "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
    "ROLE": "SELECT array_agg(rolname) FROM pg_roles "
    "WHERE rolname <> 'postgres' AND NOT starts_with(rolname, 'pg_')",
}
_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@contextlib.contextmanager
def lent_server(server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """Lend a server to one test, which may break it, or make a standby of it."""
    try:
        yield server
    finally:
        server.thaw()
        if not server.is_running:
            server.start()
        if is_standby(server):
            ask(server, "SELECT pg_promote(true, 30)")
        reset(server)
        empty(server)
        leftovers.permitted_pids.update(server.pids)


@contextlib.contextmanager
def lent_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Lend a cluster to one module, with nothing in it."""
    put_primary_first(cluster)
    try:
        yield cluster
    finally:
        empty(cluster.primary)
        cluster.wait_until_replayed()
        for server in cluster.servers:
            # Else the WAL of all modules is copied by whoever has to rejoin.
            ask(server, "CHECKPOINT")


@contextlib.contextmanager
def breakable(cluster: Cluster) -> Iterator[Cluster]:
    """Lend a cluster to one test, which may break it or change its settings."""
    try:
        with mended(cluster):
            yield cluster
    finally:
        for server in cluster.servers:
            reset(server)
        put_primary_first(cluster)


def put_primary_first(cluster: Cluster) -> None:
    """Name the primary first, as in a new cluster."""
    cluster.servers.sort(key=lambda server: server is not cluster.primary)


def reset(server: EmbeddedPostgres) -> None:
    """Undo what ALTER SYSTEM has done."""
    names = ask(server, _SET) or ()
    for name in names:
        change = sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name))
        ask(server, change)
    if names:
        ask(server, "SELECT pg_reload_conf()")


def empty(primary: EmbeddedPostgres) -> None:
    """Drop the tables and the roles; nobody else may use the server any more."""
    until(lambda: not ask(primary, _SESSIONS), message="all sessions have ended")
    for kind, query in _MADE.items():
        if names := ask(primary, query):
            identifiers = sql.SQL(", ").join(map(sql.Identifier, names))
            ask(primary, sql.SQL(f"DROP {kind} ") + identifiers)

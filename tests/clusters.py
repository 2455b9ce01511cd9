"""Clusters for the tests: who is what, and a broken one made whole again."""

import contextlib
from collections.abc import Iterator

from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask
from tests import leftovers

_TIMELINE = """
    SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
"""


def is_standby(server: EmbeddedPostgres) -> bool:
    """Return whether a server says that it is a standby."""
    return bool(ask(server, "SELECT pg_is_in_recovery()"))


def timeline(primary: EmbeddedPostgres) -> int:
    """Return the number that every promotion raises."""
    return int(ask(primary, _TIMELINE))


@contextlib.contextmanager
def mended(cluster: Cluster) -> Iterator[Cluster]:
    """Lend a cluster that outlives a test to one test, which may break it.

    Afterwards all its servers run, and the standbys have all that is written. So
    a fixture of the module starts a cluster, and one of the test lends it out.
    """
    try:
        yield cluster
    finally:
        for server in cluster.servers:
            server.thaw()
        if not cluster.primary.is_running:
            cluster.fail_over()
        for server in cluster.servers:
            if not server.is_running:
                cluster.rejoin(server)
        cluster.wait_until_replayed()
        for server in cluster.servers:
            leftovers.permitted_pids.update(server.pids)

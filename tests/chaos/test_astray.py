"""A standby that was not rewound after a failover, and cannot follow any more."""

import logging

import pytest

from pgdbpool import ConnectionPool, NoStandby
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.standby import ask, follow
from tests.asking import ask as ask_on
from tests.endpoints import port
from tests.soundness import assert_at_rest
from tests.waiting import until

ROWS = "SELECT array_agg(note ORDER BY note) FROM notes"


def strayed(cluster: Cluster) -> None:
    """Lose what the standby did not get, and have the old primary follow it so."""
    old, new = cluster.primary, cluster.standbys[0]
    ask(old, "CREATE TABLE notes (note text)")
    cluster.wait_until_replayed()
    new.stop()
    ask(old, "INSERT INTO notes VALUES ('lost')")
    ask(old, "SELECT pg_switch_wal()")
    ask(old, "INSERT INTO notes VALUES ('lost too')")
    old.kill()
    new.start()
    cluster.fail_over()
    ask(new, "INSERT INTO notes VALUES ('acknowledged')")
    follow(old, new)
    old.start()


def test_nothing_is_read_from_a_standby_of_a_dead_branch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Though it is ahead of the primary, until it was rewound."""
    with Cluster(standbys=1) as cluster:
        strayed(cluster)
        new = cluster.primary
        (old,) = (server for server in cluster.servers if server is not new)
        with ConnectionPool(cluster.dsn(), max_size=2, timeout=1.0) as pool:
            for _ in range(200):
                with pool.connection(read_only=True) as conn:
                    assert ask_on(conn, ROWS) == ["acknowledged"]
            until(lambda: "astray" in {one.state for one in pool.endpoints})
            with pytest.raises(NoStandby, match="of what the primary never wrote"):
                pool.getconn(read_only=True, strict=True)
            said = [r.message for r in caplog.records if r.levelno == logging.WARNING]
            assert len([text for text in said if "never wrote" in text]) == 1

            old.stop()
            cluster.rejoin(old)
            until(lambda: port(pool, read_only=True) == old.port)
            with pool.connection(read_only=True, strict=True) as conn:
                assert ask_on(conn, ROWS) == ["acknowledged"]
            assert_at_rest(pool)

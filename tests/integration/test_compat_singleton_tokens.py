"""M3 to M6 and M15: what a rotation of tokens does not do any more."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import (
    PoolExhausted,
    TooManyConnections,
)
from pgdbpool.compat.singleton import PostgresqlConnection
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask, pid
from tests.integration.singletons import (  # noqa: F401 - fixtures
    ROLE,
    Cloud,
    Load,
    count,
    given_cloud,
    given_db,
    given_environ,
    given_guarded,
    insert,
    served,
)
from tests.soundness import assert_at_rest
from tests.waiting import until

pytestmark = pytest.mark.direct("goes by variables, and sets options in its DSN")


def test_m3_a_transaction_that_is_open_while_the_token_rotates_commits(
    cloud: Cloud,
) -> None:
    """M3: what is in use lives until its release, and goes then."""
    db = PostgresqlConnection()
    with db as conn:
        old = pid(conn)
        ask(conn, "CREATE TEMPORARY TABLE work (note text)")
        db._refresh_pool()
        insert_here = "INSERT INTO work VALUES ('mine') RETURNING note"
        assert ask(conn, insert_here) == "mine"
    assert cloud.calls == 2
    assert served(db) != old
    assert db.pool.get_stats()["connections_errors"] == 0
    assert_at_rest(db.pool)


def test_m3_what_was_written_during_a_rotation_is_there(
    db: PostgresqlConnection, admin: connection, table: str
) -> None:
    """M3: before it and after it, in one transaction."""
    with db as conn:
        insert(conn, table, "before")
        db._refresh_pool()
        insert(conn, table, "after")
    assert count(admin, table) == 2


def test_m4_a_herd_with_an_outdated_token_fetches_once(cloud: Cloud) -> None:
    """M4: eight threads find the password changed, and one token is fetched."""
    db = PostgresqlConnection()
    served(db)
    assert (cloud.calls, cloud.credentials) == (1, 1)
    cloud.change()
    db.pool.retire_idle()
    barrier = threading.Barrier(8)

    def use() -> int:
        barrier.wait(5.0)
        return served(db)

    with ThreadPoolExecutor(8) as executor:
        futures = [executor.submit(use) for _ in range(8)]
        backends_used = {future.result() for future in futures}
    assert len(backends_used) <= 4
    assert (cloud.calls, cloud.credentials) == (2, 1)
    assert_at_rest(db.pool)


def test_m5_a_load_during_twenty_rotations_sees_no_error(cloud: Cloud) -> None:
    """M5: each with a new token, which makes the one before worthless."""
    db = PostgresqlConnection()
    served(db)
    with Load(db, 8) as load:
        for _ in range(20):
            db._refresh_pool()
            enough = load.served + 20
            until(lambda enough=enough: load.served > enough)  # type: ignore[misc]
    assert cloud.calls == 21
    assert db.pool.get_stats()["requests_errors"] == 0
    assert_at_rest(db.pool)


def test_m6_a_full_server_is_no_reason_for_a_token(
    cloud: Cloud, guarded: EmbeddedPostgres
) -> None:
    """M6: "FATAL: too many connections for role" is none about the password."""
    with closing(psycopg2.connect(guarded.dsn())) as admin:
        admin.autocommit = True
        ask(admin, f"ALTER ROLE {ROLE} CONNECTION LIMIT 1")
    db = PostgresqlConnection()
    with db as conn:
        backend = pid(conn)
        with pytest.raises((TooManyConnections, PoolExhausted), match="too many"):
            db.pool.getconn(timeout=0.3)
        assert ask(conn, "SELECT 1") == 1
    assert served(db) == backend
    assert (cloud.calls, cloud.credentials) == (1, 1)


def test_m15_there_is_one_credential_and_it_is_renewed_ahead_of_its_end(
    cloud: Cloud,
) -> None:
    """M15: while blocks hold their connections, and without an error."""
    cloud.life = 1.0
    db = PostgresqlConnection()
    with db as conn:
        backend = pid(conn)
        until(lambda: cloud.calls >= 3)
        assert ask(conn, "SELECT 1") == 1
    assert served(db) != backend
    assert cloud.credentials == 1
    assert db.pool.get_stats()["connections_errors"] == 0

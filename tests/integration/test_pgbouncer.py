"""Behind a real PgBouncer in transaction mode.

Failure mode 23. The server writes down all it hears from PgBouncer, which logs in
as a user of this module with the name that the pools go by: so PgBouncer, too, has
nothing to SET.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2.extensions import connection, make_dsn

from pgdbpool import ConnectionPool, PoolTimeout
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres
from pgdbpool.endpoint.connection import READ_ONLY
from tests.asking import Heard, ask, held
from tests.integration.holds import ACTS, REFUSED, select
from tests.observer import observe
from tests.pgbouncer import PgBouncer, needs_pgbouncer
from tests.soundness import assert_at_rest
from tests.waiting import until

pytestmark = [needs_pgbouncer, pytest.mark.direct("has PgBouncers of its own")]

ROOT = Path(__file__).parents[2]
Pools = Callable[..., ConnectionPool]
USER = "pooled"


@pytest.fixture
def behind(server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """Give the server of the whole run, with a user that PgBouncer logs in as."""
    with observe(server.dsn()) as admin:
        ask(admin, f"CREATE ROLE {USER} LOGIN")
        ask(admin, f"ALTER ROLE {USER} SET log_statement = 'all'")
        ask(admin, f"ALTER ROLE {USER} SET application_name = 'pgdbpool'")
        yield server
        ask(admin, f"DROP ROLE {USER}")


@pytest.fixture
def bouncer(behind: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """Give a PgBouncer that has one session of the server."""
    with PgBouncer(behind, USER) as bouncer:
        yield bouncer


@pytest.fixture
def made(bouncer: PgBouncer) -> Iterator[Pools]:
    """Give a maker of pools behind that PgBouncer."""
    with_settings = pools_of(bouncer)
    yield with_settings
    with_settings.close()


class pools_of:  # noqa: N801 - a function with an end
    """A maker of pools behind a PgBouncer, and what closes them."""

    def __init__(self, bouncer: PgBouncer) -> None:
        self._dsn = make_dsn(None, host=HOST, port=bouncer.port, dbname="postgres")
        self._pools: list[ConnectionPool] = []

    def __call__(self, **settings: Any) -> ConnectionPool:  # noqa: ANN401 - whatever it takes
        """Make a pool."""
        given = {"via": "transaction-pooler", "max_size": 2, **settings}
        self._pools.append(ConnectionPool(self._dsn, **given))
        return self._pools[-1]

    def close(self) -> None:
        """Close all, which are at rest."""
        for pool in self._pools:
            assert_at_rest(pool)
            pool.close()


def server_pid(conn: connection) -> int:
    """Ask which session of the server is used."""
    found: int = ask(conn, "SELECT pg_backend_pid()")
    return found


@pytest.mark.parametrize("settings", [{}, {"ping_idle": 60.0}, {"autocommit": True}])
def test_no_hold_leaves_anything_on_the_server(
    behind: EmbeddedPostgres, made: Pools, settings: dict[str, Any]
) -> None:
    """Nobody has SET or reset anything, neither the pool nor PgBouncer for it."""
    heard = Heard(behind)
    pool = made(**settings)
    pool.wait()
    for name, act in ACTS.items():
        with pool.connection() as conn:
            if name not in ("select", "autocommit", "same_encoding"):
                conn.autocommit = False
            act(conn)
        held(pool, select)
    assert len(heard.of_all()) > 2 * len(ACTS)
    assert heard.lasting() == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_costs_no_connection(made: Pools, name: str) -> None:
    """PgBouncer hears nothing of it."""
    pool = made(max_size=1)
    with pool.connection() as conn:
        with pytest.raises(psycopg2.NotSupportedError):
            REFUSED[name](conn)
        conn.rollback()
        select(conn)
    with pool.connection() as again:
        assert again is conn


def test_what_one_hold_chose_no_other_client_meets(made: Pools) -> None:
    """Two pools take turns on one session of the server."""
    first, second = made(), made()
    found = []
    for act in (ACTS["serializable"], ACTS["autocommit"], ACTS["set_local"]):
        held(first, act)
        with second.connection() as conn:
            found.append(ask(conn, "SHOW transaction_isolation"))
            found.append(ask(conn, "SHOW transaction_read_only"))
            found.append(ask(conn, "SHOW statement_timeout"))
    assert found == ["read committed", "off", "0"] * 3


def test_an_idle_pool_keeps_no_server(made: Pools) -> None:
    """After a release, a ping and a check, the one session is free for others."""
    idle, other = made(min_size=2), made(max_size=1)
    idle.wait()
    for _ in range(3):
        held(idle, select)
        with idle.connection():
            pass
        idle.check()
        held(other, select)


def test_a_transaction_has_one_server(behind: EmbeddedPostgres) -> None:
    """From the ping on; the next one may have another."""
    with PgBouncer(behind, USER, default_pool_size=2) as bouncer:
        made = pools_of(bouncer)
        pool = made(max_size=2)
        with pool.connection() as one, pool.connection() as two:
            first, second = server_pid(one), server_pid(two)
            assert first != second
            assert [server_pid(one), server_pid(two)] == [first, second]
        made.close()


def test_many_share_few(behind: EmbeddedPostgres) -> None:
    """Four pools of four on two sessions: each transaction is whole."""
    served: set[int] = set()

    def work(pool: ConnectionPool, number: int) -> None:
        for turn in range(20):
            with pool.connection() as conn:
                ask(conn, "INSERT INTO shared VALUES (%s)", f"{number}.{turn}")
                served.add(server_pid(conn))
                if turn % 2:
                    conn.rollback()

    with observe(behind.dsn()) as admin:
        ask(admin, "CREATE TABLE shared (note text)")
        with PgBouncer(behind, default_pool_size=2) as bouncer:
            made = pools_of(bouncer)
            pools = [made(max_size=4, timeout=20.0) for _ in range(4)]
            with ThreadPoolExecutor(16) as threads:
                done = [threads.submit(work, pools[n % 4], n) for n in range(16)]
                for each in done:
                    each.result(50)
            made.close()
        assert ask(admin, "SELECT count(DISTINCT note) FROM shared") == 160
        assert ask(admin, "SELECT count(*) FROM shared") == 160
        ask(admin, "DROP TABLE shared")
    assert len(served) == 2


def test_what_pgbouncer_reports_of_the_role_is_not_believed(
    behind: EmbeddedPostgres, made: Pools
) -> None:
    """It repeats for each new client what the server said at its first login."""
    kept, pool = made(max_size=1), made(max_size=1)
    with kept.connection() as conn:
        before = server_pid(conn)
    with observe(behind.dsn()) as admin:  # the role goes with the test
        ask(admin, f"ALTER ROLE {USER} SET default_transaction_read_only = on")
        ask(admin, "SELECT pg_terminate_backend(%s, 5000)", before)
    with kept.connection() as conn:  # it was not its session that was ended
        assert server_pid(conn) != before
        assert driver.connection.get_parameter_status(conn, READ_ONLY) == "off"
        assert conn.get_parameter_status(READ_ONLY) is None
        assert conn.get_parameter_status("in_hot_standby") is None
        assert conn.get_parameter_status("TimeZone") == ask(conn, "SHOW timezone")
        assert ask(conn, "SHOW transaction_read_only") == "on"
    with pool.connection() as conn:
        assert ask(conn, "SHOW transaction_read_only") == "on"


def test_a_cancel_reaches_the_server(behind: EmbeddedPostgres, made: Pools) -> None:
    """PgBouncer passes it on, and the connection is replaced."""
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    pool = made(max_size=1)
    with observe(behind.dsn()) as admin, ThreadPoolExecutor(1) as other:

        def cancel() -> None:
            until(lambda: ask(admin, sleeps))
            conn.cancel()

        with pool.connection() as conn:
            cancelled = other.submit(cancel)
            with pytest.raises(sqlstate.QueryCanceled):
                ask(conn, "SELECT pg_sleep(30)")
            cancelled.result(10)
            conn.rollback()
    held(pool, select)


def test_no_server_free_is_no_connection_within_the_timeout(made: Pools) -> None:
    """PgBouncer has a line of its own, which the pool's deadline covers, too."""
    greedy, modest = made(max_size=1), made(max_size=1, timeout=0.6)
    modest.wait()
    with greedy.connection() as conn:
        select(conn)
        with pytest.raises(PoolTimeout, match="the ping took longer"):
            held(modest)
    with modest.connection(timeout=10) as conn:
        select(conn)


def test_a_ping_keeps_its_place_in_the_line(made: Pools) -> None:
    """It may wait for as long as its caller, and no connection is lost over it."""
    greedy, modest = made(max_size=1), made(max_size=1, timeout=2.0)
    held(greedy, select)
    held(modest, select)
    with ThreadPoolExecutor(1) as other:
        with greedy.connection():
            began = monotonic()
            served = other.submit(held, modest, select)
            until(lambda: monotonic() > began + 1.3)  # half the timeout, and more
        served.result(10)
    assert modest.get_stats()["connections_num"] == 1


def test_a_restart_of_the_server_fails_nobody(
    private_server: EmbeddedPostgres,
) -> None:
    """PgBouncer keeps its clients; a hold waits until it has a server again."""
    with PgBouncer(private_server) as bouncer:
        made = pools_of(bouncer)
        pool = made(timeout=20.0)
        held(pool, select)
        private_server.restart()
        held(pool, select)
        made.close()


def test_a_restart_of_pgbouncer_fails_nobody(bouncer: PgBouncer, made: Pools) -> None:
    """Its end is heard of, and callers wait for the next one."""
    pool = made(max_size=1, timeout=20.0)
    held(pool, select)
    bouncer.kill()
    with ThreadPoolExecutor(1) as other:
        served = other.submit(held, pool, select)
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        bouncer.start()
        served.result(20)


def test_a_direct_pool_leaves_something(behind: EmbeddedPostgres, made: Pools) -> None:
    """What the setting is for: without it, each connection SETs for all clients."""
    heard = Heard(behind)
    held(made(via="direct"), select)
    assert heard.lasting() != []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_suite_is_green() -> None:
    """The other integration tests hold there too, and no pool of theirs SETs."""
    environ = {**os.environ}
    environ.pop("PGDBPOOL_TEST_DSN", None)  # it has the embedded server
    options = ["--pgbouncer", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/integration"],
        check=False,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert number(r"(\d+) passed", said) >= 140
    assert number(r"statements that came through PgBouncer: (\d+)", said) >= 2000


def number(pattern: str, text: str) -> int:
    """Return the number that is there."""
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])

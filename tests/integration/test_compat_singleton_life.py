"""M12, M13, M16, M17: what importing, forking and closing do not do any more."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import (
    PoolClosed,
)
from pgdbpool.compat.singleton import PostgresqlConnection
from tests.asking import ask
from tests.chaos.forking import Findings, fork
from tests.fresh import python
from tests.integration.singletons import (  # noqa: F401 - fixtures
    configure,
    count,
    given_db,
    given_environ,
    held,
    insert,
    served,
)
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

pytestmark = pytest.mark.direct("goes by variables, and sets options in its DSN")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_m13_a_fork_while_other_threads_are_within_blocks_harms_nobody(
    db: PostgresqlConnection,
) -> None:
    """M13: the child knows nothing of their blocks; theirs commit."""
    are_in, may_end = threading.Barrier(3), threading.Event()

    def hold() -> int:
        with db as conn:
            are_in.wait(5.0)
            assert may_end.wait(10.0)
            return int(ask(conn, "SELECT 1"))

    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(hold) for _ in range(2)]
        are_in.wait(5.0)
        child = os.fork()
        if child == 0:
            try:
                status = 1
                with ExitStack() as stack:
                    stack.enter_context(PostgresqlConnection())
                    status = 0 if len(db._open) == 1 else 2
                PostgresqlConnection.close_all()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        may_end.set()
        assert [future.result(5.0) for future in futures] == [1, 1]


def test_m12_closing_waits_for_who_holds_and_is_for_good(
    admin: connection, table: str
) -> None:
    """M12: the holder of another thread commits; nobody acquires any more."""
    db = PostgresqlConnection()
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with db as conn:
            insert(conn, table)
            is_held.set()
            assert may_end.wait(5.0)

    with ThreadPoolExecutor(2) as executor:
        holder = executor.submit(hold)
        assert is_held.wait(5.0)
        closing_all = executor.submit(PostgresqlConnection.close_all)
        until(lambda: db.pool.closed)
        assert not wait([closing_all], 0.05).done
        may_end.set()
        holder.result(5.0)
        closing_all.result(5.0)
    assert count(admin, table) == 1
    for again in (db, PostgresqlConnection()):
        with pytest.raises(PoolClosed), again:
            pass


def test_m12_closing_ends_at_its_deadline_whoever_holds() -> None:
    """M12: the query is cut off, and its thread gets the driver's error."""
    db = PostgresqlConnection()
    is_held = threading.Event()

    def hold() -> None:
        with db as conn:
            is_held.set()
            ask(conn, "SELECT pg_sleep(30)")

    with ThreadPoolExecutor(1) as executor:
        holder = executor.submit(hold)
        assert is_held.wait(5.0)
        PostgresqlConnection.close_all(timeout=0.1)
        with pytest.raises(psycopg2.OperationalError):
            holder.result(5.0)


def test_m12_closing_before_the_first_use_is_for_good_too() -> None:
    """M12: without an instance there is nothing to close."""
    PostgresqlConnection.close_all()
    db = PostgresqlConnection()
    PostgresqlConnection.close_all()
    with pytest.raises(PoolClosed, match="close_all"), db:
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_m13_a_forked_child_uses_a_session_of_its_own(
    db: PostgresqlConnection,
) -> None:
    """M13: and the parent's lives, untouched."""
    mine = served(db)

    def child() -> Findings:
        found = {"pid": served(db)}
        PostgresqlConnection.close_all()
        return found

    theirs = fork(child)()
    assert theirs["pid"] != mine
    assert served(db) == mine


def test_m16_importing_needs_nothing_and_does_nothing(tmp_path: Path) -> None:
    """M16: without azure, boto3 and dotenv, with a .env file that is not looked at."""
    (tmp_path / ".env").write_text("DB_HOST=nowhere.invalid\n", "utf-8")
    program = (
        "import os, sys, _thread\n"
        "hidden = ('azure', 'azure.identity', 'boto3', 'google', 'dotenv')\n"
        "sys.modules.update(dict.fromkeys(hidden))\n"
        "before = dict(os.environ)\n"
        "from pgdbpool.compat.singleton import PostgresqlConnection\n"
        "db = PostgresqlConnection()\n"
        "assert dict(os.environ) == before and _thread._count() == 0\n"
        "with db as conn:\n"
        "    print(conn.info.dbname)\n"
        "assert dict(os.environ) == before\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = python("-c", program, cwd=tmp_path, environ=environ)
    assert ended.stderr == ""
    assert ended.stdout == f"{os.environ['DB_NAME']}\n"


def test_m17_whoever_acquires_refreshes_and_closes_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    admin: connection,
    application_name: str,
) -> None:
    """M17: ten lives of the singleton; every block is served, or finds it closed."""
    outcomes: list[str] = []

    def use(db: PostgresqlConnection, *, rotates: bool) -> None:
        while True:
            try:
                served(db)
                outcomes.append("served")
                if rotates:
                    db._refresh_pool()
            except PoolClosed:
                outcomes.append("closed")
                return

    for _ in range(10):
        configure(monkeypatch, dsn, DB_MAX_CONN="3")
        db = PostgresqlConnection()
        enough = len(outcomes) + 30
        with ThreadPoolExecutor(6) as executor:
            futures = [executor.submit(use, db, rotates=i < 2) for i in range(6)]
            until(lambda enough=enough: len(outcomes) > enough)  # type: ignore[misc]
            PostgresqlConnection.close_all()
            for future in futures:
                future.result(10.0)
        assert_at_rest(db.pool)
        until(lambda: not backends(admin, application_name))
    assert outcomes.count("closed") == 60

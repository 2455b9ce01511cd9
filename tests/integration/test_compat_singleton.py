"""`PostgresqlConnection`: what it promises. What it does not have: see the bugs."""

import os
import runpy
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import (
    ConnectionPool,
    NestedCheckout,
    PoolExhausted,
    SettingsError,
)
from pgdbpool.compat.singleton import PostgresqlConnection
from tests.asking import ask, pid, terminate
from tests.integration.singletons import (  # noqa: F401 - fixtures
    count,
    given_db,
    given_environ,
    held,
    insert,
    served,
)

pytestmark = pytest.mark.direct("goes by variables, and sets options in its DSN")

ORIGINS = Path(__file__).parent / "origins"


def test_there_is_one_instance_whichever_thread_asks() -> None:
    """Thirty-two threads, at once; none of them connects."""
    barrier = threading.Barrier(32)

    def make() -> PostgresqlConnection:
        barrier.wait(5.0)
        return PostgresqlConnection()

    with ThreadPoolExecutor(32) as executor:
        made = {
            id(future.result()) for future in [executor.submit(make) for _ in range(32)]
        }
    assert made == {id(PostgresqlConnection())}
    assert "not used yet" in repr(PostgresqlConnection())


def test_its_first_use_reads_the_environment(db: PostgresqlConnection) -> None:
    """With the defaults of the original."""
    with db as conn:
        assert ask(conn, "SHOW statement_timeout") == "5min"
        assert "connect_timeout=10" in conn.dsn
    assert (db.pool.min_size, db.pool.max_size) == (1, 20)
    assert repr(db.pool) in repr(db)


def test_sizes_are_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """DB_MIN_CONN and DB_MAX_CONN."""
    monkeypatch.setenv("DB_MIN_CONN", "2")
    monkeypatch.setenv("DB_MAX_CONN", "3")
    pool = PostgresqlConnection().pool
    assert (pool.min_size, pool.max_size) == (2, 3)


@pytest.mark.parametrize(
    "missing", [("DB_HOST",), ("DB_NAME",), ("DB_USER", "DB_NAME")]
)
def test_missing_variables_are_named(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    """By the first use, and nothing is kept of it: the next one may find them."""
    db = PostgresqlConnection()
    with monkeypatch.context() as context:
        for name in missing:
            context.delenv(name)
        with pytest.raises(ValueError, match=r"^Variables are missing: ") as caught, db:
            pass
    assert str(caught.value) == f"Variables are missing: {', '.join(missing)}"
    assert served(db)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("DB_MAX_CONN", "many", "DB_MAX_CONN: must be a whole number"),
        ("DB_MIN_CONN", "21", "DB_MIN_CONN: 21 is greater than max_size, which is 20"),
        ("DB_PORT", "no port", "DB_PORT: must be a whole number"),
        ("IDENTITY_ENABLED", "perhaps", "IDENTITY_ENABLED: must be"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    """What is not true was silently off."""
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=said):
        served(PostgresqlConnection())


def test_the_transport_is_encrypted_unless_libpqs_variables_say_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server of the tests has no TLS, so it refuses."""
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGDBPOOL_TIMEOUT", "1")
    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"):
        served(PostgresqlConnection())


def test_libpqs_variables_go_before_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What they leave out stays."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    with PostgresqlConnection() as conn:
        assert "connect_timeout=7" in conn.dsn
        assert ask(conn, "SHOW work_mem") == "5MB"
        assert ask(conn, "SHOW statement_timeout") == "5min"


def test_an_option_of_libpqs_variable_goes_before_the_same_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of two is the server's."""
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=7s")
    with PostgresqlConnection() as conn:
        assert ask(conn, "SHOW statement_timeout") == "7s"


def test_only_the_variables_of_the_original_say_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others are for other pools of the application."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/shop")
    monkeypatch.setenv("PGDBPOOL_CONNINFO", "host=nowhere.invalid")
    assert served(PostgresqlConnection())


def test_variables_of_a_file_count_and_the_environment_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The nearest .env, which is read and not written to ``os.environ``."""
    pytest.importorskip("dotenv")
    (tmp_path / ".env").write_text(
        "DB_MAX_CONN=3\nDB_HOST=nowhere.invalid\nPGSSLMODE=disable\n", "utf-8"
    )
    monkeypatch.delenv("PGSSLMODE")
    before = dict(os.environ)
    db = PostgresqlConnection()
    assert served(db)
    assert db.pool.max_size == 3
    assert dict(os.environ) == before


def test_the_pool_can_have_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its variable, as all that the original had no name for."""
    monkeypatch.setenv("PGDBPOOL_NAME", "orders")
    assert PostgresqlConnection().pool.name == "orders"


def test_a_block_commits(
    db: PostgresqlConnection, admin: connection, table: str
) -> None:
    """When it ends well."""
    with db as conn:
        insert(conn, table)
    assert count(admin, table) == 1


def test_messages_name_the_place_of_the_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not one of ours."""
    monkeypatch.setenv("DB_MAX_CONN", "1")
    monkeypatch.setenv("PGDBPOOL_TIMEOUT", "0.1")
    db = PostgresqlConnection()
    db.pool.wait()
    with ThreadPoolExecutor(1) as executor, db:
        with pytest.raises(PoolExhausted, match=r"test_compat_singleton\.py"):
            executor.submit(served, db).result(5.0)
        with pytest.raises(NestedCheckout):
            served(db)


@pytest.mark.parametrize(
    "program", ["singleton_users.py", "singleton_attempts.py"], ids=lambda name: name
)
def test_the_programs_of_its_manual_run(
    program: str, admin: connection, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, but for the import."""
    ask(admin, "CREATE TABLE users (id int, name text)")
    ask(admin, "CREATE TABLE holiday (day_off date, center text)")
    try:
        ask(admin, "INSERT INTO users VALUES (1, 'Ann')")
        ask(admin, "INSERT INTO holiday VALUES ('2026-12-25', 'colombia')")
        runpy.run_path(str(ORIGINS / program), run_name="__main__")
    finally:
        ask(admin, "DROP TABLE users, holiday")
    said = capsys.readouterr().out
    expected = {
        "singleton_users.py": "[(1, 'Ann')]\n",
        "singleton_attempts.py": "attempt 1: [(1,)]\nattempt 2: [(1,)]\n"
        "attempt 3: [(datetime.date(2026, 12, 25),)]\n",
    }
    assert said == expected[program]
    assert PostgresqlConnection().pool.closed
    assert table


def test_its_pool_can_be_given_to_others(db: PostgresqlConnection) -> None:
    """To a middleware, or to code that is written for `ConnectionPool`."""
    pool: Any = db.pool
    assert isinstance(pool, ConnectionPool)
    assert pool.name == "PostgresqlConnection"


def test_a_session_that_was_lost_in_a_block_is_the_blocks_error(
    db: PostgresqlConnection, admin: connection, table: str
) -> None:
    """Nothing is committed behind its back, and the next block is served."""
    with pytest.raises(psycopg2.OperationalError):
        held(
            db,
            lambda conn: insert(conn, table),
            lambda conn: terminate(admin, pid(conn)),
        )
    assert count(admin, table) == 0
    assert served(db)

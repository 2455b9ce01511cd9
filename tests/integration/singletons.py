"""The singleton in a test: its environment, and a cloud that gives it tokens."""

import secrets
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import connection, make_dsn, parse_dsn

from pgdbpool.compat.singleton import PostgresqlConnection
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask, pid
from tests.soundness import assert_at_rest
from tests.unit.environments import clear

ROLE = "clerk"


def configure(monkeypatch: pytest.MonkeyPatch, dsn: str, **more: str) -> None:
    """Have the environment lead to a server, and the next instance be a new one."""
    params = parse_dsn(dsn)
    environ = {
        "DB_HOST": params["host"],
        "DB_PORT": params["port"],
        "DB_USER": params["user"],
        "DB_NAME": params["dbname"],
        "PGAPPNAME": params.get("application_name", ""),
        "PGSSLMODE": "disable",  # the servers of the tests have no TLS
    }
    for name, value in {**environ, **more}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(PostgresqlConnection, "_instance", None)


@dataclass
class Token:
    """As azure-core has it."""

    token: str
    expires_on: int


class Cloud:
    """Stands for azure-identity; each token is a role's new and only password.

    Attributes:
        calls: how many tokens were fetched.
        credentials: how many credentials were made.
        life: of a token, in seconds.
        secret: the password now.
    """

    def __init__(self, admin: connection, role: str) -> None:
        self.calls = self.credentials = 0
        self.life = 3600.0
        self.secret = ""
        self._admin = admin
        self._role = role
        self.change()

    def change(self) -> None:
        """Give the role another password, which nobody knows of."""
        self.secret = secrets.token_hex(8)
        ask(self._admin, f"ALTER ROLE {self._role} PASSWORD %s", self.secret)

    def fetch(self, scope: str) -> Token:
        """Return a new token."""
        assert scope == "https://ossrdbms-aad.database.windows.net/.default"
        self.calls += 1
        self.change()
        return Token(self.secret, int(time.time() + self.life) + 1)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be what ``azure.identity`` is for those who import it."""
        cloud = self

        class DefaultAzureCredential:
            def __init__(self) -> None:
                cloud.credentials += 1

            def get_token(self, *scopes: str) -> Token:
                return cloud.fetch(*scopes)

        library = types.ModuleType("azure.identity")
        vars(library)["DefaultAzureCredential"] = DefaultAzureCredential
        monkeypatch.setitem(sys.modules, "azure", types.ModuleType("azure"))
        monkeypatch.setitem(sys.modules, "azure.identity", library)


@pytest.fixture(name="_environ", autouse=True)
def given_environ(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Have the environment lead to the server, with no file nearby."""
    clear(monkeypatch)
    monkeypatch.chdir(tmp_path)
    configure(monkeypatch, dsn)
    yield
    PostgresqlConnection.close_all()


@pytest.fixture(name="db")
def given_db() -> Iterator[PostgresqlConnection]:
    """Give the instance of the test, at rest in the end."""
    db = PostgresqlConnection()
    yield db
    assert_at_rest(db.pool)


@pytest.fixture(name="guarded", scope="module")
def given_guarded() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password="of the superuser") as server:
        yield server


@pytest.fixture(name="cloud")
def given_cloud(
    guarded: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """Give what hands out the passwords of a role, and have the singleton use it."""
    with closing(psycopg2.connect(guarded.dsn())) as admin:
        admin.autocommit = True
        ask(admin, f"CREATE ROLE {ROLE} LOGIN")
        cloud = Cloud(admin, ROLE)
        cloud.install(monkeypatch)
        configure(
            monkeypatch,
            make_dsn(guarded.dsn(), user=ROLE),
            IDENTITY_ENABLED="True",
            DB_MAX_CONN="4",
        )
        yield cloud
        PostgresqlConnection.close_all()
        ask(admin, f"DROP OWNED BY {ROLE}")
        ask(admin, f"DROP ROLE {ROLE}")


@pytest.fixture(name="deferred")
def given_deferred(admin: connection, table: str) -> str:
    """Give a table whose constraint is checked at the COMMIT only."""
    ask(admin, f"ALTER TABLE {table} ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    return table


def insert(conn: connection, table: str, note: str = "mine") -> None:
    """Store a note."""
    ask(conn, f"INSERT INTO {table} (note) VALUES (%s)", note)


def count(admin: connection, table: str) -> int:
    """Return how many notes are committed."""
    return int(ask(admin, f"SELECT count(*) FROM {table}"))


def served(db: PostgresqlConnection) -> int:
    """Return which backend serves a block."""
    with db as conn:
        assert ask(conn, "SELECT 1") == 1
        return pid(conn)


def held(db: PostgresqlConnection, *acts: Callable[[connection], object]) -> int:
    """Let a block do something, and return which backend served it."""
    with db as conn:
        backend = pid(conn)
        for act in acts:
            act(conn)
    return backend


def fail(error: Exception) -> None:
    """Raise."""
    raise error


def fail_to_commit(db: PostgresqlConnection, table: str) -> None:
    """Have a block end well whose COMMIT does not."""
    with pytest.raises(sqlstate.UniqueViolation):
        held(db, *[lambda conn: insert(conn, table)] * 2)


class Load:
    """Threads that use the singleton until told to end; their errors are raised."""

    def __init__(self, db: PostgresqlConnection, threads: int) -> None:
        self._db = db
        self._over = threading.Event()
        self._executor = ThreadPoolExecutor(threads)
        self._threads = threads
        self.served = 0

    def __enter__(self) -> "Load":
        self._futures = [
            self._executor.submit(self._work) for _ in range(self._threads)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._executor.shutdown()
        for future in self._futures:
            future.result()

    def _work(self) -> None:
        while not self._over.wait(0.001):
            served(self._db)
            self.served += 1

"""Servers for the tests, markers from the folders, and a look at what is left."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests import leftovers
from tests.observer import backends, observe
from tests.waiting import until

FOLDERS = ("unit", "integration", "chaos")
TESTS = Path(__file__).parent

_left_out = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--slow`."""
    parser.addoption(
        "--slow", action="store_true", help="also run the tests marked slow"
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark every test with its folder; leave the slow ones out unless asked for."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in FOLDERS:
            item.add_marker(folder)
    if config.getoption("--slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)
    config.stash[_left_out] = len(slow)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many slow tests were left out and how to run them."""
    if count := config.stash.get(_left_out, 0):
        terminalreporter.write_line(
            f"slow tests left out: {count}; to run them too: pytest --slow"
        )


@pytest.fixture(autouse=True)
def _nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose threads or processes outlive it."""
    threads = leftovers.threads()
    # Listing processes costs milliseconds; unit tests are many and start none.
    looks_at_processes = request.node.get_closest_marker("unit") is None
    processes = leftovers.processes() if looks_at_processes else set()
    yield
    leftovers.check_threads(threads)
    if looks_at_processes:
        leftovers.check_processes(processes)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """Give the embedded server of the whole run: to be used, not to be broken."""
    with EmbeddedPostgres() as server:
        leftovers.permitted_pids.update(server.pids)
        yield server


@pytest.fixture
def private_server() -> Iterator[EmbeddedPostgres]:
    """Give a running server of the test's own: to be stopped, frozen, killed."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def server_dsn(request: pytest.FixtureRequest) -> str:
    """Give the DSN of PGDBPOOL_TEST_DSN, else of the embedded server."""
    given = os.environ.get("PGDBPOOL_TEST_DSN")
    if given is not None:
        return given
    server: EmbeddedPostgres = request.getfixturevalue("server")
    return server.dsn()


@pytest.fixture
def admin(server_dsn: str) -> Iterator[connection]:
    """Give a connection in autocommit that looks on from outside."""
    with observe(server_dsn) as admin:
        yield admin


@pytest.fixture
def application_name() -> str:
    """Give the name that the sessions of this test go by."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def dsn(server_dsn: str, admin: connection, application_name: str) -> Iterator[str]:
    """Give a DSN with the test's `application_name`; no session may outlive it."""
    yield make_dsn(server_dsn, application_name=application_name)
    until(
        lambda: not backends(admin, application_name),
        timeout=5.0,
        message="every session of the test has ended",
    )


@pytest.fixture
def table(admin: connection) -> Iterator[str]:
    """Give the name of an empty table `(id serial primary key, note text)`."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with admin.cursor() as cur:
        cur.execute(f"CREATE TABLE {name} (id serial PRIMARY KEY, note text)")
        yield name
        cur.execute(f"DROP TABLE {name}")

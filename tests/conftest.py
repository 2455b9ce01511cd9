"""Servers for the tests, markers from the folders, and a look at what is left."""

import gc
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests import fronted, leftovers, lending
from tests.fronted import Front, Fronted
from tests.observer import backends, observe
from tests.templates import templates
from tests.waiting import until

FOLDERS = ("unit", "integration", "chaos", "browser")
TESTS = Path(__file__).parent

_left_out = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--slow` and `--pgbouncer`."""
    parser.addoption(
        "--slow", action="store_true", help="also run the tests marked slow"
    )
    fronted.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse `--pgbouncer` where it cannot be."""
    fronted.check_option(config)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark every test with its folder; leave the slow ones out unless asked for."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in FOLDERS:
            item.add_marker(folder)
    if config.getoption(fronted.OPTION):
        fronted.leave_out(config, items)
    if config.getoption("--slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)
    config.stash[_left_out] = len(slow)


def pytest_collection_finish() -> None:
    """Let the collector, whom many tests call, look at what they make alone."""
    gc.freeze()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many tests were left out, and how to run the slow ones."""
    fronted.summarize(terminalreporter, config)
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


@pytest.fixture(autouse=True)
def _nothing_lasting(front: Front | None) -> Iterator[None]:
    """Fail a test behind PgBouncer that leaves something to its other clients."""
    yield
    if front is not None:
        assert front.lasting() == []


@pytest.fixture(scope="session", autouse=True)
def _templates() -> Iterator[None]:
    """Let the servers of the run begin with what one initdb made."""
    with templates():
        yield


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedPostgres]:
    """Give the embedded server of the whole run, as it is."""
    with EmbeddedPostgres() as server:
        leftovers.permitted_pids.update(server.pids)
        yield server


@pytest.fixture(scope="session")
def front(request: pytest.FixtureRequest) -> Iterator[Front | None]:
    """Give what `--pgbouncer` puts in front of that server, else nothing."""
    if not request.config.getoption(fronted.OPTION):
        yield None
        return
    with Front(request.getfixturevalue("embedded"), request.config) as front:
        leftovers.permitted_pids.update(front.pids)
        yield front


@pytest.fixture(scope="session")
def server(
    embedded: EmbeddedPostgres, front: Front | None
) -> EmbeddedPostgres | Fronted:
    """Give the embedded server of the whole run: to be used, not to be broken."""
    return embedded if front is None else front.server


@pytest.fixture(scope="session")
def shared_private_server() -> Iterator[EmbeddedPostgres]:
    """Give what `private_server` lends."""
    with EmbeddedPostgres() as server:
        leftovers.permitted_pids.update(server.pids)
        yield server


@pytest.fixture
def private_server(
    shared_private_server: EmbeddedPostgres,
) -> Iterator[EmbeddedPostgres]:
    """Give a running server to the test alone: to be stopped, frozen, killed."""
    with lending.lent_server(shared_private_server) as server:
        yield server


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    """Give what `module_cluster` lends."""
    with Cluster() as cluster:
        for server in cluster.servers:
            leftovers.permitted_pids.update(server.pids)
        yield cluster


@pytest.fixture(scope="module")
def module_cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """Give a primary and two standbys, empty, to the module: not to be broken."""
    with lending.lent_cluster(shared_cluster) as cluster:
        yield cluster


@pytest.fixture
def breakable(module_cluster: Cluster) -> Iterator[Cluster]:
    """Give the cluster of the module to a test that may break it."""
    with lending.breakable(module_cluster) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def server_dsn(request: pytest.FixtureRequest) -> str:
    """Give the DSN of PGDBPOOL_TEST_DSN, else of the embedded server."""
    given = os.environ.get("PGDBPOOL_TEST_DSN")
    if given is not None:
        return given
    embedded: EmbeddedPostgres = request.getfixturevalue("embedded")
    return embedded.dsn()


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
def dsn(
    server_dsn: str, admin: connection, application_name: str, front: Front | None
) -> Iterator[str]:
    """Give a DSN with the test's `application_name`; no session may outlive it."""
    way = server_dsn if front is None else front.server.dsn()
    yield make_dsn(way, application_name=application_name)
    until(
        lambda: (
            not (
                front.clients(application_name)
                if front is not None
                else backends(admin, application_name)
            )
        ),
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


@pytest.fixture
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Keep thousands of log lines from being captured."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    caplog.clear()

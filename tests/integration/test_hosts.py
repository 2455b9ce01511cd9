"""The pool behind the servers that its users have, through restarts of PostgreSQL.

What must hold for each of them: no request fails, what is acknowledged is written once,
no session serves two processes, and none is left when the server has gone.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.apache import (
    EmbeddedModWsgi,
    ExampleModWsgi,
    ModWsgi,
    ThreadedModWsgi,
    needs_mod_wsgi,
)
from tests.asking import ask
from tests.hosts import ROOT, GunicornSync, Host, Waitress
from tests.integration.test_wsgi_servers import abort, get
from tests.loading import Load, counted_sessions
from tests.observer import backends, observe
from tests.streaming_app import MANY
from tests.uwsgi import (
    ExampleUwsgi,
    ForkedUwsgi,
    StarvingUwsgi,
    ThreadedUwsgi,
    Uwsgi,
    needs_uwsgi,
)
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FILE = ROOT / "tests" / "hosted_app.py"
ABORTS = 25
NAME = "hosted"
PATIENCE = 30.0
TABLE = "CREATE TABLE written (key text PRIMARY KEY)"
PATIENT: dict[str, object] = {"timeout": 20.0}  # a busy machine is slow to restart
ALONE: dict[str, object] = {"threaded": False, "max_size": 1, **PATIENT}


class Kind(NamedTuple):
    """A server as it is set up here."""

    host: type[Host]
    processes: int
    threads: int
    pool: dict[str, object]

    @property
    def most_sessions(self) -> int:
        """How many there may be: processes times `max_size`."""
        return self.processes * self.threads


def threaded(size: int) -> dict[str, object]:
    """Return the settings of a pool for so many threads."""
    return {"max_size": size, **PATIENT}


KINDS = {
    "gunicorn-sync": Kind(GunicornSync, 8, 1, ALONE),
    "waitress": Kind(Waitress, 1, 8, threaded(8)),
    "uwsgi": Kind(Uwsgi, 8, 1, ALONE),
    "uwsgi-forked": Kind(ForkedUwsgi, 8, 1, ALONE),
    "uwsgi-threads": Kind(ThreadedUwsgi, 2, 4, threaded(4)),
    "uwsgi-starving": Kind(StarvingUwsgi, 1, 1, threaded(1)),
    "mod_wsgi": Kind(ModWsgi, 8, 1, ALONE),
    "mod_wsgi-threads": Kind(ThreadedModWsgi, 2, 5, threaded(5)),
    "mod_wsgi-embedded": Kind(EmbeddedModWsgi, 4, 1, ALONE),
}
NEEDS = {"uwsgi": [needs_uwsgi], "mod_wsgi": [needs_mod_wsgi]}


def cases(*names: str) -> list[object]:
    """Return kinds as parameters, each skipped where its server is missing."""
    return [
        pytest.param(KINDS[name], id=name, marks=NEEDS.get(name.partition("-")[0], []))
        for name in names
    ]


@pytest.fixture
def database(private_server: EmbeddedPostgres) -> EmbeddedPostgres:
    """Give a server with the table that is written to."""
    with observe(private_server.dsn()) as admin:
        ask(admin, TABLE)
    return private_server


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """Give a directory that a server can reach which is not run by root."""
    with tempfile.TemporaryDirectory(prefix="pgdbpool-host-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def serving(
    kind: type[Host],
    pool: dict[str, object],
    database: EmbeddedPostgres,
    directory: Path,
    **environ: str,
) -> Iterator[Host]:
    """Give a server; when it has ended, none of its sessions is left."""
    dsn = make_dsn(database.dsn(), application_name=NAME)
    environ["PGDBPOOL_CONNINFO"] = dsn
    with kind(directory, dsn, pool, environ) as host:
        yield host
    until(lambda: not pids(database), message="all sessions have ended")
    assert "Traceback" not in host.log, host.log
    assert "ERROR:" not in host.log, host.log


@pytest.fixture
def running(
    kind: Kind, database: EmbeddedPostgres, shared_path: Path
) -> Iterator[Host]:
    """Give a server of a kind."""
    with serving(kind.host, kind.pool, database, shared_path) as host:
        yield host


def pids(database: EmbeddedPostgres) -> set[int]:
    """Return the sessions of the server that is tested."""
    with observe(database.dsn()) as admin:
        return {backend.pid for backend in backends(admin, NAME)}


def states(database: EmbeddedPostgres) -> set[str]:
    """Return in which states they are."""
    with observe(database.dsn()) as admin:
        return {backend.state for backend in backends(admin, NAME)}


def written(database: EmbeddedPostgres) -> list[str]:
    """Return what has been written, in order."""
    with observe(database.dsn()) as admin:
        keys: list[str] = ask(admin, "SELECT array_agg(key ORDER BY key) FROM written")
        return keys


def restart_under(load: Load, host: Host, database: EmbeddedPostgres) -> None:
    """Restart it, and return when writes that met the restart have ended."""
    database.stop("fast")
    with pytest.raises(TimeoutError):
        host.ask("GET", "/waits", timeout=1.0)
    database.start()
    up = time.monotonic()
    until(lambda: load.waited(up), PATIENCE, "writes waited for the restart")


def all_serve(load: Load, processes: int) -> None:
    """Wait until each process has served once more."""
    before = len(load.served)
    until(lambda: len(load.processes(before)) == processes, PATIENCE, "all serve")


@pytest.mark.parametrize("kind", cases(*KINDS))
def test_no_request_fails_through_two_restarts(
    kind: Kind, running: Host, database: EmbeddedPostgres
) -> None:
    """What is acknowledged is written, once, and each process keeps to its own."""
    with counted_sessions(database, NAME) as seen, Load(running) as load:
        all_serve(load, kind.processes)
        for _ in range(2):
            restart_under(load, running, database)
            all_serve(load, kind.processes)
    assert load.wrong == []
    assert written(database) == sorted(load.written)
    assert [users for users in load.users().values() if len(users) > 1] == []
    assert 0 < max(seen) <= kind.most_sessions
    # Sessions that were lost in a hold; nobody who waited for one was refused.
    assert load.answers.total() - load.answers[200] <= 2 * kind.most_sessions


RELOADED = [name for name in KINDS if name not in ("waitress", "uwsgi-starving")]


@pytest.mark.parametrize("kind", cases(*RELOADED))
def test_a_reload_leaves_nothing_of_the_old_processes(
    kind: Kind, running: Host, database: EmbeddedPostgres
) -> None:
    """Under load: new processes with new sessions; the old ones end with theirs."""
    with Load(running) as load:
        all_serve(load, kind.processes)
        old, before = load.processes(), pids(database)
        running.reload()
        all_serve(load, kind.processes)
        until(lambda: not pids(database) & before, message="old sessions have ended")
        new = load.processes(len(load.served) - 1)
    assert not new & old
    assert set(load.written) <= set(written(database))
    if running.is_graceful:
        assert load.wrong == [], running.log
        assert written(database) == sorted(load.written)
    assert len(pids(database)) <= kind.most_sessions


@needs_uwsgi
@pytest.mark.parametrize("pool", [ALONE, threaded(1)], ids=["alone", "threaded"])
def test_a_pool_that_the_master_of_uwsgi_used_is_shared_by_nobody(
    database: EmbeddedPostgres, shared_path: Path, pool: dict[str, object]
) -> None:
    """Its workers are forked without Python's hooks; the pool hears of it still."""
    with serving(
        ForkedUwsgi, pool, database, shared_path, APP_IMPATIENT="yes"
    ) as running:
        (inherited,) = pids(database)
        with Load(running) as load:
            all_serve(load, 8)
        assert load.wrong == []
        assert written(database) == sorted(load.written)
        assert [users for users in load.users().values() if len(users) > 1] == []
        assert len(load.users()) == 8
        assert inherited in pids(database), "the master's is as it was"


@needs_uwsgi
@pytest.mark.parametrize(
    ("host", "pool", "is_warned"),
    [
        (StarvingUwsgi, threaded(1), True),
        (StarvingUwsgi, ALONE, False),
        (ThreadedUwsgi, threaded(4), False),
    ],
    ids=["starving", "alone", "threads"],
)
def test_a_pool_whose_threads_uwsgi_lets_starve_says_so(
    database: EmbeddedPostgres,
    shared_path: Path,
    host: type[Host],
    pool: dict[str, object],
    *,
    is_warned: bool,
) -> None:
    """At its start, with the two ways out."""
    with serving(host, pool, database, shared_path) as running:
        assert running.ask("POST", "/", b"key").status == HTTPStatus.OK
        warnings = [
            line
            for line in running.log.splitlines()
            if line.startswith("WARNING:pgdbpool.uwsgi:")
        ]
        assert len(warnings) == is_warned
        assert all("enable-threads=true" in line for line in warnings)
        assert all("threaded=False" in line for line in warnings)


FLAGS = {
    "gunicorn-sync": (False, True),
    "waitress": (True, False),
    "uwsgi": (False, True),
    "uwsgi-threads": (True, True),
    "mod_wsgi": (False, True),
    "mod_wsgi-threads": (True, True),
    "mod_wsgi-embedded": (False, True),
}


@pytest.mark.parametrize("kind", cases(*FLAGS))
def test_http_is_as_it_should_be(
    request: pytest.FixtureRequest,
    kind: Kind,
    running: Host,
    database: EmbeddedPostgres,
) -> None:
    """HEAD, files by the server's own means, streams, and clients that go away."""
    flags = running.ask("GET", "/flags").json
    told = (flags["multithread"], flags["multiprocess"])
    assert told == FLAGS[request.node.callspec.id]
    head = running.ask("HEAD", "/key")
    assert head == (HTTPStatus.OK, b"")
    assert running.ask("GET", "/file/plain").body == FILE.read_bytes()
    assert running.ask("GET", "/file/kept").body == FILE.read_bytes()
    assert written(database) == ["kept"]
    for _ in range(ABORTS):
        abort(running.port, "/stream")
    until(lambda: states(database) <= {"idle"}, message="no transaction is open")
    for _ in range(2 * kind.most_sessions):
        assert get(running.port, "/stream").count(b"\n") == MANY
    assert states(database) == {"idle"}
    assert len(pids(database)) <= kind.most_sessions


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(ExampleUwsgi, marks=needs_uwsgi),
        pytest.param(ExampleModWsgi, marks=needs_mod_wsgi),
    ],
)
def test_an_example_runs_as_it_stands(
    database: EmbeddedPostgres, shared_path: Path, example: type[Host]
) -> None:
    """Eight processes, which make the table at once, and a session for each."""
    with serving(example, {}, database, shared_path) as running:
        for note in (b"first", b"second"):
            assert running.ask("POST", "/", note).status == HTTPStatus.OK
        assert running.ask("GET", "/") == (HTTPStatus.OK, b"second\nfirst\n")
        assert 1 <= len(pids(database)) <= 8
        database.restart()
        assert running.ask("GET", "/") == (HTTPStatus.OK, b"second\nfirst\n")

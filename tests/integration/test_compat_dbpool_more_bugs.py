"""D13 to D26: the other defects of pgdbpool 1.x, none of which is here."""

import copy
import gc
import io
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from wsgiref.handlers import SimpleHandler

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import connection

from pgdbpool import PoolMiddleware
from pgdbpool.compat.dbpool import (
    Connection,
    DBConnectionError,
    DBQueryError,
    Handler,
    Query,
)
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import free_port
from tests.asking import ask
from tests.chaos.forking import Findings, fork
from tests.integration.dbpools import (  # noqa: F401 - fixtures
    Config,
    config_of,
    extension,
    given_config,
    given_environ,
    given_init,
    held,
    imported,
    pid,
    server_of,
    waiting,
)
from tests.observer import backends
from tests.waiting import until

pytestmark = pytest.mark.direct("resets sessions, and sets options in its DSN")


def count(admin: connection, table: str) -> int:
    """Return how many notes are committed."""
    return int(ask(admin, f"SELECT count(*) FROM {table}"))


def insert(db: Handler, table: str, note: str = "mine") -> None:
    """Store a note."""
    db.query(f"INSERT INTO {table} (note) VALUES (%s)", (note,))


def value(db: Handler, statement: str) -> Any:  # noqa: ANN401 - whatever the database has
    """Return the first value of an answer."""
    return db.query(statement).fetchone()[0]


def test_d13_the_environment_is_read_and_not_changed(
    config: Config, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D13: another connection of the process has no timeout; what is set counts."""
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    before = dict(os.environ)
    Connection.init(config)
    with Handler("plain") as db, closing(psycopg2.connect(dsn)) as other:
        assert value(db, "SHOW statement_timeout") == "5s"
        assert value(db, "SHOW temp_buffers") == "128MB"
        assert value(db, "SHOW work_mem") == "5MB"
        assert ask(other, "SHOW statement_timeout") == "0"
    assert dict(os.environ) == before


def servers_of(cluster: Cluster) -> list[Config]:
    """Return the entries of a cluster, the primary last."""
    return [server_of(one.dsn()) for one in (*cluster.standbys, cluster.primary)]


def test_d14_each_server_has_its_own_limits(module_cluster: Cluster) -> None:
    """D14: of its own entry, not of the first."""
    servers = servers_of(module_cluster)
    limits = ("7s", "8s", "9s")
    for server, limit in zip(servers, limits, strict=True):
        server["query_timeout"] = int(limit[0]) * 1000
    read = {"connection_count": 2, "target_session_attrs": "any"}
    Connection.init(config_of(*servers, read=read))
    wanted = {one["port"]: limit for one, limit in zip(servers, limits, strict=True)}
    seen: dict[int, str] = {}

    def look() -> bool:
        with Handler("read") as db:
            assert db.conn_ref is not None
            seen[db.conn_ref.info.port] = value(db, "SHOW statement_timeout")
        return len(seen) == 3

    until(look)
    assert seen == wanted


def test_d15_the_configuration_is_not_changed_and_no_password_is_told(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """D15: in no log line, repr or message."""
    caplog.set_level(logging.DEBUG)
    config = config_of(server_of(dsn, **{"pass": "s3cret"}))
    before = copy.deepcopy(config)
    Connection.init(config)
    with Handler("plain") as db:
        told = [repr(db), str(db), repr(db.conn_ref), repr(vars(Connection))]
        with pytest.raises(DBQueryError) as caught:
            db.query("nonsense")
    told += [caplog.text, repr(caught.value), repr(Connection.get_pool("plain"))]
    assert config == before
    assert caplog.records
    assert not [text for text in told if "s3cret" in text]


@pytest.mark.parametrize("is_first", [True, False])
def test_d16_a_server_that_is_down_at_the_start_costs_nothing(
    is_first: bool,  # noqa: FBT001 - a case
    dsn: str,
) -> None:
    """D16: also with one connection; the processor has nothing to do meanwhile."""
    servers = [server_of(dsn), server_of(dsn, port=free_port())]
    groups = {"work": {"connection_count": 1}}
    Connection.init(config_of(*(servers[::-1] if is_first else servers), **groups))
    before = time.process_time(), time.monotonic()
    assert held("work") == held("work")
    time.sleep(0.3)  # for a busy loop to show
    busy = time.process_time() - before[0]
    assert busy < 0.8 * (time.monotonic() - before[1])


@pytest.mark.usefixtures("_init")
@pytest.mark.parametrize("parameters", [(1, 2), 7])
def test_d17_a_mistake_of_the_caller_is_not_taken_for_a_full_pool(
    parameters: Any,  # noqa: ANN401 - wrong on purpose
) -> None:
    """D17: the TypeError comes out, of a query as of a handler."""
    with Handler("plain") as db, pytest.raises(TypeError):
        db.query("SELECT %s", parameters)
    with pytest.raises(TypeError):
        Handler(["plain"])  # type: ignore[arg-type]


def test_d18_an_error_of_a_prepared_query_raises(
    config: Config, admin: connection, table: str
) -> None:
    """D18: with its SQLSTATE."""
    config["groups"]["work"]["sqlprepare"] = True
    with extension(admin, add=f"INSERT INTO {table} (id) VALUES ($1)"):
        Connection.init(config)
        add = ("I", "add", '{"id": "1"}', ["id"])
        with pytest.raises(sqlstate.InFailedSqlTransaction), Handler("work") as db:  # noqa: PT012 - of the exit
            db.query_prepared(add)
            with pytest.raises(DBQueryError, match="UniqueViolation") as caught:
                db.query_prepared(add)
        assert caught.value.pgcode == "23505"
        Connection.close()
    assert count(admin, table) == 0


@pytest.mark.usefixtures("_init")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_d19_a_forked_child_uses_a_session_of_its_own() -> None:
    """D19: and the parent's lives."""
    mine = held("plain")

    def child() -> Findings:
        found = {"pid": held("plain")}
        Connection.close()
        return found

    theirs = fork(child)()
    assert theirs["pid"] != mine
    assert held("plain") == mine


def test_d20_a_group_that_writes_is_never_on_a_standby(breakable: Cluster) -> None:
    """D20: not before, during or after a switch-over, and without being told roles."""
    roles: list[bool] = []
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            with Handler("work") as db:
                roles.append(value(db, "SELECT pg_is_in_recovery()"))

    Connection.init(config_of(*servers_of(breakable), work={"connection_count": 4}))
    with ThreadPoolExecutor(4) as executor:
        futures = [executor.submit(work) for _ in range(4)]
        until(lambda: len(roles) > 100)
        breakable.switch_over()
        enough = len(roles) + 100
        until(lambda: len(roles) > enough)
        is_over.set()
        failed = [future.exception(10.0) for future in futures]
    # A statement that is under way when its server goes is its caller's error.
    assert all(isinstance(error, DBQueryError | None) for error in failed)
    assert set(roles) == {False}
    Connection.close()  # before the servers are given back


def test_d21_a_second_init_and_close_leave_no_session(
    config: Config, admin: connection, application_name: str
) -> None:
    """D21: of what was there before."""

    def sessions() -> set[int]:
        return {backend.pid for backend in backends(admin, application_name)}

    Connection.init(config)
    first = {held("plain"), held("work")}
    Connection.init(config)
    until(lambda: not first & sessions())
    second = held("plain")
    assert second in sessions()
    Connection.close()
    until(lambda: not sessions())


@pytest.mark.usefixtures("_init")
def test_d22_making_a_handler_acquires_nothing() -> None:
    """D22: so what is made and dropped costs nothing."""
    handlers = [Handler("plain") for _ in range(10)]
    assert Connection.get_connection_count(("plain", 0)) == 0
    assert [pid(db) for db in handlers[:2]]
    assert Connection.get_connection_count(("plain", 0)) == 2


@pytest.mark.usefixtures("_init")
def test_d22_what_a_lost_handler_held_comes_back_with_a_warning(
    caplog: pytest.LogCaptureFixture, admin: connection, table: str
) -> None:
    """D22: five times as many as there are connections; nothing is committed."""
    for _ in range(10):
        insert(Handler("work"), table)
        gc.collect()
    pool = Connection.get_pool("work")
    until(lambda: pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"])
    assert "was not released but lost" in caplog.text
    assert "test_compat_dbpool_more_bugs.py" in caplog.text
    assert count(admin, table) == 0


def test_d23_without_threads_a_full_pool_raises_at_once(config: Config) -> None:
    """D23: nobody could release anything while it waits."""
    config["type"] = "non-threaded"
    Connection.init(config)
    with Handler("work"), Handler("work"):
        began = time.monotonic()
        with pytest.raises(DBConnectionError):
            held("work")
        assert Connection.get_next_connection("work") is None
        assert time.monotonic() - began < 1.0
    assert held("work")


@pytest.mark.usefixtures("_init")
def test_d24_an_error_of_a_query_has_all_that_the_server_said() -> None:
    """D24: SQLSTATE, text and parts; the driver's error is its cause."""
    with Handler("plain") as db, pytest.raises(DBQueryError) as caught:
        db.query("SELECT * FROM missing_table")
    error = caught.value
    assert isinstance(error.__cause__, sqlstate.UndefinedTable)
    assert error.pgcode == "42P01"
    assert error.diag is not None
    assert error.diag.message_primary == 'relation "missing_table" does not exist'
    assert error.pgerror is not None
    assert "missing_table" in error.pgerror
    assert str(error).startswith('UndefinedTable: relation "missing_table"')
    assert DBQueryError().pgcode is None


@pytest.mark.usefixtures("_init")
def test_d25_a_failing_query_is_one_500() -> None:
    """D25: where the response begins before the query, as in the manual of 1.x."""

    def app(_: Any, start_response: Any) -> list[bytes]:  # noqa: ANN401 - WSGI's
        start_response("200 OK", [("Content-Type", "text/plain")])
        with Handler("plain") as db:
            return [str(value(db, "SELECT nothing")).encode()]

    def guard(environ: Any, start_response: Any) -> Any:  # noqa: ANN401 - WSGI's
        try:
            return app(environ, start_response)
        except DBQueryError as error:
            trace = (type(error), error, error.__traceback__)
            start_response("500 Internal Server Error", [], trace)
            return [b"failed"]

    begun: list[str] = []
    wrapped = PoolMiddleware(guard, Connection.get_pool("plain"))
    body = wrapped(
        {"REQUEST_METHOD": "GET"},
        lambda status, *_: begun.append(status) or (lambda _: None),  # type: ignore[func-returns-value]
    )
    assert b"".join(body) == b"failed"
    assert begun == ["500 Internal Server Error"]


def test_d25_the_application_of_the_manual_answers_once(admin: connection) -> None:
    """D25: it begins twice, a mistake, which through the middleware is a 500."""
    app = imported("wsgi_app").application
    assert not ask(admin, "SELECT to_regclass('users')")
    wrapped = PoolMiddleware(app, Connection.get_pool("default"))
    said, log = io.BytesIO(), io.StringIO()
    environ = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.0"}
    SimpleHandler(io.BytesIO(), said, log, environ).run(wrapped)  # type: ignore[arg-type]
    assert said.getvalue().startswith(b"HTTP/1.0 500 ")
    assert said.getvalue().count(b"HTTP/1.0") == 1
    assert "start_response was called twice without exc_info" in log.getvalue()


@pytest.mark.usefixtures("_init")
def test_d26_a_number_of_the_past_leads_to_nobody() -> None:
    """D26: neither a query nor a release by it reaches who holds now."""
    with Handler("work") as db:
        old = db._connection
    assert old is not None
    with Handler("work") as one, Handler("work") as two:
        Connection.set_connection_status(old, "free")
        assert Connection.get_connection_container(old) == (None, "free")
        with pytest.raises(DBConnectionError, match="nothing is held by the number 0"):
            Query.execute(old, "SELECT 1")
        assert pid(one) != pid(two)

"""Pools under gunicorn: whose connections, how many, and what is said about it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from psycopg2.extensions import connection

from tests.gunicorns import CONF, GREEN_CONF, Gunicorn, sessions
from tests.waiting import until

pytestmark = pytest.mark.direct("its pools are in other processes")

WORKERS = [("sync", CONF), ("gthread", CONF), ("gevent", GREEN_CONF)]


def backends_by_worker(gunicorn: Gunicorn, workers: int) -> dict[int, set[int]]:
    """Return the backends that each worker answered with, after enough answers."""
    found: dict[int, set[int]] = {}

    def ask(_: int) -> None:
        answer = gunicorn.get("/?seconds=0.02")[1]
        found.setdefault(answer["worker"], set()).add(answer["backend"])

    def all_answered() -> bool:
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(ask, range(8)))
        return len(found) == workers

    until(all_answered)
    return found


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
@pytest.mark.parametrize(("kind", "conf"), WORKERS, ids=["sync", "gthread", "gevent"])
def test_each_worker_has_connections_of_its_own_and_the_arbiter_none(
    tmp_path: Path, dsn: str, kind: str, conf: str, preload: tuple[str, ...]
) -> None:
    """No backend serves two processes, whatever was loaded before the fork."""
    options = ["-k", kind, "-w", "2", "--threads", "1", *preload]
    app = f"tests.gunicorn_app:{'impatient' if preload else 'eager'}()"
    with Gunicorn(tmp_path, dsn, *options, conf=conf, app=app) as gunicorn:
        gunicorn.wait()
        first, second = backends_by_worker(gunicorn, 2).values()
        assert first.isdisjoint(second)
        arbiter = psutil.Process(gunicorn.process.pid).net_connections("inet")
        assert [c for c in arbiter if c.status == psutil.CONN_ESTABLISHED] == []


def test_pools_are_warm_before_the_first_request(
    tmp_path: Path, dsn: str, admin: connection, application_name: str
) -> None:
    """Each worker has its min_size open, and its token in the name."""
    with Gunicorn(tmp_path, dsn, "-w", "2", "--threads", "4", pool={"min_size": 2}):
        until(lambda: len(sessions(admin, application_name)) == 4)
        tokens = {token for _, _, token in sessions(admin, application_name)}
        service = {token.rpartition(".")[0] for token in tokens}
        assert {token.rpartition(".")[2] for token in tokens} == {"1", "2"}
        assert len(service) == 1


@pytest.mark.parametrize(
    ("options", "total", "size"),
    [
        ("-k sync", "", 1),
        ("--threads 3", "", 3),
        ("--threads 4 -w 2 --preload", "5", 2),
    ],
)
def test_a_pool_has_the_size_of_its_worker(
    tmp_path: Path, dsn: str, options: str, total: str, size: int
) -> None:
    """Threads or share of the budget, whichever is smaller."""
    with Gunicorn(
        tmp_path, dsn, *options.split(), environ={"PGDBPOOL_TOTAL": total}
    ) as gunicorn:
        gunicorn.wait()
        assert gunicorn.get()[1]["max_size"] == size


def test_an_explicit_max_size_stands_in_each_worker(tmp_path: Path, dsn: str) -> None:
    """Against threads and budget, of which the log complains."""
    pool: dict[str, object] = {"max_size": 7}
    options = ["--threads", "3"]
    with Gunicorn(
        tmp_path, dsn, *options, pool=pool, environ={"PGDBPOOL_TOTAL": "5"}
    ) as gunicorn:
        gunicorn.wait()
        assert gunicorn.get()[1]["max_size"] == 7
        assert "[WARNING]" in gunicorn.wait_log("EXCEEDS THE BUDGET")


def test_a_pool_made_at_the_first_request_has_its_size_too(
    tmp_path: Path, dsn: str
) -> None:
    """The budget holds whenever the application constructs its pool."""
    with Gunicorn(
        tmp_path,
        dsn,
        *["-w", "2", "--threads", "4"],
        app="tests.gunicorn_app:lazy",
        environ={"PGDBPOOL_TOTAL": "6"},
    ) as gunicorn:
        gunicorn.wait()
        assert gunicorn.get()[1]["max_size"] == 3


@pytest.mark.slow
def test_the_budget_is_never_exceeded(
    tmp_path: Path, dsn: str, admin: connection, application_name: str
) -> None:
    """Eight workers with a budget of ten: more callers than connections."""
    most, done = 0, threading.Event()
    with Gunicorn(
        tmp_path, dsn, *["-w", "8", "--threads", "4"], environ={"PGDBPOOL_TOTAL": "10"}
    ) as gunicorn:
        gunicorn.wait()

        def count() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, len(sessions(admin, application_name)))

        with ThreadPoolExecutor(41) as executor:
            counting = executor.submit(count)
            paths = ["/?seconds=0.01"] * 200
            statuses = set(executor.map(gunicorn.status, paths))
            done.set()
            counting.result()
    assert statuses == {200}
    assert 4 <= most <= 10


def test_an_impossible_budget_ends_gunicorn_with_one_clear_line(
    tmp_path: Path, dsn: str
) -> None:
    """Before it listens, with the variable's name, without a traceback."""
    options = ["-w", "8"]
    with Gunicorn(tmp_path, dsn, *options, environ={"PGDBPOOL_TOTAL": "4"}) as gunicorn:
        assert gunicorn.process.wait(20) == 1
        line = gunicorn.wait_log("PGDBPOOL_TOTAL")
        assert "4 is too little for 8 workers" in line
        assert "Traceback" not in gunicorn.log
        assert "Listening" not in gunicorn.log


@pytest.mark.parametrize("knower", ["environment", "preload", "worker"])
def test_gunicorn_says_whether_all_connections_fit(
    tmp_path: Path, dsn: str, knower: str
) -> None:
    """The arbiter when it can know the server, else the first worker; once."""
    options = ["-w", "2", "--threads", "4"]
    environ = {"PGDBPOOL_CONNINFO": dsn} if knower == "environment" else {}
    options += ["--preload"] if knower == "preload" else []
    with Gunicorn(tmp_path, dsn, *options, environ=environ) as gunicorn:
        line = gunicorn.wait_log("2 workers x 4 connections = 8; the server has")
        gunicorn.wait()
        assert ": fits" in line
        assert "[INFO]" in line
        assert gunicorn.log.count("the server has") == 1
        by_arbiter = f"[{gunicorn.process.pid}]" in line
        assert by_arbiter == (knower != "worker")


def test_what_does_not_fit_is_a_warning(tmp_path: Path, dsn: str) -> None:
    """Asked for more than max_connections, which no test server has."""
    pool: dict[str, object] = {"max_size": 5000}
    with Gunicorn(tmp_path, dsn, "-w", "2", pool=pool) as gunicorn:
        assert "[WARNING]" in gunicorn.wait_log("DOES NOT FIT")


def test_greenlets_with_a_blocking_driver_are_warned_of(
    tmp_path: Path, dsn: str
) -> None:
    """A gevent worker without psycogreen says so in capitals."""
    with Gunicorn(tmp_path, dsn, "-k", "gevent") as gunicorn:
        assert "psycogreen" in gunicorn.wait_log("THE WHOLE PROCESS STOPS")

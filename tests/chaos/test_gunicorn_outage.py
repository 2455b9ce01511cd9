"""gunicorn while its database is down, and while it ends itself."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg2.extensions import connection

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.gunicorns import CONF, Gunicorn, asking, busy, is_alive, sessions
from tests.observer import observe
from tests.waiting import until

POOL: dict[str, object] = {"timeout": 0.5}


@pytest.mark.parametrize(
    "preload", [(), pytest.param(("--preload",), marks=pytest.mark.slow)]
)
def test_a_database_down_at_boot_keeps_nobody_from_starting(
    tmp_path: Path, private_server: EmbeddedPostgres, preload: tuple[str, ...]
) -> None:
    """It is up and answers 503, and recovers by itself."""
    dsn = private_server.dsn()
    private_server.stop("fast")
    options = ["-w", "2", *preload]
    with Gunicorn(
        tmp_path, dsn, *options, pool=POOL, environ={"PGDBPOOL_CONNINFO": dsn}
    ) as gunicorn:
        gunicorn.wait(503)
        pids = {worker.pid for worker in gunicorn.workers()}
        private_server.start()
        gunicorn.wait(200)
        assert {worker.pid for worker in gunicorn.workers()} == pids


def test_a_frozen_database_at_boot_holds_the_arbiter_for_a_second_at_most(
    tmp_path: Path, private_server: EmbeddedPostgres
) -> None:
    """It says that it got no answer, boots its workers, and recovers."""
    dsn = private_server.dsn()
    private_server.freeze()
    with Gunicorn(
        tmp_path, dsn, pool=POOL, environ={"PGDBPOOL_CONNINFO": dsn}
    ) as gunicorn:
        gunicorn.wait_log("Listening at")
        heard = time.monotonic()
        gunicorn.wait_log("could not check: the server gave no answer in time")
        gunicorn.wait_log("Booting worker")
        assert time.monotonic() - heard < 2.0
        gunicorn.wait(503)
        private_server.thaw()
        gunicorn.wait(200)


def test_a_frozen_database_blocks_no_arbiter_that_lost_a_worker(
    tmp_path: Path, private_server: EmbeddedPostgres
) -> None:
    """The next worker boots at once; the query is ended after the thaw."""
    dsn = private_server.dsn(application_name="shop")
    with (
        observe(private_server.dsn()) as admin,
        Gunicorn(tmp_path, dsn, pool=POOL) as gunicorn,
    ):
        gunicorn.wait()
        with asking(gunicorn, "/?seconds=60"):
            until(lambda: busy(admin, "shop"))
            private_server.freeze()
            (worker,) = gunicorn.workers()
            worker.kill()
            until(lambda: gunicorn.workers() not in ([], [worker]), 3.0)
            private_server.thaw()
            until(lambda: not busy(admin, "shop"))
        gunicorn.wait(200)


@pytest.mark.parametrize("kind", ["gthread", "sync"])
def test_a_terminated_gunicorn_finishes_its_requests_and_leaves_nothing(
    tmp_path: Path, dsn: str, admin: connection, application_name: str, kind: str
) -> None:
    """Requests in flight all end well; then no session, no process is left."""
    options = ["-k", kind, "-w", "2", "--threads", "8" if kind == "gthread" else "1"]
    with Gunicorn(tmp_path, dsn, *options) as gunicorn:
        gunicorn.wait()
        family = gunicorn.family()
        count = 5 if kind == "gthread" else 2
        with ThreadPoolExecutor(count) as executor:
            answers = executor.map(gunicorn.status, ["/?seconds=1"] * count)
            until(lambda: len(busy(admin, application_name)) == count)
            gunicorn.process.terminate()
            assert list(answers) == [200] * count
        assert gunicorn.process.wait(10) == 0
        until(lambda: not sessions(admin, application_name), 2.0)
        until(lambda: not any(map(is_alive, family)), 2.0)
        assert "database session" not in gunicorn.log


def test_a_failing_hook_harms_nobody(tmp_path: Path, dsn: str) -> None:
    """Whatever breaks in a hook is logged, and gunicorn serves."""
    conf = CONF + (
        "from pgdbpool.gunicorn import service\n"
        "def fail(*_): raise ZeroDivisionError\n"
        "service.Service.check = service.Member.warm = service.Member.close = fail\n"
    )
    with Gunicorn(tmp_path, dsn, conf=conf) as gunicorn:
        gunicorn.wait()
        os.kill(gunicorn.workers()[0].pid, 15)
        gunicorn.wait_log("the hook worker_exit failed")
        gunicorn.wait()
        assert "the hook when_ready failed" in gunicorn.log
        assert "the hook post_worker_init failed" in gunicorn.log

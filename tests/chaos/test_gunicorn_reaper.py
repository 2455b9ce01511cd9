"""What a worker that died left running on the server is ended."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn, parse_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask
from tests.gunicorns import Gunicorn, asking, busy, is_alive, sessions
from tests.waiting import until

# Far less than the queries last, and the pools' own keepalives need.
SOON = 5.0


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_killed_workers_query_is_ended(
    tmp_path: Path,
    dsn: str,
    admin: connection,
    application_name: str,
    preload: tuple[str, ...],
) -> None:
    """Without a DSN in the environment; the other worker's query goes on."""
    options = ["-w", "2", "--threads", "1", *preload]
    with Gunicorn(tmp_path, dsn, *options) as gunicorn:
        gunicorn.wait()
        first = gunicorn.get()[1]
        with asking(gunicorn, "/?seconds=60"), asking(gunicorn, "/?seconds=60"):
            both = until(lambda: _all_busy(admin, application_name, 2))
            os.kill(first["worker"], signal.SIGKILL)
            (left,) = until(lambda: _all_busy(admin, application_name, 1), SOON)
            assert left in both
            assert "ended 1 database session" in gunicorn.wait_log("database session")
            until(lambda: gunicorn.status() == 200)
            for worker in gunicorn.workers():
                os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not busy(admin, application_name), SOON)
        gunicorn.wait()


def _all_busy(admin: connection, name: str, count: int) -> list[int]:
    pids = busy(admin, name)
    return pids if len(pids) == count else []


def test_the_query_of_a_worker_that_took_too_long_is_ended(
    tmp_path: Path, dsn: str, admin: connection, application_name: str
) -> None:
    """A sync worker blocked in libpq: none of its own hooks run."""
    with Gunicorn(tmp_path, dsn, "--timeout", "1") as gunicorn:
        gunicorn.wait()
        with asking(gunicorn, "/?seconds=60"):
            until(lambda: busy(admin, application_name))
            gunicorn.wait_log("WORKER TIMEOUT")
            until(lambda: not busy(admin, application_name), SOON)
        gunicorn.wait()


def test_when_all_is_killed_at_once_the_reaper_ends_all_and_then_itself(
    tmp_path: Path, dsn: str, admin: connection, application_name: str
) -> None:
    """Arbiter and workers killed by the process group, as supervisors do it."""
    gunicorn = Gunicorn(tmp_path, dsn, "-w", "2")
    with gunicorn:
        gunicorn.wait()
        reaper = gunicorn.reaper()
        with asking(gunicorn, "/?seconds=60"):
            until(lambda: busy(admin, application_name))
            os.killpg(gunicorn.process.pid, signal.SIGKILL)
            gunicorn.process.wait(10)
        until(lambda: not sessions(admin, application_name), SOON)
        until(lambda: not is_alive(reaper))


def test_a_killed_arbiter_leaves_no_process(tmp_path: Path, dsn: str) -> None:
    """The workers notice, and the reaper ends with the last of them."""
    with Gunicorn(tmp_path, dsn, "-w", "2", "--timeout", "1") as gunicorn:
        gunicorn.wait()
        family = gunicorn.family()
        assert gunicorn.reaper() in family
        gunicorn.process.kill()
        gunicorn.process.wait(10)
        until(lambda: not any(map(is_alive, family)))


def test_the_reaper_stays_over_a_reload_and_serves_the_new_workers(
    tmp_path: Path, dsn: str, admin: connection, application_name: str
) -> None:
    """HUP replaces the workers, not the reaper, which keeps no connection."""
    with Gunicorn(tmp_path, dsn, "-w", "1") as gunicorn:
        gunicorn.wait()
        reaper, (old,) = gunicorn.reaper(), gunicorn.workers()
        gunicorn.signal(signal.SIGHUP)
        until(lambda: old not in gunicorn.workers() and gunicorn.workers())
        assert gunicorn.reaper() == reaper
        with asking(gunicorn, "/?seconds=60"):
            until(lambda: busy(admin, application_name))
            gunicorn.workers()[0].kill()
            until(lambda: not busy(admin, application_name), SOON)
        until(lambda: not reaper.net_connections("inet"))
        gunicorn.wait()


def test_a_killed_reaper_is_replaced(
    tmp_path: Path, dsn: str, admin: connection, application_name: str
) -> None:
    """The arbiter does not take it for a worker; the next fork brings another."""
    with Gunicorn(tmp_path, dsn, "-w", "1") as gunicorn:
        gunicorn.wait()
        gunicorn.reaper().kill()
        until(lambda: not _reapers(gunicorn))
        for worker in gunicorn.workers():
            worker.kill()
        gunicorn.reaper()
        gunicorn.wait()
        with asking(gunicorn, "/?seconds=60"):
            until(lambda: busy(admin, application_name))
            gunicorn.workers()[0].kill()
            until(lambda: not busy(admin, application_name), SOON)
        gunicorn.wait()
        assert "Traceback" not in gunicorn.log


def _reapers(gunicorn: Gunicorn) -> list[psutil.Process]:
    return [p for p in gunicorn.family() if p not in gunicorn.workers()]


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password=secrets.token_hex(8)) as server:
        yield server


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
def test_the_reaper_logs_in_with_the_password_of_the_pool(
    tmp_path: Path, guarded: EmbeddedPostgres, preload: tuple[str, ...]
) -> None:
    """Though it is neither in the DSN nor in libpq's variables."""
    params = parse_dsn(guarded.dsn(application_name="told"))
    pool: dict[str, object] = {"password": params.pop("password")}
    with (
        closing(psycopg2.connect(guarded.dsn())) as admin,
        Gunicorn(tmp_path, make_dsn(**params), *preload, pool=pool) as gunicorn,
    ):
        admin.autocommit = True
        gunicorn.wait()
        assert_killed_query_ends(gunicorn, admin, "told")
        assert "could not check" not in gunicorn.log


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
def test_the_reaper_logs_in_with_the_newest_password_of_a_provider(
    tmp_path: Path, guarded: EmbeddedPostgres, preload: tuple[str, ...]
) -> None:
    """Each that a worker has fetched is told to it, the first and all others."""
    secret = tmp_path / "secret"
    dsn = guarded.dsn(user="clerk", application_name="rotated")
    options = ("-w", "1", *preload)
    with (
        closing(psycopg2.connect(guarded.dsn())) as admin,
        Gunicorn(tmp_path, dsn, *options, environ={"APP_SECRET": str(secret)}) as it,
    ):
        admin.autocommit = True
        ask(admin, "DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN")
        for _ in range(2):
            change(admin, secret)
            it.wait()
            assert_killed_query_ends(it, admin, "rotated")
        assert "could not check" not in it.log


def change(admin: connection, secret: Path) -> None:
    """Have another password for all that connect from now on."""
    new = secrets.token_hex(8)
    ask(admin, f"ALTER ROLE clerk PASSWORD '{new}'")
    secret.write_text(new)
    ask(
        admin,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE usename = 'clerk'",
    )


def assert_killed_query_ends(gunicorn: Gunicorn, admin: connection, name: str) -> None:
    """Kill the worker in the middle of a query; see that the server is told."""
    with asking(gunicorn, "/?seconds=60"):
        until(lambda: busy(admin, name))
        gunicorn.workers()[0].kill()
        until(lambda: not busy(admin, name), SOON)


def test_the_reaper_holds_no_secret_where_others_look_and_no_listener(
    tmp_path: Path, dsn: str
) -> None:
    """Neither its command line nor its environment nor the log has the password."""
    secret = "horse-battery-staple"
    options = ["-w", "1", "--preload"]
    with Gunicorn(tmp_path, f"{dsn} password={secret}", *options) as gunicorn:
        gunicorn.wait()
        reaper = gunicorn.reaper()
        environ = {k: v for k, v in reaper.environ().items() if k != "APP_DSN"}
        assert secret not in f"{reaper.cmdline()} {environ} {gunicorn.log}"
        assert reaper.net_connections("inet") == []

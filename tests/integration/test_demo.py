"""`pgdbpool demo` as a user runs it."""

import http.client
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
from urllib.parse import urlsplit

import psycopg2
import pytest

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.demo import (
    COMMAND,
    INITDB,
    KEYS,
    ROOT,
    SHOP_IS_OPEN,
    address,
    ask,
    running_demo,
)
from tests.fresh import run
from tests.waiting import until


def test_a_restart_costs_no_request_and_no_write() -> None:
    """Under load, a restart of PostgreSQL fails no request and loses no write."""
    with running_demo("--seconds", "4", "--json") as demo:
        status = demo.wait()
        result = json.loads(demo.lines[-1])
        assert status == 0, demo.output
        assert result["failed"] == result["lost_writes"] == 0
        assert result["restarts"] == 1
        assert result["requests"] > result["acknowledged_writes"] > 0


def test_output_without_a_terminal_has_no_control_codes() -> None:
    """What is written to a pipe are plain lines."""
    with running_demo("--seconds", "1") as demo:
        demo.wait()
        assert "Nothing failed, nothing was lost." in demo.output
        assert not {char for char in demo.output if ord(char) < 32} - {"\n"}


@pytest.mark.slow
def test_output_on_a_terminal_has_a_live_line() -> None:
    """On a terminal there is a bar and a line that is kept up to date."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--port", "0", "--seconds", "2"],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        output = b""
        while chunk := _read_terminal(ours):
            output += chunk
        assert process.wait(30) == 0, output.decode()
    finally:
        os.close(ours)
    assert b"\x1b[" in output
    assert b"100000/100000" in output
    assert "\x1b[32mdatabase up" in output.decode()


def test_a_taken_port_is_one_clear_line_and_starts_nothing() -> None:
    """A taken port is said before anything is started, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running_demo("--port", str(port)) as demo:
            assert demo.wait() == 1
    assert demo.output == (
        f"pgdbpool demo: port {port} is taken: "
        "choose another with --port (0: any free one)\n"
    )


def test_what_it_says_to_try_works() -> None:
    """The shop that is served answers, takes orders and survives a restart."""
    with running_demo() as demo:
        shop = address(demo)
        assert "/orders/42" in demo.wait_for("one order")
        assert ask(f"{shop}/orders/42")["id"] == 42
        placed = ask(f"{shop}/orders", customer=7, article=3, quantity=2)
        demo.wait_for("Ctrl-C ends it")
        demo.process.send_signal(signal.SIGUSR1)
        demo.wait_for("restarting PostgreSQL")
        assert placed in [
            {key: order[key] for key in ("id", "key")} | {"price_cents": 422}
            for order in ask(f"{shop}/orders?customer=7")
        ]
        demo.interrupt()
        assert demo.wait() == 0


def press(page: str, number: int) -> int:
    """Press a button of the status page; return the status of the answer."""
    where = urlsplit(page)
    client = http.client.HTTPConnection(where.netloc, timeout=10.0)
    headers = {"Sec-Fetch-Site": "same-origin"}
    try:
        client.request("POST", f"{where.path}do/{number}", headers=headers)
        return client.getresponse().status
    finally:
        client.close()


def test_the_buttons_of_its_page_freeze_and_restart_the_database() -> None:
    """And the page lives through both."""
    with running_demo() as demo:
        page = f"{address(demo)}/_pgdbpool/"
        demo.wait_for("Ctrl-C ends it")
        assert press(page, 1) == 303
        demo.wait_for("freezing PostgreSQL for 5 s")
        assert ask(f"{page}status.json")["workers"]
        demo.wait_for("PostgreSQL goes on")
        assert press(page, 0) == 303
        demo.wait_for("restarting PostgreSQL")
        assert ask(f"{page}status.json")["workers"]
        demo.interrupt()
        assert demo.wait() == 0


def test_a_database_that_is_the_users_has_no_buttons(server: EmbeddedPostgres) -> None:
    """The demo never disturbs what it was given."""
    with running_demo("--dsn", server.dsn()) as demo:
        page = f"{address(demo)}/_pgdbpool/"
        demo.wait_for("Ctrl-C ends it")
        assert press(page, 0) == 404
        demo.interrupt()
        assert demo.wait() == 0


@pytest.mark.parametrize(
    ("phase", "arguments", "status"),
    [
        pytest.param("starting PostgreSQL", (), 130, id="initdb"),
        pytest.param("filling the shop", (), 130, id="filling"),
        pytest.param("Ctrl-C ends it", (), 0, id="serving"),
        pytest.param("requests", ("--seconds", "9"), 130, id="driving"),
        pytest.param(
            "database restarting", ("--seconds", "2"), 130, marks=pytest.mark.slow
        ),
        pytest.param("looking up", ("--seconds", "1"), 130, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_ctrl_c_leaves_nothing(
    phase: str,
    arguments: tuple[str, ...],
    status: int,
    group: bool,  # noqa: FBT001 (a parameter of the test, given by name)
) -> None:
    """Ctrl-C in any phase ends every process and removes every directory."""
    environment = INITDB if phase == "starting PostgreSQL" else {}
    with running_demo(*arguments, **environment) as demo:
        demo.wait_for(phase)
        demo.interrupt(group=group)
        assert demo.wait() in (status, 0), demo.output
        assert "Traceback" not in demo.output


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_other_ends_leave_nothing_either(signum: int) -> None:
    """A kill or a closed terminal ends the demo as Ctrl-C does."""
    with running_demo() as demo:
        demo.wait_for("filling the shop")
        demo.interrupt(signum)
        assert demo.wait() == 128 + signum


@pytest.mark.slow
@pytest.mark.parametrize("tenths", range(0, 40, 6))
def test_ctrl_c_at_any_time_leaves_nothing(tenths: int) -> None:
    """Wherever in the run it comes, Ctrl-C leaves no process and no directory."""
    with running_demo("--seconds", "1", **INITDB) as demo:
        try:
            demo.process.wait(tenths / 10)
        except subprocess.TimeoutExpired:
            demo.interrupt(group=True)
        demo.wait()


@pytest.mark.slow
def test_a_killed_demo_leaves_no_process() -> None:
    """Even when the demo is killed, all its processes end; its log stays."""
    with running_demo("--seconds", "30") as demo:
        demo.wait_for("database up")
        demo.interrupt(signal.SIGKILL)
        demo.wait()
        until(lambda: len(demo.leftovers()) == 1, 10.0, "every process has ended")
        (folder,) = demo.home.iterdir()
        assert folder.name.startswith("pgdbpool-demo-")
        shutil.rmtree(folder)


@pytest.mark.slow
def test_any_locale_will_do() -> None:
    """Where the locale has no bars and ellipses, the demo does without."""
    with running_demo("--seconds", "1", PYTHONIOENCODING="ascii") as demo:
        assert demo.wait() == 0, demo.output
        assert "filling the shop: 100,000 ?" in demo.output


def test_a_database_of_the_users_is_left_as_it_was(
    server_dsn: str, admin: psycopg2.extensions.connection
) -> None:
    """With --dsn the demo works in a schema of its own, which it removes."""
    with running_demo("--dsn", server_dsn, "--seconds", "1") as demo:
        assert demo.wait() == 0, demo.output
        assert "PostgreSQL is yours, so it is not restarted" in demo.output
    with admin.cursor() as cur:
        cur.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgdbpool_demo%'"
        )
        assert cur.fetchone() == (0,)


def test_json_is_all_of_standard_output(server_dsn: str) -> None:
    """With --json the object is alone on standard output, the rest on the other."""
    options = ["--port", "0", "--dsn", server_dsn, "--seconds", "1", "--json"]
    done = subprocess.run(
        [*COMMAND, "demo", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(json.loads(done.stdout)) == KEYS
    assert SHOP_IS_OPEN in done.stderr


def test_a_dsn_that_does_not_parse_is_one_line_without_its_password() -> None:
    """A wrong --dsn is an error of one line that quotes nothing of it."""
    with running_demo("--dsn", "host=x pass word=secret") as demo:
        assert demo.wait() == 1
    assert "secret" not in demo.output
    assert len(demo.lines) == 1


def test_an_unreachable_database_is_an_error_without_traceback() -> None:
    """A --dsn where nobody listens says so and leaves nothing."""
    with running_demo("--dsn", "host=127.0.0.1 port=1 user=u dbname=d") as demo:
        assert demo.wait() == 1
    assert "Connection refused" in demo.output
    assert "Traceback" not in demo.output


@pytest.mark.parametrize("name", ["click", "rich", "psutil"])
def test_a_missing_extra_is_one_line(name: str) -> None:
    """Without the extra the command says in one line what to install."""
    done = run(COMMAND[-1], "demo", without=[name])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'pgdbpool[demo]'" in done.stderr


def _read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # what Linux says when the other end is closed
        return b""

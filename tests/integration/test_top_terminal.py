"""`pgdbpool top` in a terminal: live, through restarts, and gone without a trace."""

import contextlib
import json
import re
import signal
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import free_port
from tests.integration.pages import Answering, Terminal, served, status_of
from tests.unit.top_states import troubled
from tests.waiting import until

SOON = ("--interval", "0.1")
# What a terminal is told: another page and back, the cursor hidden and shown.
ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
HOME = "\x1b[H"
CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool."""
    with ConnectionPool(dsn, name="shop", max_size=3) as pool:
        pool.wait()
        yield pool


def is_restored(drawn: str) -> bool:
    """Tell whether a terminal is as it was before."""
    return drawn.rfind(NORMAL) > drawn.rfind(ALTERNATE) >= 0 and drawn.rfind(
        SHOWN
    ) > drawn.rfind(HIDDEN)


def test_it_lives_through_a_restart_of_the_service(pool: ConnectionPool) -> None:
    """It says that it tries again and how old is what it shows, and goes on."""
    port = free_port()
    cut = Answering("200 OK", b'{"workers": [', **{"Content-Length": "5000"})
    with status_of(pool) as app, contextlib.ExitStack() as serving:
        url = serving.enter_context(served(app, port))
        with Terminal(url, *SOON) as terminal:
            seen = terminal.seen
            until(lambda: b"primary" in seen, 20.0)
            serving.close()
            until(lambda: b"trying again. What you see is" in seen, 20.0)
            with served(Answering("502 Bad Gateway"), port):
                until(lambda: b"answers 502; trying" in seen, 20.0)
            with served(cut, port):
                until(lambda: b"its answer was cut off; trying" in seen, 20.0)
            del seen[:]
            with served(app, port):
                until(
                    lambda: b"primary" in seen and b"trying" not in seen[-2000:], 20.0
                )
                terminal.process.send_signal(signal.SIGINT)
                assert terminal.ended()[0] == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)]
)
def test_it_leaves_the_terminal_as_it_was(
    pool: ConnectionPool, number: signal.Signals, status: int
) -> None:
    """However it is ended."""
    with status_of(pool) as app, served(app) as url, Terminal(url, *SOON) as terminal:
        until(lambda: b"primary" in terminal.seen, 20.0)
        terminal.process.send_signal(number)
        ended, drawn = terminal.ended()

    assert ended == status
    assert is_restored(drawn)
    assert "Traceback" not in drawn


def test_it_ends_with_a_word_when_the_page_is_gone(pool: ConnectionPool) -> None:
    """After the terminal is as it was: else nobody could read it."""
    port = free_port()
    with status_of(pool) as app, contextlib.ExitStack() as serving:
        url = serving.enter_context(served(app, port))
        with Terminal(url, *SOON) as terminal:
            until(lambda: b"primary" in terminal.seen, 20.0)
            serving.close()
            with served(Answering("404 Not Found"), port):
                status, drawn = terminal.ended()

    assert status == 1
    assert is_restored(drawn)
    assert "status.json is not there (404)" in drawn[drawn.rfind(NORMAL) :]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (120, 40)])
def test_it_fills_the_window_and_no_more(width: int, height: int) -> None:
    """With the most urgent on top."""
    page = Answering("200 OK", json.dumps(troubled()).encode())
    with served(page) as url, Terminal(url, width=width, height=height) as terminal:
        until(lambda: b"held for" in terminal.seen, 20.0)
        terminal.process.send_signal(signal.SIGTERM)
        _, drawn = terminal.ended()

    frame = drawn.partition(ALTERNATE)[2].partition(NORMAL)[0].split(HOME)[-1]
    lines = CONTROL.sub("", frame).rstrip("\r").split("\r\n")
    assert [cell_len(line) for line in lines] == [width] * height
    assert lines[0].startswith("pgdbpool 2.0 on web1  1 worker")
    assert lines[1].startswith("shop  saturated: all connections are in use")


def test_a_terminal_that_cannot_be_drawn_in_is_told() -> None:
    """One that calls itself dumb, where nothing would be printed."""
    with Terminal("http://127.0.0.1:1/", kind="dumb") as terminal:
        status, drawn = terminal.ended()
    assert status == 2
    assert "there is no terminal to draw in: give --once" in drawn

"""What `pgdbpool top` makes of what a status page tells."""

import io
from typing import Any

import pytest
from rich.console import Console

from pgdbpool.top.figures import figures_of
from pgdbpool.top.screen import BARS, MOST_HOLDERS, screen, sparkline
from pgdbpool.top.source import Source, SourceError

COLUMNS = ["second", "acquires", "waited_ms", "held_ms", "errors", "lost"]


def endpoint(name: str, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what a worker tells of a server."""
    told = {
        "name": name,
        "role": "primary",
        "state": "up",
        "lag": None,
        "in_use": 0,
        "idle": 0,
        "connecting": 0,
        "max_size": 4,
        "last_error": None,
    }
    return {**told, **given}


def session(seconds: float, server: str = "db1:5432") -> dict[str, Any]:
    """Return a connection that somebody holds."""
    holder = {
        "request": "GET /report",
        "place": "shop/report.py:41",
        "seconds": seconds,
        "transaction": "open",
        "backend_pid": 20817,
        "endpoint": server,
    }
    return {"holder": holder}


def worker(pid: int, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what is known of a worker with one pool."""
    pool = {
        "name": "shop",
        "long_hold": 5.0,
        "endpoints": [endpoint("db1:5432")],
        "sessions": [{"holder": None}],
        "waiting": [],
    }
    return {"pid": pid, "answers": True, "pools": [{**pool, **given}]}


def state_of(*workers: dict[str, Any], rows: Any = ()) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what a status page tells."""
    return {
        "service": {"host": "web1", "version": "2.0"},
        "workers": list(workers),
        "history": {"columns": COLUMNS, "pools": {"shop": list(rows)}},
    }


def shown(state: dict[str, Any], width: int = 110) -> str:
    """Return it as a terminal of that width has it."""
    output = io.StringIO()
    Console(file=output, width=width).print(screen(figures_of(state)))
    return output.getvalue()


def test_the_connections_of_all_workers_are_one_service() -> None:
    """Counted together, by server."""
    one = endpoint("db1:5432", in_use=2, idle=1)
    other = endpoint("db1:5432", in_use=1, connecting=1)
    (server,) = figures_of(
        state_of(worker(1, endpoints=[one]), worker(2, endpoints=[other]))
    ).servers

    assert (server.in_use, server.idle, server.connecting) == (3, 1, 1)
    assert server.most == 8


def test_the_worst_that_a_worker_knows_counts() -> None:
    """With what the server said last."""
    down = endpoint("db1:5432", state="down", role=None, last_error="refused")
    text = shown(state_of(worker(1, endpoints=[down]), worker(2)))

    assert "down" in text
    assert "refused" in text
    assert "primary" in text


def test_a_worker_that_does_not_answer_is_told() -> None:
    """It may be the one that matters."""
    silent = {"pid": 3, "answers": False, "pools": []}
    assert "2 workers, 1 silent" in shown(state_of(worker(1), silent))
    assert "1 worker\n" in shown(state_of(worker(1)))


def test_who_has_a_connection_is_shown_the_longest_first() -> None:
    """Of all workers; some of them where there are many."""
    held = [session(seconds) for seconds in range(1, MOST_HOLDERS + 3)]
    text = shown(
        state_of(worker(7, sessions=held), worker(8, sessions=[session(99.0)]))
    )

    lines = [line for line in text.splitlines() if "GET /report" in line]
    assert len(lines) == MOST_HOLDERS
    assert lines[0].split()[:2] == ["99.0", "s"]
    assert "20817" in lines[0]
    assert lines[0].split()[-2] == "8"
    assert "and 3 more" in text


def test_a_long_hold_has_a_cell_of_its_own_colour() -> None:
    """By the pool's own measure."""
    figures = figures_of(
        state_of(worker(1, sessions=[session(5.0), session(4.9), {"holder": None}]))
    )
    (server,) = figures.servers
    assert server.long == 1
    assert [one["is_long"] for one in figures.holders] == [True, False]


def test_who_waits_is_shown() -> None:
    """And nobody, where nobody does."""
    waits = {"request": None, "place": "shop/cart.py:7", "seconds": 0.25}
    text = shown(state_of(worker(1, waiting=[waits])))
    assert "250.0 ms" in text
    assert "shop/cart.py:7" in text
    assert "in line" not in shown(state_of(worker(1)))
    assert "nobody has a connection" in shown(state_of(worker(1)))


def test_rates_are_of_the_last_seconds() -> None:
    """Means of what ended in them; errors and losses of the minute."""
    rows = [
        [0, 1000, 9999999, 9999999, 2, 1],
        *[[n, 10, 50, 200, 0, 0] for n in range(5)],
    ]
    rate = figures_of(state_of(worker(1), rows=rows)).rates["shop"]

    assert rate.acquires == (1000, 10, 10, 10, 10, 10)
    assert (rate.wait, rate.hold) == (0.005, 0.02)
    assert (rate.errors, rate.lost) == (2, 1)
    assert "5.0 ms" in shown(state_of(worker(1), rows=rows))


def test_a_pool_that_did_nothing_has_no_means() -> None:
    """And no bar that is high."""
    rate = figures_of(state_of(worker(1), rows=[[0, 0, 0, 0, 0, 0]])).rates["shop"]
    assert (rate.wait, rate.hold) == (None, None)
    assert sparkline(rate.acquires) == BARS[0]
    assert sparkline(()) == ""


def test_the_highest_bar_fills_its_line() -> None:
    """The others as compared with it."""
    assert sparkline((0, 7, 14)) == BARS[0] + BARS[3] + BARS[-1]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Whatever the names are like."""
    long = "a-very-long-name-of-a-server.example.org:5432"
    state = state_of(
        worker(
            1,
            endpoints=[endpoint(long, in_use=3, max_size=500)],
            sessions=[session(1.0, long)],
        ),
        rows=[[n, n, n, n, 0, 0] for n in range(60)],
    )
    assert all(len(line) <= width for line in shown(state, width).splitlines())


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host/", "http://", "/a"])
def test_what_is_no_address_is_told(url: str) -> None:
    """Before anything is asked for."""
    with pytest.raises(SourceError, match="is no address of a page") as caught:
        Source(url, None)
    assert not caught.value.may_pass


def test_the_address_may_end_in_a_slash_or_not() -> None:
    """It is a page's either way."""
    for url in ("http://h:1/pools", "http://h:1/pools/"):
        assert Source(url, None).url == "http://h:1/pools/status.json"

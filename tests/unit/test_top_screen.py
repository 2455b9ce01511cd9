"""`pgdbpool top` in windows of any size, with names of any kind."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pgdbpool.top.figures import figures_of
from pgdbpool.top.part import Part
from pgdbpool.top.screen import Screen, shares
from pgdbpool.top.texts import cut
from tests.unit.top_states import (
    REFUSED,
    WELL,
    endpoint,
    held,
    lines_of,
    pool,
    route,
    seen,
    session,
    shown,
    state_of,
    troubled,
    waits,
    worker,
)

HEADINGS = ("pool", "server", "role", "state", "lag", "round trip", "used")
LONG = "a-very-long-name-of-a-server.example.org:5432"
# Markup, links, smileys and what a terminal obeys.
HOSTILE = (
    "GET /a[/b]",
    "[bold]x[/bold]",
    '/<regex("[a-z]+"):x>',
    ":smile:",
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "a\nb\rc\td",
    "\u202egnp.exe",
    "\x9b31m",
    "\ud800",
    "日本語" * 40,
)


def everywhere(words: str) -> dict[str, Any]:
    """Return a state that has these words wherever there may be any."""
    down = endpoint(words, state="down", role=words, last_error=words)
    holder = held(1.0, request=words, place=words, transaction=words, endpoint=words)
    told = session(
        7,
        state=words,
        wait_type=words,
        wait_event=words,
        application_name=words,
        client=words,
    )
    state = state_of(
        worker(
            1,
            name=words,
            endpoints=[down],
            sessions=[holder],
            waiting=[waits(1.0, request=words, place=words)],
            health={**WELL, "write_ready": False, "reasons": [words]},
            routes={words: route(1.0, 1.0, [1, 0, 0, 0])},
        ),
        server=[seen(told, endpoint=words, error=words)],
    )
    state["service"].update(host=words, version=words)
    return state


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("width", [60, 250])
def test_whatever_a_name_is_it_is_shown_and_nothing_else(
    words: str, width: int
) -> None:
    """No markup, no escape: what cannot be printed is a question mark."""
    text = shown(everywhere(words), width)
    assert all(one.isprintable() for one in text if one != "\n")
    harmless = "".join(one if one.isprintable() else "?" for one in words)
    assert cut(harmless, 12, "") in text
    assert all(cell_len(line) <= width for line in text.splitlines())


@given(words=st.text(), width=st.integers(1, 300), height=st.integers(1, 60))
def test_it_fits_into_any_window(words: str, width: int, height: int) -> None:
    """In width and height, whatever there is to tell."""
    lines = lines_of(everywhere(words), width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_a_server_that_is_down_is_seen_to_be_down(width: int) -> None:
    """Its state, all headings, and the end of what it said, in any usual window."""
    down = endpoint(LONG, state="down", role="standby", last_error=REFUSED)
    lines = lines_of(state_of(worker(1, endpoints=[endpoint("db1:5432"), down])), width)

    (heading,) = (at for at, line in enumerate(lines) if line.startswith("pool  "))
    assert all(name in lines[heading] for name in HEADINGS)
    assert lines[heading + 1].split()[2:4] == ["standby", "down"]
    assert "0/4" in lines[heading + 1]
    assert REFUSED in " ".join(line.strip() for line in lines)


def test_what_the_verdict_tells_is_not_told_again() -> None:
    """Two pools of one server have the same trouble, once."""
    down = [endpoint("db2:5432", state="down", last_error=REFUSED)]
    health = {**WELL, "write_ready": False, "reasons": [f"db2:5432 said: {REFUSED}"]}
    unwell = [pool(name=name, endpoints=down) for name in ("shop", "blog")]
    told = pool(endpoints=down, health=health)

    assert shown(state_of(worker(1, *unwell)), 400).count(REFUSED) == 1
    text = shown(state_of(worker(1, told)), 400)
    assert f"shop  reads only: db2:5432 said: {REFUSED}" in text
    assert text.count(REFUSED) == 1


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (120, 24)])
@pytest.mark.parametrize("pools", [1, 2, 3])
def test_the_most_urgent_is_there_in_a_small_window(
    width: int, height: int, pools: int
) -> None:
    """Verdicts, what is wrong with servers, the line, and who holds, in this order."""
    lines = lines_of(troubled(pools), width, height)
    text = "\n".join(lines)

    order = [
        text.index("saturated: all connections"),
        text.index("  down  "),
        text.index("TCP/IP"),
        text.index(f"{6 * pools} waiting"),
        text.index("POST /orders"),
        text.index("held for"),
        text.index("GET /report"),
    ]
    assert order == sorted(order)
    assert text.count("saturated") == pools
    assert text.count("  down  ") == pools
    assert len(lines) <= height


def test_a_very_small_window_has_what_is_wrong_with_the_servers() -> None:
    """Before those who wait, and those who hold."""
    text = shown(troubled(), 80, 8)
    assert "  down  " in text
    assert "TCP/IP" in text
    assert "waiting" not in text


def test_what_is_left_out_is_counted() -> None:
    """But where there is one line only, which shows something then."""
    lines = [Text(str(n)) for n in range(5)]
    part = Part([Text("heading")], lines)
    assert part.within(1) == []
    assert [str(line) for line in part.within(2)] == ["heading", "0"]
    assert [str(line) for line in part.within(3)] == ["heading", "0", "and 4 more"]
    assert [str(line) for line in part.within(6)] == ["heading", *map(str, lines)]


def test_no_line_is_given_to_a_heading_alone() -> None:
    """Another part has use for it."""
    line = [Text("line")]
    parts = [Part(line * 2, line * 3, fair=3), Part([], line, fair=1)]
    assert shares(parts, 2) == [0, 2 - 1]
    assert shares(parts, 4) == [4, 0]


def test_charts_and_then_sessions_have_what_is_left() -> None:
    """As many sessions as there is room for."""
    for height in range(10, 60):
        lines = lines_of(troubled(), 80, height)
        has_charts = any(line.startswith("acquires ") for line in lines)
        sessions = sum(" 9.0 s " in line for line in lines)
        assert len(lines) <= height
        assert has_charts or not sessions
        if height >= 24:
            assert has_charts
        if height >= 40:
            assert sessions > 0
    full = lines_of(troubled(), 80)
    assert sum(" 9.0 s " in line for line in full) == 30


def test_a_place_that_is_too_long_keeps_its_line_number() -> None:
    """What is cut is its beginning."""
    place = f"{'deep/' * 20}report.py:41"
    (line,) = (
        line
        for line in lines_of(state_of(worker(1, sessions=[held(1.0, place=place)])), 60)
        if "GET /report" in line
    )
    assert "…" in line
    assert "report.py:41  " in line


def test_many_connections_share_the_cells_there_is_room_for() -> None:
    """Each kind that is there is seen."""
    busy = endpoint("db1:5432", in_use=90, idle=5, connecting=1, max_size=500)
    state = state_of(worker(1, endpoints=[busy], sessions=[held(9.0)]))
    for width in (70, 80, 120):
        (line,) = (one for one in lines_of(state, width) if "90/500" in one)
        assert all(cell in line for cell in "▲■◌"), line
        assert len(line) <= width


def test_a_terminal_without_such_characters_has_others() -> None:
    """Cells, bars and cuts are ASCII then; a name is as good as it gets."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    state = troubled()
    state["service"]["host"] = "wéb1"
    Console(file=output, width=80, height=24).print(Screen(figures_of(state)))
    output.flush()
    text = output.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]

    assert "on w?b1" in text
    assert text.count("?") == 2  # and that of libpq
    assert "!!!!!!" in text
    assert "! for long" in text


def test_trouble_with_the_page_is_on_top() -> None:
    """Above what was seen before, or alone."""
    for figures in (None, figures_of(troubled())):
        output = io.StringIO()
        console = Console(file=output, width=60, height=20)
        console.print(Screen(figures, "h:1 [/b]: Connection refused"))
        lines = output.getvalue().splitlines()
        assert lines[0] == "h:1 [/b]: Connection refused"
        assert len(lines) == (1 if figures is None else 20)

"""What `pgdbpool top` makes of what a status page tells."""

import re
from pathlib import Path
from typing import Any

import pytest

import pgdbpool.status
from pgdbpool.top.figures import figures_of
from pgdbpool.top.holders import MOST
from pgdbpool.top.texts import duration
from tests.unit.top_states import (
    NOW,
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
    waits,
    worker,
)


def verdict(*pools: dict[str, Any]) -> tuple[str, str]:
    """Return that of a pool which each of some workers has so."""
    workers = (worker(4711 + at, one) for at, one in enumerate(pools))
    (found,) = figures_of(state_of(*workers)).pools
    return found.verdict.kind, found.verdict.words


def test_a_worker_that_does_not_answer_is_told() -> None:
    """It may be the one that matters."""
    silent = {"age": 3, "pid": 3, "answers": False, "pools": []}
    assert "2 workers, 1 silent" in shown(state_of(worker(1), silent))
    assert "1 worker\n" in shown(state_of(worker(1)))
    assert "there is no pool yet" in shown(state_of(silent))


def test_who_has_a_connection_is_shown_the_longest_first() -> None:
    """Of all workers; some of them where there are many."""
    several = [held(seconds) for seconds in range(1, MOST + 3)]
    lines = lines_of(
        state_of(worker(7, sessions=several), worker(8, sessions=[held(99.0)]))
    )

    found = [line for line in lines if "GET /report" in line and "held" not in line]
    assert len(found) == MOST
    assert found[0].split()[:3] == ["▲", "99", "s"]
    assert found[0].split()[-3:] == ["8", "db1:5432", "20817"]
    assert "and 3 more" in lines


def test_a_long_hold_differs_in_more_than_its_colour() -> None:
    """In its cell and in the list, by the pool's own measure."""
    sessions = [held(5.0), held(4.9), {"holder": None}]
    state = state_of(
        worker(1, sessions=sessions, endpoints=[endpoint("db1:5432", in_use=2)])
    )
    figures = figures_of(state)
    lines = lines_of(state)

    assert [one.is_long for one in figures.holders] == [True, False]
    assert any(line.endswith("▲■··") for line in lines)
    assert [line.split()[0] for line in lines if "report.py" in line][1:] == [
        "▲",
        "4.9",
    ]
    assert any("▲ for long" in line for line in lines)


def test_who_waits_is_shown() -> None:
    """How many, and the longest first; nobody, where nobody does."""
    line = [waits(0.025), waits(0.5, request=None)]
    lines = lines_of(state_of(worker(1, waiting=line)))

    (at,) = (n for n, one in enumerate(lines) if one.startswith("2 waiting"))
    assert lines[at + 1].split() == ["0.5", "s", "-", "shop/cart.py:7", "1"]
    assert lines[at + 2].split()[:2] == ["25", "ms"]
    assert "waiting" not in shown(state_of(worker(1)))
    assert "nobody has a connection" in shown(state_of(worker(1)))


def test_of_a_long_line_the_page_tells_no_more_than_the_first() -> None:
    """And how many there are."""
    line = [waits(0.025)] * 100
    told = pool(waiting=line, counts={"requests_waiting": 1234})
    lines = lines_of(state_of(worker(1, told)))
    assert any(one.startswith("1234 waiting") for one in lines)
    assert "and 1226 more" in lines


def test_of_several_pools_each_line_says_whose_it_is() -> None:
    """A holder, a line, a chart and a verdict."""
    names = ("shop", "blog")
    pools = [pool(name=n, sessions=[held(1.0)], waiting=[waits(1.0)]) for n in names]
    lines = lines_of(state_of(worker(1, *pools)))

    for name in names:
        assert f"{name}  all well" in lines
        assert sum(name in line.split() for line in lines) == 1 + 1 + 1 + 1 + 4


@pytest.mark.parametrize(
    ("health", "told"),
    [
        ({}, ("well", "all well")),
        ({"reasons": ["db2 is down"]}, ("well", "all well")),
        (
            {"saturated": True},
            ("busy", "saturated: all connections are in use"),
        ),
        (
            {"write_ready": False, "reasons": ["db1 is down", "no primary", "more"]},
            ("bad", "reads only: db1 is down; no primary"),
        ),
        (
            {"write_ready": False, "read_ready": False, "reasons": ["db1 is down"]},
            ("bad", "not reachable: db1 is down"),
        ),
    ],
)
def test_a_verdict_tells_how_a_pool_is_doing(
    health: dict[str, Any], told: tuple[str, str]
) -> None:
    """The worst that any worker says, each reason once."""
    unwell = pool(health={**WELL, **health})
    assert verdict(pool(), unwell, unwell) == told


def test_a_long_hold_is_the_verdict_where_nothing_is_worse() -> None:
    """With who it is, and how many more."""
    one = pool(sessions=[held(12.0, request=None), held(1.0)])
    other = pool(sessions=[held(700.0)])
    assert verdict(one) == ("busy", "held for 12 s: shop/report.py:41")
    words = "held for 12 min: GET /report, shop/report.py:41, and 1 more"
    assert verdict(one, other) == ("busy", words)


def test_a_server_that_is_away_is_the_verdict_where_all_else_is_well() -> None:
    """Though there is another for all that is asked: nobody should hear of it late."""
    away = [
        endpoint("db1:5432", in_use=1),
        endpoint("db2:5432", role="standby", state="down"),
        endpoint("db3:5432", role="standby", state="astray"),
        endpoint("db4:5432", role=None, state="unknown"),
    ]
    words = "db2:5432 is down, db3:5432 is astray"
    assert verdict(pool(), pool(endpoints=away)) == ("busy", words)
    words = "db3:5432 is astray, db2:5432 is down"
    assert verdict(pool(endpoints=away[::-1])) == ("busy", words)
    words = "db2:5432 is down (2), up (1), db3:5432 is astray (2), up (1)"
    well = [{**one, "state": "up"} for one in away]
    several = [pool(endpoints=one) for one in (away, well, away)]
    assert verdict(*several) == ("busy", words)
    held_long = pool(endpoints=away, sessions=[held(12.0)])
    assert verdict(held_long)[1].startswith("held for 12 s")


def test_the_servers_of_another_pool_are_none_of_its_verdict() -> None:
    """Each pool has its own."""
    down = pool(name="blog", endpoints=[endpoint("db2:5432", state="down")])
    pools = figures_of(state_of(worker(1, pool(), down))).pools
    told = {one.name: one.verdict.words for one in pools}
    assert told == {"shop": "all well", "blog": "db2:5432 is down"}


def test_verdicts_are_in_the_words_of_the_page() -> None:
    """Those of the function that makes the page's."""
    static = Path(pgdbpool.status.__file__).parent / "static"
    (script,) = (
        text
        for text in (path.read_text() for path in static.glob("*.js"))
        if "export function verdictOf(" in text
    )
    function = script.partition("export function verdictOf(")[2].partition("\n}\n")[0]
    bad = pool(health={**WELL, "write_ready": False, "reasons": ["X"]})
    worse = {**WELL, "write_ready": False, "read_ready": False, "reasons": ["X"]}
    full = pool(health={**WELL, "saturated": True})
    long = pool(sessions=[held(12.0), held(11.0)])
    away = pool(endpoints=[endpoint("X", state="down")])
    assert verdict(away, pool(endpoints=[endpoint("X")]))[1] == "X is down (1), up (1)"
    assert all(words in script for words in ("`${state} (${", 'told.join(", ")'))

    for one in (pool(), bad, pool(health=worse), full, long, away):
        kind, words = verdict(one)
        assert f'"{kind}"' in function
        for phrase in re.split(
            r"X|down|12 s: GET /report, shop/report.py:41|1 ", words
        ):
            assert phrase in function


def test_a_session_is_of_the_worker_whose_token_its_name_ends_with() -> None:
    """A name may have colons of its own; what is no token is a part of it."""
    whose = {
        "shop:web:abc.7": "worker 4717",
        "shop:web/web1/4711:abc.7": "worker 4717",
        ":abc.7": "worker 4717",
        "shop:web:abc.8": "local, shop:web",
        "shop:web:fed0.7": "local, shop:web",
        "shop:web": "local, shop:web",
        "shop:abc.7:web": "local, shop:abc.7:web",
        "shop:abc.7x": "local, shop:abc.7x",
        "psql": "local, psql",
        "": "local, ",
    }
    told = [
        session(number, application_name=name, client="")
        for number, name in enumerate(whose)
    ]
    found = figures_of(state_of(worker(4717), server=[seen(*told)])).seen.sessions
    assert [one.whose for one in sorted(found, key=lambda one: one.pid)] == [
        *whose.values()
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (-1.0, "0.0 ms"),
        (0.00042, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.0996, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (120.0, "2 min"),
        (7200.0, "2 h"),
    ],
)
def test_a_duration_has_the_unit_that_it_needs(
    seconds: float | None, words: str
) -> None:
    """As the page has it, with tenths of milliseconds where there are few."""
    assert duration(seconds) == words


def test_routes_are_shown_those_first_that_hold_for_longest() -> None:
    """Of all workers together; none where nothing is measured."""
    slow, quick = route(0.3, 30.0, [0, 0, 9, 1]), route(0.0, 0.5, [95, 5, 0, 0])
    lines = lines_of(
        state_of(
            worker(1, routes={"GET /": quick, "GET /report": slow}),
            worker(2, routes={"GET /": quick, "GET /none": route(0.0, 0.0, [0] * 4)}),
        )
    )
    (at,) = (n for n, line in enumerate(lines) if line.startswith("route "))
    assert re.split(r"  +", lines[at + 1]) == (
        ["GET /report", "10", "30 ms", "3.0 s", "over 1.0 s"]
    )
    assert re.split(r"  +", lines[at + 2]) == (
        ["GET /", "200", "0.0 ms", "5.0 ms", "10 ms"]
    )
    assert lines[at + 3] == ""
    assert "95 %" not in shown(state_of(worker(1)))


def test_sessions_are_shown_as_the_servers_see_them() -> None:
    """Those in a transaction first, with their worker and what they are in use for."""
    told = [
        session(1, application_name="psql", client=""),
        session(2, is_asking=True),
        session(
            20817,
            state="idle in transaction",
            wait_type="Lock",
            wait_event="tuple",
            transaction_seconds=61.0,
        ),
        session(4, state=""),
    ]
    lines = lines_of(
        state_of(worker(4717, sessions=[held(1.0)]), server=[seen(*told)]), 130
    )

    at = next(n for n, line in enumerate(lines) if line.startswith("sessions, as"))
    assert lines[at].endswith("see them: db1:5432: 2.0 s ago")
    rows = [re.split(r"  +", line) for line in lines[at + 2 : at + 6]]
    state, waits_for, whose = "idle in transaction", "Lock: tuple", "worker 4717"
    assert rows == [
        ["db1:5432", "20817", state, "1.5 s", waits_for, "61 s", whose, "GET /report"],
        ["db1:5432", "1", "idle", "1.5 s", "-", "-", "local, psql", "-"],
        ["db1:5432", "2", "asks for this", "-", "-", "-", whose, "-"],
        ["db1:5432", "4", "not shown to us", "1.5 s", "-", "-", whose, "-"],
    ]


def test_a_server_that_could_not_be_asked_is_told() -> None:
    """With the sessions it had before; two pools of a server see the same ones."""
    state = state_of(
        worker(1),
        server=[
            seen(session(1), pool="blog", taken_at=NOW - 60),
            seen(session(1), error="OperationalError"),
        ],
    )
    note = "could not be asked (OperationalError); in a minute again"
    assert f"db1:5432: 2.0 s ago, then it {note}" in shown(state, 130)
    assert len(figures_of(state).seen.sessions) == 1
    state["server"] = [seen(error="OperationalError")]
    assert figures_of(state).seen.notes == (f"db1:5432 {note}",)
    assert f"sessions: none is known; db1:5432 {note}" in shown(state)
    state["server"] = [seen(session(1), taken_at=NOW - 59.75)]
    assert " 1.5 s, 60 s ago  " in shown(state)
    assert "sessions: not asked yet" in shown(state_of(worker(1)))


@pytest.mark.parametrize(
    "change",
    [
        {"workers": []},
        {"history": None},
        {"history": {"columns": ["second"], "pools": {"shop": [[NOW]]}}},
        {"taken_at": float("nan")},
        {"taken_at": 1e300},
        {"server": [seen(session(1, seconds="long"))]},
        {"workers": [worker(1, long_hold=None, sessions=[held(1.0)])]},
        {"workers": [worker(1, sessions=[held(float("inf"))])]},
        {"workers": [worker(1, routes={"GET /": route(1.0, 1.0, [1])})]},
        {"workers": [worker(1, sessions=[held(1.0, endpoint="of another pool")])]},
        {"workers": [worker(1, endpoints=[endpoint("a", state="a new one")])]},
        {"workers": [worker(1, endpoints=[endpoint("a", in_use=10**400)])]},
    ],
)
def test_what_is_no_state_of_ours_is_refused(change: dict[str, Any]) -> None:
    """While it is read, not while it is drawn."""
    state = {**state_of(worker(1)), **change}
    if change == {"workers": []}:  # as any program may answer
        state = change
    with pytest.raises((LookupError, TypeError, ValueError, ArithmeticError)):
        figures_of(state)

"""What `pgdbpool top` says of a server, of which each worker knows its part."""

import re

import pytest

from pgdbpool.top.figures import figures_of
from tests.unit.top_states import endpoint, lines_of, shown, state_of, worker


def test_the_connections_of_all_workers_are_one_service() -> None:
    """Counted together, by server; of the times the longest."""
    one = endpoint("db1:5432", in_use=2, idle=1, lag=0.5, round_trip=0.002)
    other = endpoint("db1:5432", in_use=1, connecting=1, lag=2.5, round_trip=0.001)
    (server,) = figures_of(
        state_of(worker(1, endpoints=[one]), worker(2, endpoints=[other]))
    ).servers

    assert (server.in_use, server.idle, server.connecting) == (3, 1, 1)
    assert (server.lag, server.round_trip) == (2.5, 0.002)
    assert server.most == 8


def test_all_that_workers_know_of_a_server_is_told() -> None:
    """How many have it in which state, and each role, with what it said."""
    down = endpoint("db1:5432", state="down", role=None, last_error="refused")
    late = endpoint("db1:5432", role="standby", lag=1.5)
    lines = lines_of(state_of(*(worker(1, endpoints=[one]) for one in (down, late))))
    (server,) = (line for line in lines if line.startswith("shop  db1:5432  "))
    assert re.split("  +", server)[2:5] == ["standby", "down (1), up (1)", "1.5 s"]
    assert "db1:5432: refused" in lines

    several = [worker(1), worker(2, endpoints=[late]), worker(3)]
    lines = lines_of(state_of(*several))
    (server,) = (line for line in lines if line.startswith("shop  db1:5432  "))
    assert re.split("  +", server)[2:5] == ["primary and standby", "up", "-"]


def test_of_what_workers_heard_of_a_server_the_first_is_told() -> None:
    """As on the page; but not what is past."""
    back = endpoint("db1:5432", last_error="long ago")
    each = [endpoint("db1:5432", state="down", last_error=said) for said in "ab"]
    state = state_of(*(worker(1, endpoints=[one]) for one in (back, *each)))
    (server,) = figures_of(state).servers
    assert server.last_error == "a"


def test_a_server_is_well_where_every_worker_has_it_up() -> None:
    """Whichever worker is asked first; it cannot be used where one says so."""
    kinds = {
        ("up", "up"): (True, False),
        ("up", "unknown"): (False, False),
        ("unknown",): (False, False),
        ("up", "down"): (False, True),
        ("unknown", "astray"): (False, True),
    }
    for states, told in kinds.items():
        for order in (states, states[::-1]):
            each = [[endpoint("db1:5432", state=state)] for state in order]
            state = state_of(*(worker(1, endpoints=one) for one in each))
            (server,) = figures_of(state).servers
            assert (server.is_well, server.is_away) == told, order


def test_a_server_of_which_nobody_knows_the_role_says_so() -> None:
    """As on the page."""
    unknown = endpoint("db1:5432", role=None, state="unknown")
    lines = lines_of(state_of(worker(1, endpoints=[unknown])))
    (server,) = (line for line in lines if line.startswith("shop  db1:5432  "))
    assert re.split("  +", server)[2:4] == ["unknown", "unknown"]


@pytest.mark.parametrize("width", [60, 80])
def test_that_workers_differ_about_a_server_is_seen_in_a_small_window(
    width: int,
) -> None:
    """Other columns are left out for it."""
    kinds = [endpoint("db1:5432", state=state) for state in ("up", "down")]
    lines = lines_of(state_of(*(worker(1, endpoints=[one]) for one in kinds)), width)
    assert any(" up (1), down (1)  " in f"{line}  " for line in lines)


def test_a_primary_has_no_lag() -> None:
    """Though it may tell one of when it was a standby."""
    both = [
        endpoint("a:1", lag=0.0, round_trip=0.002),
        endpoint("b:1", lag=1.5, role="standby"),
    ]
    lines = lines_of(state_of(worker(1, endpoints=both)))
    told = [line.split()[3:-2] for line in lines if ":1 " in line]
    assert told == [["up", "-", "2.0", "ms"], ["up", "1.5", "s", "-"]]


def test_what_a_server_said_before_it_came_back_is_past() -> None:
    """It is not shown of one that is up."""
    text = shown(state_of(worker(1, endpoints=[endpoint("a:1", last_error="no")])))
    assert "a:1: no" not in text

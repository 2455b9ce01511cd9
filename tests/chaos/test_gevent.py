"""Row 18: greenlets by the hundred, killed anywhere, and deadlines that hold."""

import json

import pytest
from psycopg2.extensions import connection

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests import scripting
from tests.chaos.patched import (
    ENOUGH,
    GREEN,
    PATCH,
    PLACES,
    RUN,
    SIZE,
    counting,
    findings,
    read,
    script,
)
from tests.observer import backends
from tests.waiting import until

pytestmark = [
    pytest.mark.no_cover,  # it cannot follow threads and greenlets at once
    pytest.mark.direct("its pools are in other processes"),
]

USE = """
import sys
from pgdbpool import ConnectionPool
pool = ConnectionPool(sys.argv[2], min_size=2, max_size=2)
"""

# What the hub is never kept from its work for, seconds.
STALL = 0.05
# For what takes a time of its own, on a machine that is busy with other things.
SLACK = 0.8
PING = 0.4


@pytest.mark.parametrize(
    "seconds",
    [3, pytest.param(12, marks=[pytest.mark.slow, pytest.mark.timeout(120)])],
)
def test_five_hundred_greenlets_are_killed_anywhere_and_nothing_is_lost(
    dsn: str,
    admin: connection,
    application_name: str,
    table: str,
    *,
    seconds: int,
) -> None:
    """No connection has two holders, none leaks, the size stands, the hub runs on."""
    with (
        counting(dsn, lambda looking: backends(looking, application_name)) as sizes,
        script("storm", dsn, table, seconds) as storm,
    ):
        at_rest = read(storm)
        states = [one.state for one in backends(admin, application_name)]
        until(lambda: len(backends(admin, application_name)) == at_rest["idle"])
        found = json.loads(storm.communicate("\n", timeout=20.0)[0])
    counts = found["counts"]
    assert found["errors"] == []
    assert found["warnings"] == [], "such as of what nobody released"
    assert found["lost"] == []
    assert found["acknowledged"] > 50 * seconds
    assert counts["kills"] > 200 * seconds
    assert counts["timeouts"] > 20 * seconds
    for place in PLACES:
        assert counts[f"killed in {place}"] >= ENOUGH, place
    # The server may be late to notice that a client has closed.
    assert max(sizes) <= 2 * SIZE
    assert found["sockets"] <= SIZE
    assert found["capacity"] == SIZE
    assert set(states) <= {"idle"}
    assert found["stall"] < STALL


def test_a_wait_in_the_line_ends_in_time(dsn: str) -> None:
    """All fifty are told so at their deadline; the hub runs on meanwhile."""
    found = findings("line", dsn)
    assert found["raised"] == ["PoolExhausted"]
    assert found["nested"] == "NestedCheckout", "one greenlet is not another"
    assert found["first"] >= 0.4
    assert found["last"] < 0.4 + SLACK
    assert found["stall"] < STALL


def test_a_halted_backend_costs_its_ping_timeout(dsn: str) -> None:
    """Row 3, with greenlets: another connection serves, the hub runs on."""
    found = findings("ping", dsn)
    assert found["raised"] == [""]
    assert PING <= found["last"] < PING + SLACK
    assert found["ticks"] > 20
    assert found["stall"] < STALL


def test_a_halted_server_halts_no_greenlet(private_server: EmbeddedPostgres) -> None:
    """All callers are answered in time, no connect is left over, all comes back."""
    postmaster = private_server.pids[0]
    found = findings("frozen", private_server.dsn(), postmaster)
    assert found["raised"] in (["PoolTimeout"], ["EndpointDown"])
    assert found["last"] < 1.5 + SLACK
    assert found["ticks"] > 300
    assert found["stall"] < STALL
    assert found["sockets"] <= SIZE
    assert found["left"] == 0
    assert found["after"]["raised"] == [""]


@pytest.mark.parametrize("kind", ["black hole", "mute"])
def test_a_connect_that_nobody_answers_ends_in_time(dsn: str, kind: str) -> None:
    """Within libpq's connect_timeout, which it leaves to the wait callback."""
    found = findings("silence", dsn, kind)
    assert found["raised"] == ["EndpointDown"]
    assert found["last"] < 6.0 + SLACK
    assert found["told"] == "no answer to a connect within 2 s"
    assert found["holds"] > 100, "another pool goes on"
    assert found["stall"] < STALL


def test_a_silent_address_gives_way_to_the_next(dsn: str) -> None:
    """The list of libpq goes on after its connect_timeout, as without gevent."""
    assert 2.0 <= findings("second", dsn)["seconds"] < 2.0 + 2 * SLACK


# What a statement, or a COMMIT, that a restart cuts off may raise.
IN_FLIGHT = {"OperationalError", "AdminShutdown", "CommitUnknown"}


def test_a_restart_fails_only_what_is_in_flight(
    private_server: EmbeddedPostgres,
) -> None:
    """Row 4, with a hundred greenlets: who waits is served afterwards."""
    with script("restart", private_server.dsn()) as working:
        assert read(working)["works"]
        private_server.restart("fast")
        found = json.loads(working.communicate(timeout=40.0)[0])
    assert found["after"] >= 500
    assert sum(found["failed"].values()) <= 5
    assert set(found["failed"]) <= IN_FLIGHT


def test_gevents_own_threads_may_use_a_pool(dsn: str) -> None:
    """Also first of all, after which greenlets have the deadlines all the same."""
    found = findings("aside", dsn)
    assert found["first"]
    assert found["done"] == 500
    assert found["raised"] == [""]
    assert PING <= found["last"] < PING + SLACK


@pytest.mark.parametrize("made", ["imported", "used"])
def test_threads_may_be_patched_after_the_pool_was(
    dsn: str, admin: connection, application_name: str, made: str
) -> None:
    """Imported or in use: greenlets share it, and what is lost is replaced."""
    use = "pool.wait()\n" if made == "used" else ""
    after = (
        "import gevent\n"
        "from tests.chaos import greenlets\n"
        "greenlets.say(greenlets.together(20, lambda: greenlets.ask(pool)))\n"
        "gevent.get_hub().threadpool.apply(sys.stdin.readline)\n"
    )
    source = USE + use + PATCH + GREEN + after
    with script(made, dsn, source=source) as process:
        try:
            assert read(process)["raised"] == [""]
            until(lambda: len(backends(admin, application_name)) == 2)
            if made == "used":  # later there is nobody who would hear of it
                replace_all(admin, application_name)
        finally:
            process.communicate("\n", timeout=20.0)
    assert process.returncode == 0


def replace_all(admin: connection, application_name: str) -> None:
    """End all sessions and wait until as many others are there, nobody asking."""
    before = {one.pid for one in backends(admin, application_name)}
    with admin.cursor() as cur:
        for pid in before:
            cur.execute("SELECT pg_terminate_backend(%s)", (pid,))

    def are_replaced() -> bool:
        now = {one.pid for one in backends(admin, application_name)}
        return len(now) == len(before) and now.isdisjoint(before)

    until(are_replaced)


def test_a_pool_that_is_observed_halts_no_greenlet(dsn: str) -> None:
    """All holds are counted, and who keeps a connection is told of, and its end."""
    found = findings("observed", dsn)
    assert found["raised"] == [""]
    assert found["uses"] == found["asked"] == 101
    held, back = found["said"]
    assert "pool 'green': a connection has been held for" in held
    assert "came back after all" in back
    assert found["stall"] < STALL


def test_a_greenlet_may_be_nothing_but_an_acquire(dsn: str) -> None:
    """``gevent.spawn(pool.getconn)``: no frame has called it."""
    assert findings("spawned", dsn) == {"read": True}


def test_a_driver_that_blocks_works_and_is_warned_of_once(dsn: str) -> None:
    """Without psycogreen, at the first use, also where there is no gunicorn."""
    done = scripting.run(PATCH + RUN, "works", dsn, is_measured=False)
    assert json.loads(done.stdout)["raised"] == [""]
    (warning,) = done.stderr.splitlines()
    assert "THE WHOLE PROCESS STOPS WHILE A QUERY RUNS" in warning
    assert "psycogreen.gevent.patch_psycopg()" in warning


def test_psycogreen_without_patched_threads_is_warned_of_once(dsn: str) -> None:
    """One greenlet that waits in line would stop all others."""
    source = GREEN + USE + "pool.wait()\npool.drain()\npool.wait()\n"
    done = scripting.run(source, "", dsn, is_measured=False)
    assert done.returncode == 0
    (warning,) = done.stderr.splitlines()
    assert "ALL GREENLETS STOP WHILE ONE WAITS FOR A CONNECTION" in warning
    assert "gevent.monkey.patch_all()" in warning

"""`pgdbpool demo --standbys 2` as a user runs it."""

import json
import re
import shutil
import signal

import pytest

from pgdbpool.demo.cluster import Cluster
from tests.demo import INITDB, address, ask, running_demo
from tests.observer import observe
from tests.waiting import until

ROLES = re.compile(r":(\d+) (primary|standby|down)")
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE starts_with(application_name, 'pgdbpool_demo_')
"""


def roles(line: str) -> dict[str, str]:
    """Return the role of each port that a line of the demo names."""
    return dict(ROLES.findall(line))


def endpoints(shop: str) -> dict[str, str]:
    """Return who is what, as the pool of one worker has it."""
    found: dict[str, str] = ask(f"{shop}/pool")["endpoints"]
    return found


def sessions(name: str) -> int:
    """Return how many connections of the shop the server of that name has."""
    host, _, port = name.rpartition(":")
    with observe(f"host={host} port={port} user=postgres") as admin:
        cur = admin.cursor()
        cur.execute(SESSIONS)
        return int(cur.fetchone()[0])


def test_a_switch_over_costs_no_request_and_no_write() -> None:
    """Under load, a change of the primary fails no request and loses no write."""
    with running_demo("--standbys", "2", "--seconds", "4", "--json") as demo:
        status = demo.wait()
        result = json.loads(demo.lines[-1])
        assert status == 0, demo.output
        assert result["failed"] == result["lost_writes"] == 0
        assert (result["restarts"], result["switch_overs"]) == (0, 1)
        assert result["requests"] > result["acknowledged_writes"] > 0


@pytest.mark.slow
def test_the_live_line_says_who_is_what() -> None:
    """There is one primary in the beginning, and another one at the end."""
    with running_demo("--standbys", "2", "--seconds", "3") as demo:
        assert demo.wait() == 0, demo.output
        named = [found for line in demo.lines if len(found := roles(line)) == 3]
    first, last = named[0], named[-1]
    for found in (first, last):
        assert sorted(found.values()) == ["primary", "standby", "standby"]
    assert first != last


@pytest.mark.slow
def test_reads_are_the_standbys_and_orders_the_primarys() -> None:
    """Before a switch-over that the user asks for, and after it."""
    with running_demo("--standbys", "1", "--workers", "1") as demo:
        shop = address(demo)
        demo.wait_for("Ctrl-C ends it")
        before = endpoints(shop)
        assert sorted(before.values()) == ["primary", "standby"]
        assert ask(f"{shop}/orders/42")["id"] == 42
        assert ask(f"{shop}/orders", customer=7, article=3, quantity=2)["id"]
        assert all(sessions(name) for name in before)
        demo.process.send_signal(signal.SIGUSR1)
        demo.wait_for("switching over to a standby")
        until(lambda: set(endpoints(shop).items()).isdisjoint(before.items()), 20.0)
        assert ask(f"{shop}/orders/42")["id"] == 42
        assert ask(f"{shop}/orders", customer=7, article=3, quantity=2)["id"]
        demo.interrupt()
        assert demo.wait() == 0, demo.output


@pytest.mark.slow
def test_a_cluster_of_the_users_is_used_and_not_disturbed(
    module_cluster: Cluster,
) -> None:
    """With a --dsn of several hosts the schema is made, and removed, on the primary."""
    with running_demo("--dsn", module_cluster.dsn(), "--seconds", "1") as demo:
        assert demo.wait() == 0, demo.output
        primary, *standbys = module_cluster.servers
        told = [f":{primary.port} primary", *(f":{s.port} standby" for s in standbys)]
        assert " · ".join(told) in demo.output
        with observe(primary.dsn()) as admin, admin.cursor() as cur:
            cur.execute("SELECT nspname FROM pg_namespace")
            assert not any("pgdbpool" in name for (name,) in cur)


@pytest.mark.parametrize(
    ("phase", "arguments"),
    [
        pytest.param("starting PostgreSQL and 2 standbys", (), id="starting"),
        pytest.param("switching over", ("--seconds", "2"), id="switching"),
    ],
)
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.slow
def test_ctrl_c_leaves_nothing(
    phase: str,
    arguments: tuple[str, ...],
    group: bool,  # noqa: FBT001 (a parameter of the test, given by name)
) -> None:
    """Ctrl-C ends every process of every server and removes every directory."""
    environment = INITDB if phase.startswith("starting") else {}
    with running_demo("--standbys", "2", *arguments, **environment) as demo:
        demo.wait_for(phase)
        demo.interrupt(group=group)
        assert demo.wait() in (130, 0), demo.output
        assert "Traceback" not in demo.output


@pytest.mark.slow
def test_a_killed_demo_leaves_no_process() -> None:
    """Even when the demo is killed, all its servers end; its log stays."""
    with running_demo("--standbys", "2", "--seconds", "30") as demo:
        demo.wait_for("database up")
        demo.interrupt(signal.SIGKILL)
        demo.wait()
        until(lambda: len(demo.leftovers()) == 1, 10.0, "every process has ended")
        (folder,) = demo.home.iterdir()
        assert folder.name.startswith("pgdbpool-demo-")
        shutil.rmtree(folder)

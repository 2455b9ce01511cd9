"""Pools that are made before a fork, with connections idle and in use."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.chaos.forking import Findings
from tests.proxy import Proxy
from tests.scripting import ROOT
from tests.tls import server_context

# Python 3.12 and newer warn of every fork beside threads: that is the subject.
OPTIONS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


def findings(scenario: str, dsn: str) -> Findings:
    """Run a scenario of `tests.chaos.forking` and return what it found."""
    script = subprocess.run(
        [sys.executable, *OPTIONS, "-m", "tests.chaos.forking", scenario, dsn],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50.0,
        check=False,
    )
    assert script.stderr == ""
    assert script.returncode == 0
    found: Findings = json.loads(script.stdout)
    return found


@pytest.fixture(params=["plain", "tls"])
def target(
    request: pytest.FixtureRequest, dsn: str, server: EmbeddedPostgres
) -> Iterator[str]:
    """Give a DSN, without and with encryption."""
    if request.param == "plain":
        yield dsn
        return
    with Proxy(server.port, tls=server_context()) as proxy:
        yield make_dsn(dsn, host=proxy.host, port=proxy.port, sslmode="require")


def assert_disjoint(found: Findings) -> None:
    """Fail unless nobody shares a session with another."""
    owners = [found["parent"], *(child["pids"] for child in found["children"])]
    pids = [pid for owned in owners for pid in owned]
    assert len(pids) == len(set(pids))


def assert_unharmed(found: Findings) -> None:
    """Fail unless the parent works on with all the sessions it had."""
    assert found["afterwards"] == {"pids": found["parent"], "errors": [""] * 4}


def test_children_never_touch_their_parents_connections(target: str) -> None:
    """Row 2: they have sessions of their own; the parent's sessions hear nothing."""
    found = findings("children", target)
    assert [child.get("error") for child in found["children"]] == [None] * 4
    assert_disjoint(found)
    assert len(found["before"]) == 4
    assert found["after"] == found["before"], "something was sent to the parent's"
    assert_unharmed(found)
    for child in found["children"]:
        assert child["size at first"] == 0
        assert child["sockets"] == ["/dev/null"] * 4


def test_a_connection_held_across_a_fork_raises_in_the_child(target: str) -> None:
    """Row 2: every use of it is an error, none reaches the parent's session."""
    found = findings("children", target)
    for child in found["children"]:
        held = child["held"]
        assert held["cursor"] == "ConnectionReleased"
        assert held["putconn"] == "ValueError"
        # The driver's own: what it is depends on the encryption.
        assert held["execute"] in ("OperationalError", "DatabaseError")
        assert held["commit"] == "ConnectionReleased"


def test_the_end_of_a_child_ends_nothing_of_its_parent(target: str) -> None:
    """Row 2: neither os._exit nor sys.exit closes its sessions."""
    found = findings("ending", target)
    assert found["statuses"] == {
        "os._exit": 0,
        "sys.exit": 0,
        "block": 0,
        "exception in a block": 1,
    }
    assert len(found["sessions"]) == 4
    assert_unharmed(found)


def test_a_child_may_leave_a_block_that_its_parent_entered(target: str) -> None:
    """Row 2: leaving neither commits nor rolls back nor releases in the parent."""
    assert findings("in_a_block", target) == {"status": 7, "rows": 1}


def test_multiprocessing_may_use_a_pool_of_its_parent(target: str) -> None:
    """Row 2: as after os.fork, everybody has sessions of his own."""
    found = findings("by_multiprocessing", target)
    assert found["exits"] == [0] * 4
    assert_disjoint(found)
    assert_unharmed(found)


def test_a_fork_in_the_middle_of_a_storm_hangs_nobody(target: str) -> None:
    """Row 2: whatever other threads were doing, child and parent go on."""
    found = findings("storm", target)
    assert found["errors"] == []
    assert not [child for child in found["children"] if "error" in child]
    assert len(found["children"]) >= 24
    assert found["holds"] >= 20
    assert found["drains"] >= 20
    assert found["requests_queued"] > 10
    assert found["connections_num"] > 20

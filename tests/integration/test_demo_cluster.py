"""The cluster: real streaming replication, switched over, failed over, rejoined."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import psycopg2
import pytest

from pgdbpool.demo import cluster as cluster_module
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.programs import EmbeddedPostgresError
from pgdbpool.demo.standby import ask, copy, rewind
from tests.clusters import is_standby, timeline
from tests.leftovers import processes
from tests.waiting import until

ROOT = Path(__file__).parents[2]
OWNER = """
import time
from pgdbpool.demo.cluster import Cluster
from tests import templates
templates.install()
cluster = Cluster()
cluster.__enter__()
for server in cluster.servers:
    print(server.directory, *server.pids, flush=True)
while True:  # a signal just before signal.pause() would not be heard
    time.sleep(0.05)
"""
COUNT = "SELECT count(*) FROM written"
FOLLOWERS = """
    SELECT array_agg(application_name) FROM pg_stat_replication
    WHERE state = 'streaming'
"""


@pytest.fixture
def cluster(breakable: Cluster) -> Cluster:
    """Give a cluster to one test, with an empty table `written`."""
    ask(breakable.primary, "CREATE TABLE IF NOT EXISTS written (id int)")
    ask(breakable.primary, "TRUNCATE written")
    return breakable


def write(server: EmbeddedPostgres, number: int) -> None:
    """Write a row."""
    ask(server, "INSERT INTO written VALUES (%s)", number)


def rows(cluster: Cluster) -> list[int]:
    """Return how many rows each server has, once all have replayed."""
    cluster.wait_until_replayed()
    return [ask(server, COUNT) for server in cluster.servers]


def test_what_the_primary_writes_the_standbys_show(cluster: Cluster) -> None:
    """Every standby streams from it, by its own address, and refuses writes."""
    write(cluster.primary, 1)
    assert rows(cluster) == [1, 1, 1]
    names = {f"127.0.0.1:{server.port}" for server in cluster.standbys}
    assert set(ask(cluster.primary, FOLLOWERS)) == names
    for server in cluster.standbys:
        assert is_standby(server)
        with pytest.raises(EmbeddedPostgresError, match="read-only"):
            write(server, 2)


def test_its_dsn_names_all_servers(cluster: Cluster) -> None:
    """Libpq finds the primary among them, wherever in the line it stands."""
    conn = psycopg2.connect(cluster.dsn(target_session_attrs="read-write"))
    assert conn.info.port == cluster.primary.port
    conn.close()


def test_a_switch_over_changes_the_roles_and_keeps_the_data(cluster: Cluster) -> None:
    """The old primary follows a promoted standby, and so does the other one."""
    old, count = cluster.primary, timeline(cluster.primary)
    write(old, 1)
    cluster.switch_over()
    assert cluster.primary is not old
    assert old in cluster.standbys
    assert not is_standby(cluster.primary)
    assert all(map(is_standby, cluster.standbys))
    assert timeline(cluster.primary) == count + 1
    write(cluster.primary, 2)
    assert rows(cluster) == [2, 2, 2]


def test_a_switch_over_can_be_repeated(cluster: Cluster) -> None:
    """Every server can take every role, again and again."""
    for number in range(4):
        write(cluster.primary, number)
        cluster.switch_over()
    assert rows(cluster) == [4, 4, 4]


def test_after_a_kill_a_standby_takes_over_and_the_dead_one_rejoins(
    cluster: Cluster,
) -> None:
    """The dead primary is nobody's standby until it has rejoined."""
    old, count = cluster.primary, timeline(cluster.primary)
    write(old, 1)
    cluster.wait_until_replayed()
    old.kill()
    cluster.fail_over()
    assert cluster.primary is not old
    assert old not in cluster.standbys
    assert len(cluster.standbys) == 1
    assert timeline(cluster.primary) > count
    write(cluster.primary, 2)
    cluster.rejoin(old)
    assert is_standby(old)
    assert rows(cluster) == [2, 2, 2]


def test_a_primary_that_only_seems_dead_is_killed(cluster: Cluster) -> None:
    """There is never a second one that takes writes."""
    old = cluster.primary
    old.freeze()
    cluster.fail_over()
    assert not old.is_running
    write(cluster.primary, 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", [rewind, copy])
def test_what_only_the_dead_one_has_is_gone_when_it_has_rejoined(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, way: object
) -> None:
    """By pg_rewind; by a new copy where that fails."""

    def fail(*_: object) -> None:
        raise EmbeddedPostgresError("not this way")

    for other in {rewind, copy} - {way}:
        monkeypatch.setattr(cluster_module, other.__name__, fail)
    old = cluster.primary
    old.kill()
    cluster.fail_over()
    old.start()
    write(old, 1)
    assert (ask(old, COUNT), ask(cluster.primary, COUNT)) == (1, 0)
    old.kill()
    cluster.rejoin(old)
    assert rows(cluster) == [0, 0, 0]


def test_a_standby_that_was_down_follows_whom_it_finds(cluster: Cluster) -> None:
    """Started again after a switch-over, it streams from the new primary."""
    away = cluster.standbys[0]
    away.kill()
    cluster.switch_over()
    write(cluster.primary, 1)
    away.start()
    assert rows(cluster) == [1, 1, 1]


def test_without_a_standby_nothing_is_stopped(cluster: Cluster) -> None:
    """What cannot be done is refused before the primary is touched."""
    for server in cluster.standbys:
        server.stop()
    for change in (cluster.switch_over, cluster.fail_over):
        with pytest.raises(EmbeddedPostgresError, match="no standby runs"):
            change()
    assert cluster.primary.is_running


def test_who_has_not_left_cannot_rejoin(cluster: Cluster) -> None:
    """Neither the primary nor a standby that runs."""
    for server in cluster.servers:
        with pytest.raises(EmbeddedPostgresError, match="has not left"):
            cluster.rejoin(server)


def test_a_dead_primary_is_no_matter_for_a_switch_over(cluster: Cluster) -> None:
    """It says so instead of losing what the primary did not send."""
    cluster.primary.kill()
    with pytest.raises(EmbeddedPostgresError, match="nothing to switch from"):
        cluster.switch_over()


def test_synchronous_writes_that_were_acknowledged_survive_the_primary() -> None:
    """Whatever moment the primary is killed at, and by whichever server."""
    with Cluster(synchronous=True) as cluster:
        ask(cluster.primary, "CREATE TABLE written (id int)")
        for _ in range(2):
            acknowledged = _write_until_killed(cluster.primary)
            old = cluster.primary
            cluster.fail_over()
            there = ask(cluster.primary, "SELECT array_agg(id) FROM written")
            assert not set(acknowledged) - set(there)
            cluster.rejoin(old)


def _write_until_killed(primary: EmbeddedPostgres) -> list[int]:
    """Write as fast as it goes, kill the server, return what was acknowledged."""
    acknowledged: list[int] = []
    conn = psycopg2.connect(primary.dsn())
    conn.autocommit = True

    def write_on() -> None:
        with conn.cursor() as cur:
            cur.execute("SELECT coalesce(max(id), 0) FROM written")
            (number,) = cur.fetchone()
            while True:
                number += 1
                cur.execute("INSERT INTO written VALUES (%s)", (number,))
                acknowledged.append(number)

    def writing() -> None:
        with pytest.raises(psycopg2.OperationalError):
            write_on()

    thread = threading.Thread(target=writing)
    thread.start()
    until(lambda: len(acknowledged) > 100, message="writing is under way")
    primary.kill()
    thread.join(10)
    conn.close()
    return acknowledged


@pytest.mark.slow
def test_close_leaves_no_process_and_no_directory() -> None:
    """Whatever state the servers are in, nothing remains of them."""
    before = processes()
    with Cluster() as cluster:
        directories = [server.directory for server in cluster.servers]
        cluster.standbys[0].freeze()
        cluster.primary.kill()
    assert not any(directory.exists() for directory in directories if directory)
    assert processes() == before
    cluster.close()


def test_a_failed_start_leaves_nothing_either() -> None:
    """When one server does not start, those before it end."""
    before = processes()
    cluster = Cluster(settings={"max_connections": "many"})
    with pytest.raises(EmbeddedPostgresError, match="max_connections"):
        cluster.__enter__()
    assert processes() == before
    assert [server.directory for server in cluster.servers] == [None] * 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_servers_end_with_their_owner(number: signal.Signals) -> None:
    """However the owner ends, all servers and their directories go too."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        lines = [owner.stdout.readline().split() for _ in range(3)]
        owner.send_signal(number)
        owner.wait()
    pids = [int(pid) for _, *pids in lines for pid in pids]
    directories = [Path(directory) for directory, *_ in lines]
    assert len(pids) > 20
    until(lambda: not any(map(_is_alive, pids)), message="all processes have ended")
    until(lambda: not any(map(Path.exists, directories)), message="nothing is left")


@pytest.mark.slow
def test_an_older_version_can_do_it_too() -> None:
    """PostgreSQL 16 switches and fails over as 18 does; one standby is enough."""
    with Cluster(1, version=16) as cluster:
        first, second = cluster.servers
        cluster.switch_over()
        assert cluster.primary is second
        second.kill()
        cluster.fail_over()
        assert cluster.primary is first
        cluster.rejoin(second)
        assert cluster.standbys == [second]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""The life of a pool of several servers: sizes, the line, care, fork, close."""

import functools
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import (
    ConnectionPool,
    NestedCheckout,
    PoolClosed,
    PoolExhausted,
)
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.standby import ask as ask_server
from tests.asking import ask, pid, terminate
from tests.chaos.forking import fork
from tests.endpoints import is_known, port, ports, used
from tests.observer import backends, observe
from tests.proxy import Proxy
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import until

READ_ONLY = "SHOW transaction_read_only"
IN_RECOVERY = "SELECT pg_is_in_recovery()"


@pytest.fixture(scope="module")
def cluster(module_cluster: Cluster) -> Cluster:
    """Give a primary and two standbys, not to be broken."""
    ask_server(module_cluster.primary, "CREATE TABLE written (id int)")
    module_cluster.wait_until_replayed()
    return module_cluster


def test_wait_blocks_until_connections_are_open(cluster: Cluster) -> None:
    """At least min_size; and the servers that are there fill up by themselves."""
    with ConnectionPool(cluster.dsn(), min_size=2, max_size=4) as pool:
        pool.wait(5.0)
        assert pool.get_stats()["pool_size"] >= 2
        until(lambda: pool.get_stats()["pool_available"] == 6)
        assert [one.idle for one in pool.endpoints] == [2, 2, 2]
        stats = pool.get_stats()
        assert (stats["pool_min"], stats["pool_max"]) == (6, 12)
        assert_at_rest(pool)


def test_each_server_has_max_size_and_no_more(cluster: Cluster) -> None:
    """Readers on two standbys, then nobody but who waits; writers have their own."""
    with used(ConnectionPool(cluster.dsn(), max_size=2, timeout=0.3)) as pool:
        held = [pool.getconn(read_only=True) for _ in range(4)]
        with pytest.raises(PoolExhausted, match="4 of 4 in use"):
            pool.getconn(read_only=True)
        held += [pool.getconn() for _ in range(2)]
        with pytest.raises(PoolExhausted, match="2 of 2 in use"):
            pool.getconn()
        assert_sound(pool)
        for conn in held:
            pool.putconn(conn)
        assert_at_rest(pool)


def test_who_holds_all_that_may_serve_and_wants_another_is_told(
    cluster: Cluster,
) -> None:
    """The primary is full and its holder asks; the standbys are no help."""
    with (
        used(ConnectionPool(cluster.dsn(), max_size=1)) as pool,
        pool.connection(),
        pytest.raises(NestedCheckout),
        pool.connection(),
    ):
        pass
    with used(ConnectionPool(cluster.dsn(), max_size=1)) as pool:
        with pool.connection(), pool.connection(read_only=True) as conn:
            assert conn.info.port in ports(cluster.standbys)
        assert_at_rest(pool)


def test_a_reader_does_not_stand_in_a_writers_way(cluster: Cluster) -> None:
    """A line in which the first waits for the primary lets the second go on."""
    with used(ConnectionPool(cluster.dsn(), max_size=1)) as pool:
        writing = pool.getconn()
        reading = [pool.getconn(read_only=True) for _ in range(2)]
        with ThreadPoolExecutor(2) as executor:
            writer = executor.submit(pool.getconn)
            until(lambda: pool.get_stats()["requests_waiting"] == 1)
            reader = executor.submit(pool.getconn, read_only=True)
            until(lambda: pool.get_stats()["requests_waiting"] == 2)
            pool.putconn(reading.pop())
            reading.append(reader.result(2.0))
            assert not writer.done()
            assert_sound(pool)
            pool.putconn(writing)
            writing = writer.result(2.0)
        assert writing.info.port == cluster.primary.port
        for conn in (writing, *reading):
            pool.putconn(conn)
        assert_at_rest(pool)


def test_close_ends_every_session_of_every_server(
    cluster: Cluster, application_name: str
) -> None:
    """And refuses everybody."""
    dsn = cluster.dsn(application_name=application_name)
    pool = used(ConnectionPool(dsn, min_size=2))
    until(lambda: pool.get_stats()["pool_available"] == 6)
    pool.close()
    with pytest.raises(PoolClosed):
        pool.getconn(read_only=True)
    for server in cluster.servers:
        with observe(server.dsn()) as admin:
            until(lambda a=admin: not backends(a, application_name))
    assert_at_rest(pool)


def test_drain_replaces_the_connections_of_every_server(
    cluster: Cluster, application_name: str
) -> None:
    """Idle ones at once, one in use at its release."""
    dsn = cluster.dsn(application_name=application_name)

    def sessions() -> dict[int, set[int]]:
        found = {}
        for server in cluster.servers:
            with observe(server.dsn()) as admin:
                found[server.port] = {b.pid for b in backends(admin, application_name)}
        return found

    with used(ConnectionPool(dsn, min_size=2, max_size=2)) as pool:
        until(lambda: pool.get_stats()["pool_available"] == 6)
        before = sessions()
        with pool.connection() as conn:
            pool.drain()
            assert ask(conn, "SELECT 1") == 1
        until(lambda: pool.get_stats()["pool_available"] == 6)
        until(lambda: all(len(pids) == 2 for pids in sessions().values()))
        after = sessions()
        for one in before:
            assert not before[one] & after[one]
        assert pool.get_stats()["connections_lost"] == 0
        assert port(pool) == cluster.primary.port
        assert_at_rest(pool)


def test_resize_is_for_every_server(cluster: Cluster) -> None:
    """Up, down, and what is in use goes at its release."""
    with used(ConnectionPool(cluster.dsn(), max_size=1)) as pool:
        pool.resize(3, 3)
        until(lambda: [one.idle for one in pool.endpoints] == [3, 3, 3])
        held = [pool.getconn() for _ in range(3)]
        pool.resize(1, 1)
        assert [one.idle for one in pool.endpoints] == [0, 1, 1]
        for conn in held:
            pool.putconn(conn)
        until(lambda: [one.idle for one in pool.endpoints] == [1, 1, 1])
        assert_at_rest(pool)


def test_check_replaces_what_died_on_any_server(cluster: Cluster) -> None:
    """And leaves the others as they are."""
    with used(ConnectionPool(cluster.dsn(), min_size=2, max_size=2)) as pool:
        until(lambda: pool.get_stats()["pool_available"] == 6)
        pool.check()
        assert pool.get_stats()["connections_num"] == 6
        victim = cluster.standbys[0]
        with pool.connection(read_only=True) as conn:
            backend, where = pid(conn), conn.info.port
        victim = next(one for one in cluster.servers if one.port == where)
        with observe(victim.dsn()) as admin:
            terminate(admin, backend)
        pool.check()
        until(lambda: pool.get_stats()["pool_available"] == 6)
        assert pool.get_stats()["connections_lost"] == 1
        assert port(pool) == cluster.primary.port
        assert_at_rest(pool)


def test_a_forked_child_finds_its_servers_anew(
    cluster: Cluster, application_name: str
) -> None:
    """With sessions of its own; the parent's go on."""
    dsn = cluster.dsn(application_name=application_name)
    with used(ConnectionPool(dsn)) as pool:
        with pool.connection() as conn, pool.connection(read_only=True) as other:
            mine = {pid(conn), pid(other)}

        def child() -> dict[str, Any]:
            roles = [one.role for one in pool.endpoints]
            with pool.connection() as conn:
                backends_ = [pid(conn)]
                writes = ask(conn, READ_ONLY) == "off"
            until(lambda: is_known(pool))
            with pool.connection(read_only=True) as conn:
                backends_.append(pid(conn))
                reads = bool(ask(conn, IN_RECOVERY))
            return {
                "at first": [str(role) for role in roles],
                "pids": backends_,
                "writes": writes,
                "reads": reads,
            }

        found = quietly(functools.partial(fork, child))()
        assert found["at first"] == ["None"] * 3
        assert (found["writes"], found["reads"]) == (True, True)
        assert not mine & set(found["pids"])
        assert port(pool) == cluster.primary.port
        assert port(pool, read_only=True) in ports(cluster.standbys)
        assert pool.get_stats()["connections_lost"] == 0
        assert_at_rest(pool)


def quietly(call: Any) -> Any:  # noqa: ANN401 - hands on what it is given
    """Call what forks beside threads, of which Python 3.12 warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return call()


# Under load.


def test_one_standby_that_is_down_costs_the_others_nothing(
    breakable: Cluster,
) -> None:
    """Past grace, whoever waits in line starts no upkeep of his own."""
    with used(ConnectionPool(breakable.dsn(), max_size=1, grace=0.2)) as pool:
        breakable.standbys[0].stop()
        until(lambda: pool.endpoints[1].state == "down")
        gone = time.monotonic() + 0.3
        until(lambda: time.monotonic() > gone)  # grace is over
        visits = 0
        keep_up = pool._roster.upkeep

        def counted(now: float) -> float:
            nonlocal visits
            visits += 1
            return keep_up(now)

        pool._roster.upkeep = counted  # type: ignore[method-assign]
        over = threading.Event()

        def write() -> int:
            number = 0
            while not over.is_set():
                assert port(pool) == breakable.primary.port
                number += 1
            return number

        with ThreadPoolExecutor(4) as executor:
            workers = [executor.submit(write) for _ in range(4)]
            until(lambda: pool.get_stats()["requests_queued"] > 1000, 20.0)
            over.set()
            assert sum(worker.result(5.0) for worker in workers) > 1000
        assert visits < 200
        assert_at_rest(pool)


def test_a_probe_between_two_writers_who_wait_costs_no_connection(
    cluster: Cluster,
) -> None:
    """A COMMIT that brought the next one's ping is probed all the same."""
    with used(ConnectionPool(cluster.dsn(), max_size=1)) as pool:
        over = threading.Event()

        def write() -> None:
            while not over.is_set():
                with pool.connection() as conn:
                    ask(conn, "INSERT INTO written VALUES (1)")

        endpoint = pool._roster.endpoints[0]
        with ThreadPoolExecutor(4) as executor:
            workers = [executor.submit(write) for _ in range(4)]
            position = endpoint.standing.position
            for _ in range(3):
                until(lambda p=position: endpoint.standing.position != p)
                position = endpoint.standing.position
            over.set()
            for worker in workers:
                worker.result(5.0)
        stats = pool.get_stats()
        assert stats["requests_queued"] > 100
        assert (stats["connections_lost"], stats["connections_num"]) == (0, 3)
        assert_at_rest(pool)


def test_a_standby_that_is_full_goes_on_with_what_it_has(breakable: Cluster) -> None:
    """Refused a login, it is not down, and no primary is lost by it."""
    ask_server(breakable.primary, "CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    breakable.wait_until_replayed()
    with used(ConnectionPool(breakable.dsn(user="few"), max_size=4)) as pool:
        served: Counter[int] = Counter()
        over = threading.Event()

        def work(*, read_only: bool) -> None:
            while not over.is_set():
                assert pool._roster.monitor.primary is not None
                with pool.connection(read_only=read_only) as conn:
                    ask(conn, "SELECT pg_sleep(0.001)")
                    if read_only:
                        served[conn.info.port] += 1

        with ThreadPoolExecutor(12) as executor:
            workers = [
                executor.submit(work, read_only=number % 3 > 0) for number in range(12)
            ]
            until(lambda: pool.get_stats()["connections_errors"] > 3)
            until(lambda: sum(served.values()) > 500)
            over.set()
            for worker in workers:
                worker.result(5.0)
        total = sum(served.values())
        assert served[breakable.primary.port] < total / 20, served
        assert_at_rest(pool)


def test_a_connection_lost_at_its_first_question_is_a_failed_connect(
    cluster: Cluster,
) -> None:
    """It is tried again at once, and not when a connect would take too long."""
    with Proxy(cluster.primary.port) as proxy:
        proxy.cut_before(b"pg_last_wal_replay_lsn")
        places = ",".join(map(str, (proxy.port, *ports(cluster.standbys))))
        with ConnectionPool(make_dsn(cluster.dsn(), port=places)) as pool:
            began = time.monotonic()
            assert port(pool) == proxy.port
            assert time.monotonic() - began < 2.0
            assert proxy.cuts == 1
            assert pool.get_stats()["connections_errors"] == 1
            assert_at_rest(pool)

"""A pool of several servers: who is found to be what, and who serves whom."""

import itertools
import re
import time
from typing import Any

import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import make_dsn

from pgdbpool import (
    ConnectionPool,
    EndpointDown,
    NoPrimary,
    NoStandby,
    SettingsError,
)
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST, free_port
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.endpoint.standing import Role
from tests.asking import ask, pid
from tests.clusters import timeline
from tests.endpoints import dsn_of, name, port, ports, used
from tests.soundness import assert_at_rest
from tests.waiting import until

READ_ONLY = "SHOW transaction_read_only"
IN_RECOVERY = "SELECT pg_is_in_recovery()"


@pytest.fixture(scope="module")
def cluster(module_cluster: Cluster) -> Cluster:
    """Give a primary and two standbys, not to be broken."""
    ask_server(module_cluster.primary, "CREATE TABLE written (id int)")
    module_cluster.wait_until_replayed()
    return module_cluster


# Discovery.


@pytest.mark.parametrize("turn", list(itertools.permutations(range(3))))
def test_roles_are_found_whatever_the_order(
    cluster: Cluster, turn: tuple[int, int, int]
) -> None:
    """One DSN with several hosts: none is the primary by its place."""
    servers = [cluster.servers[i] for i in turn]
    with ConnectionPool(dsn_of(*servers)) as pool:
        assert port(pool) == cluster.primary.port
        used(pool)
        for _ in range(5):
            assert port(pool) == cluster.primary.port
            assert port(pool, read_only=True) in ports(cluster.standbys)
        found = {one.name: one.role for one in pool.endpoints}
        assert list(found) == [name(server) for server in servers]
        assert found[name(cluster.primary)] is Role.PRIMARY
        assert {found[name(one)] for one in cluster.standbys} == {Role.STANDBY}
        assert_at_rest(pool)


def by_list(cluster: Cluster) -> ConnectionPool:
    """Make a pool of a list of DSNs."""
    return ConnectionPool([server.dsn() for server in cluster.servers])


def by_endpoints(cluster: Cluster) -> ConnectionPool:
    """Make a pool of what servers share and where they are."""
    places = [f"host={HOST} port={server.port}" for server in cluster.servers]
    return ConnectionPool("dbname=postgres user=postgres", endpoints=places)


def by_url(cluster: Cluster) -> ConnectionPool:
    """Make a pool of a URL."""
    places = ",".join(name(server) for server in cluster.servers)
    return ConnectionPool(f"postgresql://postgres@{places}/postgres")


@pytest.mark.parametrize("make", [by_list, by_endpoints, by_url])
def test_servers_are_named_in_each_of_the_ways(cluster: Cluster, make: Any) -> None:  # noqa: ANN401
    """All are the same pool."""
    with make(cluster) as pool:
        assert port(pool) == cluster.primary.port
        used(pool)
        assert port(pool, read_only=True) in ports(cluster.standbys)
        assert [one.name for one in pool.endpoints] == [
            name(server) for server in cluster.servers
        ]
        assert_at_rest(pool)


def test_a_server_that_is_not_there_keeps_nobody_waiting(cluster: Cluster) -> None:
    """Named first, and its port closed."""
    ports_ = f"{free_port()},{cluster.primary.port}"
    dsn = make_dsn(dsn_of(*cluster.servers[:2]), port=ports_)
    with ConnectionPool(dsn) as pool:
        began = time.monotonic()
        assert port(pool) == cluster.primary.port
        assert port(pool, read_only=True) == cluster.primary.port
        assert time.monotonic() - began < 1.0
        down, up = pool.endpoints
        assert (down.state, down.role) == ("down", None)
        assert "refused" in str(down.last_error)
        assert (up.state, up.role) == ("up", Role.PRIMARY)


def test_what_the_endpoints_property_tells(cluster: Cluster) -> None:
    """Facts of each server, in the user's order."""
    dsn = dsn_of(*cluster.servers)
    with ConnectionPool(dsn, open=False) as pool:
        pass
    pool = ConnectionPool(dsn, open=False, max_size=3)
    assert {(one.state, one.role, one.lag) for one in pool.endpoints} == {
        ("unknown", None, None)
    }
    with used(pool), pool.connection():
        primary, *standbys = pool.endpoints
        assert primary.timeline == timeline(cluster.primary)
        assert (primary.in_use, primary.lag, primary.lag_bytes) == (1, 0.0, 0)
        for one in standbys:
            assert (one.state, one.role, one.in_use) == ("up", Role.STANDBY, 0)
            assert one.lag is not None
            assert one.lag < 5.0
            assert one.timeline is None
        for one in pool.endpoints:
            assert one.round_trip is not None
            assert 0.0 < one.round_trip < 1.0
            assert (one.max_size, one.weight, one.last_error) == (3, 1.0, None)
            assert one.connecting == 0


# Reads and writes.

KINDS = [
    {},
    {"autocommit": True},
    {"reset": "session"},
    {"autocommit": True, "reset": "session"},
    {"ping_idle": 60.0},
    {"ping_idle": 60.0, "autocommit": True},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_reads_are_read_only_and_on_standbys_writes_on_the_primary(
    cluster: Cluster, kind: dict[str, Any]
) -> None:
    """By block, by getconn, by acquire."""
    with ConnectionPool(cluster.dsn(), **kind) as pool:
        used(pool)
        for _ in range(3):
            with pool.connection() as conn:
                assert ask(conn, IN_RECOVERY) is False
                assert ask(conn, READ_ONLY) == "off"
                ask(conn, "INSERT INTO written VALUES (1)")
            with pool.connection(read_only=True) as conn:
                assert ask(conn, IN_RECOVERY) is True
                assert ask(conn, READ_ONLY) == "on"
        conn = pool.getconn(read_only=True)
        assert ask(conn, IN_RECOVERY) is True
        pool.putconn(conn)
        conn = pool.acquire(read_only=True, request="GET /")
        assert ask(conn, IN_RECOVERY) is True
        assert conn.hold is not None
        pool.release(conn, conn.hold)
        assert_at_rest(pool)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_access_mode_of_a_hold_does_not_reach_the_next(
    cluster: Cluster, kind: dict[str, Any]
) -> None:
    """One session of the primary reads, writes, reads."""
    dsn = dsn_of(cluster.primary, connect_timeout=2)
    with ConnectionPool([dsn], max_size=1, **kind) as pool:
        pids = set()
        for is_reading in (True, False, False, True, True, False):
            for _ in range(2):
                with pool.connection(read_only=is_reading) as conn:
                    pids.add(pid(conn))
                    assert ask(conn, READ_ONLY) == ("on" if is_reading else "off")
                    if is_reading:
                        with pytest.raises(sqlstate.ReadOnlySqlTransaction):
                            ask(conn, "INSERT INTO written VALUES (1)")
                        conn.rollback()
                        assert ask(conn, READ_ONLY) == "on"
                    else:
                        ask(conn, "INSERT INTO written VALUES (1)")
        assert len(pids) == 1
        assert_at_rest(pool)


def test_what_a_reader_sets_does_not_reach_the_next(cluster: Cluster) -> None:
    """Who takes the READ ONLY off has it off for this hold alone."""
    with ConnectionPool(cluster.primary.dsn(), max_size=1) as pool:
        with pool.connection(read_only=True) as conn:
            conn.readonly = False
            ask(conn, "INSERT INTO written VALUES (1)")
        with pool.connection(read_only=True) as conn:
            assert ask(conn, READ_ONLY) == "on"
        with pool.connection() as conn:
            conn.readonly = True
            assert ask(conn, READ_ONLY) == "on"
        with pool.connection() as conn:
            assert ask(conn, READ_ONLY) == "off"
            assert conn.readonly is None


def test_without_a_standby_the_primary_reads_unless_that_is_refused(
    breakable: Cluster,
) -> None:
    """strict=True says which server is what, and since when."""
    with ConnectionPool(breakable.dsn(), timeout=1.0) as pool:
        used(pool)
        assert port(pool, read_only=True, strict=True) in ports(breakable.standbys)
        for server in breakable.standbys:
            server.stop()
        assert port(pool, read_only=True) == breakable.primary.port
        began = time.monotonic()
        with pytest.raises(NoStandby) as caught:
            pool.getconn(read_only=True, strict=True)
        assert time.monotonic() - began < 2.0
        told = str(caught.value)
        since = r"has been the primary for \d+\.\d s"
        assert re.search(f"{name(breakable.primary)} {since}", told), told
        for server in breakable.standbys:
            assert f"{name(server)} said " in told
        assert "do without strict=True" in told
        for server in breakable.standbys:
            server.start()
        until(lambda: is_served(pool, read_only=True, strict=True), 15.0)
        assert_at_rest(pool)


def is_served(pool: ConnectionPool, **how: Any) -> bool:  # noqa: ANN401 - as `port`
    """Return whether a block is served."""
    try:
        return port(pool, **how) > 0
    except (NoStandby, NoPrimary, EndpointDown):
        return False


@pytest.mark.parametrize(
    ("attributes", "is_primary"),
    [
        ("any", {True, False}),
        ("standby", {False}),
        ("read-only", {False}),
        ("prefer-standby", {False}),
        ("primary", {True}),
        ("read-write", {True}),
    ],
)
def test_the_dsn_says_what_a_plain_connection_gets(
    cluster: Cluster, attributes: str, is_primary: set[bool]
) -> None:
    """target_session_attrs keeps its meaning; read_only=True goes by its own."""
    dsn = cluster.dsn(target_session_attrs=attributes)
    with ConnectionPool(dsn, balance="round_robin") as pool:
        used(pool)
        served = {port(pool) for _ in range(30)}
        assert {one == cluster.primary.port for one in served} == is_primary
        if False in is_primary:
            assert ports(cluster.standbys) <= served
        assert port(pool, read_only=True) in ports(cluster.standbys)
        assert_at_rest(pool)


def test_an_unknown_target_is_refused(cluster: Cluster) -> None:
    """At once, as libpq would at each connect."""
    with pytest.raises(SettingsError, match="target_session_attrs: libpq has no"):
        ConnectionPool(cluster.dsn(target_session_attrs="nearest"))


def test_two_standbys_are_no_primary_and_the_error_says_what_they_are(
    cluster: Cluster,
) -> None:
    """NoPrimary: each with its role, since when, how late; reads are served."""
    dsn = dsn_of(*cluster.standbys)
    with ConnectionPool(dsn, timeout=0.6, grace=0.3, max_lag=None) as pool:
        for _ in range(2):
            with pytest.raises(NoPrimary) as caught:
                pool.getconn()
        told = str(caught.value)
        for server in cluster.standbys:
            assert re.search(
                rf"{name(server)} has been a standby for \d+\.\d s", told
            ), told
        assert "Promote a standby, or add the server that is the primary." in told
        assert port(pool, read_only=True) in ports(cluster.standbys)
        assert_at_rest(pool)

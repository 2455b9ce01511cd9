"""A look at a pool's health finds its servers, and costs other pools little."""

import contextlib
import math
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg2
import pytest

from pgdbpool import ConnectionPool, NoPrimary, SharedLimit, sharing
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, free_port
from tests.asking import ask, held
from tests.soundness import assert_at_rest
from tests.waiting import until

MANY = 12


@pytest.fixture
def _nobody_seeks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each pool the place of another's connection once at most."""
    monkeypatch.setattr(sharing, "SEEK_AGAIN", 1000.0)
    monkeypatch.setattr(sharing, "SEEK_SOON", 0.0)


@pytest.fixture
def busy(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool that has all six places of its limit."""
    with ConnectionPool(dsn, shared_limit=SharedLimit(6)) as pool:
        fill(pool, 6)
        yield pool
        assert_at_rest(pool)


def fill(pool: ConnectionPool, number: int) -> None:
    """Have so many connections in use together, and then idle."""
    with ExitStack() as holds:
        for _ in range(number):
            ask(holds.enter_context(pool.connection()), "SELECT 1")


def beside(pool: ConnectionPool, dsn: str) -> ConnectionPool:
    """Return a pool with the limit of another."""
    return ConnectionPool(dsn, shared_limit=pool.settings.shared_limit)


def opened(pool: ConnectionPool) -> int:
    """Return how often a pool has connected."""
    return pool.get_stats()["connections_num"]


@pytest.mark.usefixtures("_nobody_seeks_twice")
def test_one_that_was_never_used_is_met_though_the_limit_is_full(
    busy: ConnectionPool, dsn: str
) -> None:
    """And stays known after its place has gone back."""
    with beside(busy, dsn) as new:
        until(lambda: new.health().write_ready)
        for _ in range(50):
            assert new.health().write_ready
            fill(busy, 6)
        assert (opened(new), opened(busy)) == (1, 6 + 1)


@pytest.mark.usefixtures("_nobody_seeks_twice")
def test_as_many_as_there_are_become_ready_one_after_the_other(dsn: str) -> None:
    """Who found no place to be had has not had its turn."""
    limit = SharedLimit(3)
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ConnectionPool(dsn, shared_limit=limit))
            for _ in range(MANY)
        ]
        ready: set[ConnectionPool] = set()

        def are_all_ready() -> bool:
            ready.update(pool for pool in pools if pool.health().write_ready)
            return len(ready) == MANY

        until(are_all_ready, 20.0)
        assert limit.size <= 3


@pytest.mark.direct("goes to a server besides")
@pytest.mark.usefixtures("_nobody_seeks_twice")
def test_one_that_is_down_has_a_place_seldom_until_it_is_back(
    busy: ConnectionPool, private_server: EmbeddedPostgres
) -> None:
    """It is tried at any time where one is free, else now and then."""
    with beside(busy, private_server.dsn(dbname="late")) as late:
        (endpoint,) = late._roster.endpoints
        until(lambda: not late.health().read_ready and endpoint.health.failures)
        fill(busy, 6)
        for _ in range(50):
            endpoint.health.retry_at = 0.0
            assert not late.health().read_ready
        assert (opened(late), opened(busy)) == (1, 6 + 1)
        with closing(psycopg2.connect(private_server.dsn())) as admin:
            admin.autocommit = True
            ask(admin, "CREATE DATABASE late")
        late._roster._seek_at -= 2000.0  # type: ignore[attr-defined]
        endpoint.health.retry_at = 0.0
        until(lambda: late.health().write_ready)
        assert opened(busy) == 6 + 1


@pytest.mark.usefixtures("_nobody_seeks_twice")
def test_of_several_that_are_down_one_is_tried(busy: ConnectionPool) -> None:
    """In the place of one connection."""
    ports = ",".join(str(free_port()) for _ in range(3))
    with beside(busy, f"host={HOST},{HOST},{HOST} port={ports}") as down:
        down.health()
        until(lambda: any(e.last_error for e in down.endpoints))
        assert (opened(down), busy.get_stats()["pool_size"]) == (1, 5)


def test_a_look_leaves_no_want_behind(busy: ConnectionPool, dsn: str) -> None:
    """Where all are in use it is made again, by the next."""
    limit = busy.settings.shared_limit
    assert limit is not None
    with beside(busy, dsn) as new, ExitStack() as holds:
        conns = [holds.enter_context(busy.connection()) for _ in range(6)]
        for _ in range(20):
            assert not new.health().read_ready
        assert not limit.is_wanted()
        assert len(conns) == busy.get_stats()["pool_size"]
    assert busy.get_stats()["pool_available"] == 6


def test_a_closed_one_is_met_no_more(busy: ConnectionPool, dsn: str) -> None:
    """Nor does it keep anything from others."""
    new = beside(busy, dsn)
    with ExitStack() as holds:
        for _ in range(6):
            holds.enter_context(busy.connection())
        assert not new.health().read_ready
        new.close()
    assert not new.health().read_ready
    busy.retire_idle()
    new._roster._has_place = True  # type: ignore[attr-defined]
    new.use_room(math.inf)  # which comes when it was closed meanwhile
    assert (opened(new), opened(busy)) == (0, 6)


@pytest.mark.direct("its servers end sessions")
@pytest.mark.parametrize("is_sharing", [False, True])
@pytest.mark.parametrize("asks", ["health", "callers"])
def test_a_primary_that_lost_its_last_session_is_found_again(
    module_cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    asks: str,
    *,
    is_sharing: bool,
) -> None:
    """Nothing is kept open that could tell of it, and nobody waits in line."""
    monkeypatch.setattr(sharing, "SEEK_AGAIN", 0.1)
    # With a limit min_size is 0 already.
    settings = {"shared_limit": SharedLimit(1)} if is_sharing else {"min_size": 0}
    # What is named last is tried last, unless each has its turn.
    servers = [*module_cluster.standbys, module_cluster.primary]
    ports = ",".join(str(server.port) for server in servers)
    dsn = module_cluster.primary.dsn(host=",".join([HOST] * len(servers)), port=ports)
    with ConnectionPool(dsn, grace=0.0, timeout=2.0, **settings) as pool:  # type: ignore[arg-type]
        until(lambda: pool.health().write_ready)
        with closing(psycopg2.connect(module_cluster.primary.dsn())) as admin:
            admin.autocommit = True
            ask(
                admin,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
        until(lambda: not pool.health(connect=False).write_ready)
        if asks == "health":
            until(lambda: pool.health().write_ready)
        until(lambda: is_writable(pool))


def is_writable(pool: ConnectionPool) -> bool:
    """Whether a caller is served."""
    with contextlib.suppress(NoPrimary):
        return bool(held(pool, lambda conn: ask(conn, "SELECT 1")))
    return False

"""`shared_limit`: one limit on the connections of many pools. Failure mode 43."""

import gc
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool import (
    ConnectionPool,
    EndpointDown,
    PoolExhausted,
    PoolTimeout,
    SettingsError,
    SharedLimit,
)
from pgdbpool.demo.postgres import EmbeddedPostgres, free_port
from pgdbpool.sharing import FAREWELL, _is_heard_out
from tests.asking import ask, held, pid
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

TENANTS = 500
CAP = 50
THREADS = 64

pytestmark = pytest.mark.direct("counts sessions of the server")


@contextmanager
def pools_of(count: int, dsn: str, **given: Any) -> Iterator[list[ConnectionPool]]:  # noqa: ANN401 - whatever a pool takes
    """Give so many pools; at rest and closed afterwards."""
    with ExitStack() as stack:
        pools = [ConnectionPool(dsn, **given) for _ in range(count)]
        for pool in pools:
            stack.callback(pool.close)
        yield pools
        for pool in pools:
            assert_at_rest(pool)


@pytest.fixture
def limited_role(admin: connection) -> Iterator[str]:
    """Give a role that the server itself allows no more than `CAP` sessions."""
    name = "tenants_role"
    ask(admin, f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {CAP}")
    yield name
    ask(admin, f"DROP OWNED BY {name}")
    ask(admin, f"DROP ROLE {name}")


@pytest.fixture
def schemas(admin: connection, limited_role: str) -> Iterator[list[str]]:
    """Give the schemas of the tenants, each with its name in a table."""
    names = [f"tenant_{number}" for number in range(TENANTS)]
    for name in names:
        ask(
            admin,
            f"CREATE SCHEMA {name} AUTHORIZATION {limited_role};"
            f"CREATE TABLE {name}.whose AS SELECT '{name}' AS name;"
            f"ALTER TABLE {name}.whose OWNER TO {limited_role}",
        )
    yield names
    for name in names:
        ask(admin, f"DROP SCHEMA {name} CASCADE")


def test_500_tenants_never_have_more_connections_than_the_limit(
    embedded: EmbeddedPostgres,
    schemas: list[str],
    limited_role: str,
    application_name: str,
    admin: connection,
) -> None:
    """64 threads, 500 tenants, a limit of 50, and a server that refuses a 51st."""
    limit = SharedLimit(CAP)
    dsn = embedded.dsn(user=limited_role, application_name=application_name)
    with ExitStack() as stack:
        pools = [
            ConnectionPool(
                dsn,
                kwargs={"options": f"-c search_path={schema}"},
                max_size=5,
                timeout=60.0,
                shared_limit=limit,
            )
            for schema in schemas
        ]
        for pool in pools:
            stack.callback(pool.close)

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(40):
                number = chance.randrange(TENANTS)
                with pools[number].connection() as conn:
                    assert ask(conn, "SELECT name FROM whose") == schemas[number]

        most = 0
        with ThreadPoolExecutor(THREADS) as executor:
            works = [executor.submit(work, seed) for seed in range(THREADS)]
            while not all(one.done() for one in works):
                most = max(most, len(backends(admin, application_name)))
            for one in works:
                one.result()

        assert 0 < most <= CAP
        assert sum(p.get_stats()["connections_errors"] for p in pools) == 0
        assert limit.size <= CAP
        for pool in pools:
            assert_at_rest(pool)
    assert limit.size == 0


def test_a_pool_that_is_not_full_is_as_ever(dsn: str) -> None:
    """It keeps what it opened as long as nobody else needs the place."""
    with pools_of(2, dsn, shared_limit=SharedLimit(2)) as (one, other):
        backend, another = held(one), held(other)
        assert (held(one), held(other)) == (backend, another)


def test_what_has_been_idle_for_longest_goes(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whosever it is; the log says why."""
    caplog.set_level(logging.INFO, logger="pgdbpool")
    with pools_of(3, dsn, shared_limit=SharedLimit(2)) as (first, second, third):
        held(first)
        backend = held(second)
        held(third)

        assert held(second) == backend
        assert first.get_stats()["pool_size"] == 0
        assert "another pool needed its place" in caplog.text


def test_a_release_serves_who_has_waited_for_longest(dsn: str) -> None:
    """Also before callers of its own pool who came later."""
    order: list[str] = []
    with pools_of(2, dsn, shared_limit=SharedLimit(1)) as (one, other):
        conn = one.getconn()

        def wait_at(pool: ConnectionPool, name: str) -> threading.Thread:
            def wait() -> None:
                with pool.connection():
                    order.append(name)

            thread = threading.Thread(target=wait)
            thread.start()
            until(lambda: pool.get_stats()["requests_waiting"] == 1)
            return thread

        threads = [wait_at(other, "other")]
        threads.append(wait_at(one, "own"))
        one.putconn(conn)
        for thread in threads:
            thread.join(10.0)

        assert order == ["other", "own"]


def test_a_caller_of_its_own_who_came_first_is_served_first(dsn: str) -> None:
    """By the same session: nothing is closed that is needed here."""
    with pools_of(2, dsn, shared_limit=SharedLimit(1)) as (one, other):
        conn = one.getconn()
        backend = pid(conn)
        with ThreadPoolExecutor(2) as executor:
            own = executor.submit(held, one)
            until(lambda: one.get_stats()["requests_waiting"] == 1)
            foreign = executor.submit(held, other)
            until(lambda: other.get_stats()["requests_waiting"] == 1)
            one.putconn(conn)

            assert own.result(10.0) == backend
            assert foreign.result(10.0) != backend


def test_who_waits_in_vain_is_told_of_the_limit(dsn: str) -> None:
    """And leaves nothing behind that would cost another its connection."""
    with pools_of(2, dsn, shared_limit=SharedLimit(1)) as (one, other):
        conn = one.getconn()
        with pytest.raises(PoolExhausted) as caught:
            other.getconn(0.1)
        assert "1 of 1 of the shared limit open" in str(caught.value)
        assert "Raise the SharedLimit" in str(caught.value)
        backend = pid(conn)
        one.putconn(conn)

        assert held(one) == backend


def test_a_place_comes_free_whatever_becomes_of_its_connection(
    dsn: str, admin: connection
) -> None:
    """Lost, aborted, closed by its holder, never released, or its pool gone."""
    limit = SharedLimit(1)
    with pools_of(2, dsn, shared_limit=limit, timeout=10.0) as (one, other):
        lost = held(one)
        ask(admin, "SELECT pg_terminate_backend(%s, 5000)", lost)
        held(other)
        conn = one.getconn()
        conn.close()
        one.putconn(conn)
        held(other)
        abandoned: Any = one.getconn()
        del abandoned
        gc.collect()
        held(other)
        gone: Any = ConnectionPool(dsn, shared_limit=limit)
        held(gone)
        del gone
        gc.collect()
        held(other)
        with pytest.raises(psycopg2.Error), one.connection() as conn:
            ask(conn, "SELECT pg_terminate_backend(pg_backend_pid())")
        held(other)
    assert limit.size == 0


def test_who_waits_is_served_when_a_holder_loses_its_connection(dsn: str) -> None:
    """At once, not at the next release."""
    with pools_of(2, dsn, shared_limit=SharedLimit(1), timeout=30.0) as (one, other):
        abandoned: Any = one.getconn()
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(held, other)
            until(lambda: other.get_stats()["requests_waiting"] == 1)
            del abandoned
            gc.collect()
            assert waiting.result(20.0)


def test_who_waits_is_served_when_another_pools_connect_fails(dsn: str) -> None:
    """Here a server that accepts and says nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pools_of(1, dsn, shared_limit=SharedLimit(1), timeout=30.0) as (well,),
        ThreadPoolExecutor(2) as executor,
    ):
        port = silent.getsockname()[1]
        nowhere = make_dsn(dsn, host="127.0.0.1", port=port, connect_timeout=2)
        with ConnectionPool(
            nowhere, shared_limit=well.settings.shared_limit, timeout=0.5
        ) as down:
            refused = executor.submit(down.getconn)
            until(lambda: down.get_stats()["pool_size"] == 1)
            waiting = executor.submit(held, well)
            with pytest.raises(PoolTimeout):
                refused.result(20.0)
            assert waiting.result(20.0)


def test_connects_that_fail_keep_no_place(dsn: str) -> None:
    """A tenant whose server is down is not in the way of others."""
    limit = SharedLimit(1)
    nowhere = make_dsn(dsn, host="127.0.0.1", port=1)
    with pools_of(1, dsn, shared_limit=limit) as (well,):
        down = ConnectionPool(nowhere, shared_limit=limit, timeout=0.3)
        for _ in range(3):
            with pytest.raises(EndpointDown):
                down.getconn()
            held(well)
        down.close()
    assert limit.size == 0


def test_a_place_is_free_when_its_server_has_seen_the_session_go(
    dsn: str, private_server: EmbeddedPostgres
) -> None:
    """Or has had a second to do so, which a frozen one takes."""
    limit = SharedLimit(1)
    with (
        pools_of(1, private_server.dsn(), shared_limit=limit) as (frozen,),
        pools_of(1, dsn, shared_limit=limit, timeout=20.0) as (other,),
    ):
        held(frozen)
        private_server.freeze()
        try:
            began = time.monotonic()
            held(other)
            assert time.monotonic() - began >= FAREWELL
        finally:
            private_server.thaw()


def test_a_server_that_never_ends_is_not_listened_to_for_ever() -> None:
    """One in the middle of a large answer has always more to read."""
    limit = time.monotonic() + 10.0

    class EndlessLine:
        def settimeout(self, seconds: float) -> None:
            assert seconds > 0.0

        def recv(self, _size: int) -> bytes:
            assert time.monotonic() < limit, "it is listened to for ever"
            return b"x"

    assert not _is_heard_out(EndlessLine(), 0.05)  # type: ignore[arg-type]


def test_a_frozen_server_is_in_nobodys_way(
    dsn: str, private_server: EmbeddedPostgres
) -> None:
    """What it will not see off makes room within a second, others meanwhile."""
    limit = SharedLimit(8)
    frozen_dsn = private_server.dsn(connect_timeout=2)
    with (
        pools_of(1, frozen_dsn, shared_limit=limit, max_size=7) as (frozen,),
        pools_of(8, dsn, shared_limit=limit, timeout=20.0) as others,
    ):
        conns = [frozen.getconn() for _ in range(7)]
        for conn in conns:
            frozen.putconn(conn)
        private_server.freeze()
        try:
            for pool in others:
                held(pool)
            assert limit.size <= 8
        finally:
            private_server.thaw()
        until(lambda: frozen.get_stats()["pool_size"] == 0)


def test_a_forked_child_has_a_limit_of_its_own(dsn: str) -> None:
    """It begins with nothing, as its pools do."""
    with pools_of(2, dsn, shared_limit=SharedLimit(1)) as (one, other):
        held(one)
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            backend, another = held(other), held(one)
            with os.fdopen(sink, "w") as file:
                file.write(str(backend != another))
            os._exit(0)
        os.close(sink)
        with os.fdopen(source) as file:
            assert file.read() == "True"
        os.waitpid(child, 0)
        held(other)


def test_without_threads_room_is_made_or_refused_at_once(dsn: str) -> None:
    """Nobody else could release anything."""
    limit = SharedLimit(1)
    given: dict[str, Any] = {"shared_limit": limit, "threaded": False, "timeout": 60.0}
    with pools_of(2, dsn, **given) as (one, other):
        for _ in range(3):
            held(one)
            held(other)
        backend = held(other)
        conn = other.getconn()
        began = time.monotonic()
        with pytest.raises(PoolExhausted, match="Raise the SharedLimit"):
            one.getconn()
        assert time.monotonic() - began < 5.0
        other.putconn(conn)
        assert held(other) == backend


def busy(pools: list[ConnectionPool], threads: int, holds: int) -> None:
    """Have each pool used by so many threads, so often each."""

    def work(pool: ConnectionPool) -> None:
        for _ in range(holds):
            held(pool, lambda conn: ask(conn, "SELECT 1"))

    with ThreadPoolExecutor(threads * len(pools)) as executor:
        for one in [executor.submit(work, p) for p in pools for _ in range(threads)]:
            one.result()


def test_a_pool_alone_opens_no_more_than_without_a_limit(dsn: str) -> None:
    """However many of its callers wait."""
    with pools_of(1, dsn, shared_limit=SharedLimit(4), timeout=30.0) as (pool,):
        busy([pool], 8, 50)
        assert pool.get_stats()["connections_num"] <= 4
        assert not pool.health().saturated


def test_busy_pools_do_not_take_places_from_each_other_all_the_time(dsn: str) -> None:
    """Each goes on with what it has, unless the others wait for longer and longer."""
    given: dict[str, Any] = {"shared_limit": SharedLimit(4), "timeout": 30.0}
    with pools_of(2, dsn, **given) as pools:
        busy(pools, 8, 100)
        connects = sum(pool.get_stats()["connections_num"] for pool in pools)
        assert connects < 2 * 8 * 100 / 10


def test_pools_are_made_while_others_are_in_use(dsn: str) -> None:
    """As an application does at a tenant's first request."""
    limit = SharedLimit(2)
    is_over = threading.Event()

    def make() -> None:
        while not is_over.is_set():
            ConnectionPool(dsn, shared_limit=limit).close()

    with pools_of(3, dsn, shared_limit=limit, timeout=30.0) as pools:
        maker = threading.Thread(target=make)
        maker.start()
        try:
            busy(pools, 2, 30)
        finally:
            is_over.set()
            maker.join()


@pytest.fixture
def lame(dsn: str) -> Iterator[tuple[list[ConnectionPool], ConnectionPool]]:
    """Give two pools with a second server that is down, and one that is well.

    They share a limit of three, and each has a connection.
    """
    limit = SharedLimit(3)
    both = [dsn, make_dsn(dsn, port=free_port())]
    with (
        pools_of(2, "", endpoints=both, shared_limit=limit, timeout=20.0) as lame,
        pools_of(1, dsn, shared_limit=limit, timeout=20.0) as (well,),
    ):
        for pool in (*lame, well):
            held(pool)
        for pool in lame:
            until(lambda pool=pool: pool.endpoints[1].state == "down")
        held(well)
        yield lame, well


def let_time_pass(pools: list[ConnectionPool]) -> None:
    """Have the pools do what time brings, with a try of what is down due each time."""
    for pool in pools * 5:
        pool._roster.endpoints[1].health.retry_at = 0.0
        pool._keep_up()
        pool.act()


def test_a_server_that_is_down_costs_other_tenants_nothing(
    lame: tuple[list[ConnectionPool], ConnectionPool],
) -> None:
    """Nobody asks for it, so nobody makes room for finding out."""
    pools, well = lame
    everyone = [*pools, well]
    opened = [pool.get_stats()["connections_num"] for pool in everyone]
    let_time_pass(pools)
    for pool in everyone:
        assert_at_rest(pool)
        held(pool)
    assert [pool.get_stats()["connections_num"] for pool in everyone] == opened


def test_nobody_wants_a_place_for_a_server_that_nobody_asks_for(
    lame: tuple[list[ConnectionPool], ConnectionPool],
) -> None:
    """Also when all places are in use; so a release is over at once."""
    pools, well = lame
    limit = well.settings.shared_limit
    assert limit is not None
    conns = [pool.getconn() for pool in (*pools, well)]
    let_time_pass(pools)
    assert not limit.is_wanted()
    for pool, conn in zip((*pools, well), conns, strict=True):
        pool.putconn(conn)
    assert limit.size == 3


def test_a_server_that_is_back_serves_though_the_limit_is_full(
    dsn: str, private_server: EmbeddedPostgres
) -> None:
    """Who was refused has a place made for finding out."""
    limit = SharedLimit(1)
    given: dict[str, Any] = {"shared_limit": limit, "timeout": 0.5}
    is_over = threading.Event()
    with (
        pools_of(1, private_server.dsn(), **given) as (lost,),
        pools_of(1, dsn, shared_limit=limit, timeout=30.0) as (other,),
    ):
        held(lost)
        private_server.stop()
        until(lambda: refuses(lost))
        private_server.start()

        def use() -> None:
            while not is_over.is_set():
                held(other)

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: not refuses(lost), 20.0)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()


def refuses(pool: ConnectionPool) -> bool:
    """Return whether a block is refused because the server is down."""
    try:
        held(pool)
    except EndpointDown:
        return True
    except PoolExhausted:
        return False
    return False


def test_a_pool_that_keeps_nothing_open_becomes_ready(dsn: str) -> None:
    """When it is asked, though it was never used."""
    with pools_of(1, dsn, shared_limit=SharedLimit(1)) as (pool,):
        until(lambda: pool.health().write_ready)


def test_new_credentials_replace_what_is_idle(dsn: str) -> None:
    """By closing it: nothing is kept open for its own sake."""
    with pools_of(1, dsn, shared_limit=SharedLimit(2)) as (pool,):
        backend = held(pool)
        pool.rotate()
        until(lambda: pool.get_stats()["pool_size"] == 0)
        assert held(pool) != backend


def test_a_pool_that_is_dropped_in_use_makes_room_for_who_waits(dsn: str) -> None:
    """As soon as its connection is collected."""
    limit = SharedLimit(1)
    with pools_of(1, dsn, shared_limit=limit, timeout=30.0) as (other,):
        gone: Any = ConnectionPool(dsn, shared_limit=limit)
        conn: Any = gone.getconn()
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(held, other)
            until(lambda: other.get_stats()["requests_waiting"] == 1)
            del gone, conn
            gc.collect()
            assert waiting.result(20.0)


def test_pools_with_and_without_threads_share_no_limit(dsn: str) -> None:
    """A thread of the one would work on the other, which has no lock."""
    limit = SharedLimit(2)
    ConnectionPool(dsn, shared_limit=limit).close()
    with pytest.raises(SettingsError, match="threaded=True and False"):
        ConnectionPool(dsn, shared_limit=limit, threaded=False)


def test_min_size_contradicts_it(dsn: str) -> None:
    """What is kept open could make no room."""
    limit = SharedLimit(5)
    with pytest.raises(SettingsError, match="min_size: must be 0 with a shared_limit"):
        ConnectionPool(dsn, min_size=1, shared_limit=limit)
    with pools_of(1, dsn, shared_limit=limit) as (pool,):
        assert pool.min_size == 0
        with pytest.raises(SettingsError, match="min_size: must be 0"):
            pool.resize(1, 2)
        pool.resize(0, 2)

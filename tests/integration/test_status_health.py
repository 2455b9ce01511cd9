"""`/livez` and `/readyz`: what probes are told, how fast, and that it is true."""

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from pgdbpool import ConnectionPool, EndpointDown, SharedLimit
from pgdbpool.demo.postgres import EmbeddedPostgres, free_port
from pgdbpool.demo.standby import demote
from pgdbpool.status import HealthApp
from pgdbpool.status.service import state_of
from tests.asking import ask, held
from tests.unit.test_status_access import LOCAL
from tests.unit.test_status_access import ask as ask_app
from tests.waiting import until

SIZE = 5


def probe(app: HealthApp, query: str = "", path: str = "/readyz") -> tuple[int, Any]:
    """Return the status and the content of an answer, as this machine gets it."""
    status, _, text = ask_app(app, path, **LOCAL, QUERY_STRING=query)
    return status, json.loads(text)


def is_ready(app: HealthApp, query: str = "") -> bool:
    """Whether a probe is content."""
    return probe(app, query)[0] == 200


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of the server of the run."""
    with ConnectionPool(dsn, max_size=SIZE, name="shop") as pool:
        yield pool


def test_all_connections_held_is_ready_and_saturated_in_5_ms(
    pool: ConnectionPool,
) -> None:
    """Failure mode 26: busy is not down, and a probe takes nothing."""
    app = HealthApp(pool)
    with contextlib.ExitStack() as holds:
        for _ in range(SIZE):
            ask(holds.enter_context(pool.connection()), "SELECT 1")
        before = pool.get_stats()["requests_num"]
        took = []
        for _ in range(20):
            began = time.perf_counter()
            status, answer = probe(app)
            took.append(time.perf_counter() - began)
            assert status == 200
            assert answer["saturated"]
            assert answer["write_ready"]
            assert answer["read_ready"]
        # The best of some: this machine may have been busy with others.
        assert min(took) < 0.005
        assert pool.get_stats()["requests_num"] == before
        assert answer["pools"]["shop"]["reasons"] == ["5 connections are all in use"]
    assert not probe(app)[1]["saturated"]


@pytest.mark.direct("a server of its own is restarted")
def test_a_demoted_primary_is_ready_for_reads_only() -> None:
    """Failure mode 26: not green while writes fail."""
    with (
        EmbeddedPostgres() as server,
        ConnectionPool(server.dsn(), name="shop") as pool,
    ):
        app = HealthApp(pool)
        pool.wait()
        assert is_ready(app)
        demote(server)
        until(lambda: not is_ready(app), message="not ready to write")
        until(lambda: is_ready(app, "read"), message="ready to read")
        status, answer = probe(app, "write")
        assert status == 503
        assert not answer["write_ready"]
        assert answer["read_ready"]
        assert answer["pools"]["shop"]["reasons"] == [
            "none of the servers takes writes"
        ]


@pytest.mark.direct("a server of its own is stopped")
@pytest.mark.parametrize("threaded", [True, False])
def test_a_database_down_at_boot_is_not_ready_and_then_is_by_itself(
    private_server: EmbeddedPostgres, *, threaded: bool
) -> None:
    """Without a request that would have to be the first."""
    private_server.stop()
    dsn = private_server.dsn()
    with ConnectionPool(dsn, name="shop", threaded=threaded) as pool:
        app = HealthApp(pool)
        status, answer = probe(app)
        assert status == 503
        assert not answer["read_ready"]
        until(lambda: "said" in probe(app)[1]["pools"]["shop"]["reasons"][0])
        private_server.start()
        until(lambda: is_ready(app), message="ready by itself")
        assert pool.get_stats()["requests_num"] == 0
        assert probe(app, path="/livez") == (200, {"alive": True})


@pytest.mark.direct("a server of its own is stopped")
@pytest.mark.parametrize("threaded", [True, False])
def test_after_an_outage_a_process_without_requests_is_ready_again(
    private_server: EmbeddedPostgres, *, threaded: bool
) -> None:
    """Else whoever sends no requests to what is not ready never would again."""
    with ConnectionPool(private_server.dsn(), threaded=threaded, grace=0.0) as pool:
        app = HealthApp(pool)
        until(lambda: is_ready(app))
        private_server.stop()
        with pytest.raises(EndpointDown):
            held(pool)
        assert not is_ready(app)
        private_server.start()
        until(lambda: is_ready(app), message="ready by itself")
        assert held(pool)


def test_without_threads_the_page_connects_to_nobody(dsn: str) -> None:
    """Whoever looks at it would wait for that; a probe does."""
    with ConnectionPool(dsn, threaded=False) as pool:
        assert not state_of(pool)["health"]["read_ready"]
        assert pool.get_stats()["connections_num"] == 0
        assert is_ready(HealthApp(pool))
        assert pool.get_stats()["connections_num"] == 1


class TestOfPoolsThatShareALimit:
    """A probe takes the place of an idle connection, but seldom."""

    def test_one_that_was_never_used_is_met_though_the_limit_is_full(
        self, dsn: str
    ) -> None:
        """And stays known after its place has gone back."""
        limit = SharedLimit(4)
        with (
            ConnectionPool(dsn, name="busy", shared_limit=limit) as busy,
            ConnectionPool(dsn, name="new", shared_limit=limit) as new,
        ):
            fill(busy, 4)
            app = HealthApp(busy, new)
            until(lambda: is_ready(app))
            for _ in range(50):
                assert is_ready(app)
                fill(busy, 4)
            assert new.get_stats()["connections_num"] == 1
            assert busy.get_stats()["connections_num"] == 4 + 1

    def test_one_that_is_down_seldom_has_a_place_until_it_is_back(
        self, dsn: str, private_server: EmbeddedPostgres
    ) -> None:
        """It is tried at any time where one is free, else now and then."""
        limit = SharedLimit(2)
        late_dsn = private_server.dsn(dbname="late")
        with (
            ConnectionPool(dsn, name="busy", shared_limit=limit) as busy,
            ConnectionPool(late_dsn, name="late", shared_limit=limit) as late,
        ):
            fill(busy, 2)
            app, health = HealthApp(late), late._roster.endpoints[0].health
            until(lambda: not is_ready(app) and health.failures)
            fill(busy, 2)
            for _ in range(50):
                health.retry_at = 0.0
                assert not is_ready(app)
            assert late.get_stats()["connections_num"] == 1
            assert busy.get_stats()["connections_num"] == 2 + 1
            with closing(psycopg2.connect(private_server.dsn())) as admin:
                admin.autocommit = True
                ask(admin, "CREATE DATABASE late")
            late._roster._seek_at -= 1000.0  # type: ignore[attr-defined]
            health.retry_at = 0.0
            until(lambda: is_ready(app))
            assert busy.get_stats()["connections_num"] == 2 + 1

    def test_a_closed_one_is_met_no_more(self, dsn: str) -> None:
        """Nor does it keep anything from others."""
        limit = SharedLimit(1)
        with ConnectionPool(dsn, shared_limit=limit) as busy:
            conn = busy.getconn()
            new = ConnectionPool(dsn, shared_limit=limit)
            assert not new.health().read_ready
            new.close()
            busy.putconn(conn)
            assert not new.health().read_ready
            assert (new.get_stats()["connections_num"], limit.size) == (0, 1)
            assert busy.get_stats()["connections_lost"] == 0

    @pytest.mark.direct("goes to a server besides")
    def test_one_of_several_servers_goes_on_meeting_without_a_storm(
        self, private_server: EmbeddedPostgres
    ) -> None:
        """One is up and one is down, and there is a place for one connection."""
        limit = SharedLimit(1)
        up, other = private_server.port, free_port()
        several = private_server.dsn(host="127.0.0.1,127.0.0.1", port=f"{other},{up}")
        with ConnectionPool(several, shared_limit=limit) as pool:
            for _ in range(200):
                pool.health()
            until(lambda: pool.health().read_ready)
            for _ in range(200):
                pool.health()
            # Both once, and once more in the place of the first.
            assert pool.get_stats()["connections_num"] <= 4
            assert limit.size <= 1


def fill(pool: ConnectionPool, number: int) -> None:
    """Have so many connections in use together, and then idle."""
    with contextlib.ExitStack() as holds:
        for _ in range(number):
            ask(holds.enter_context(pool.connection()), "SELECT 1")


def test_one_pool_of_several_that_is_not_ready_is_enough(
    pool: ConnectionPool,
) -> None:
    """And the answer says which."""
    pool.wait()
    with ConnectionPool(open=False, name="closed") as other:
        other.close()
        status, answer = probe(HealthApp(pool, other))
    assert status == 503
    assert answer["pools"]["shop"]["write_ready"]
    assert answer["pools"]["closed"]["reasons"] == ["the pool is not open"]
    assert is_ready(HealthApp(pool))
    assert "pools" not in probe(HealthApp(pool, other, details=False))[1]

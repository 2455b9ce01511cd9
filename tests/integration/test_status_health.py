"""`/livez` and `/readyz`: what probes are told, how fast, and that it is true."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pgdbpool import ConnectionPool, EndpointDown
from pgdbpool.demo.postgres import EmbeddedPostgres
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

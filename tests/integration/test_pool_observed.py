"""Who has a connection, who keeps it for too long, and how long all takes."""

import dataclasses
import gc
import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolMiddleware, PoolTimeout, SettingsError
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import PoolError
from pgdbpool.histograms import MOST_ROUTES, OTHER
from pgdbpool.status.service import state_of
from tests.asking import ask, held, pid, terminate
from tests.soundness import assert_at_rest
from tests.waiting import until
from tests.webtesting import TestApp

KEPT = 0.05


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of two that is observed and looks for leaks."""
    with ConnectionPool(
        dsn, name="shop", max_size=2, observe=True, leak_warn_after=KEPT
    ) as pool:
        yield pool
        assert_at_rest(pool)


def keep(pool: ConnectionPool) -> connection:
    """Acquire, and keep: the place that a warning must name."""
    return pool.getconn()


# Holders.


@pytest.mark.direct("goes by a session's number on the server")
def test_holders_are_known(dsn: str) -> None:
    """What for, where, by which thread, by which backend, for how long; no setting."""
    with ConnectionPool(dsn, max_size=2) as pool:
        assert pool.holders() == []
        conn = keep(pool)
        ask(conn, "SELECT 1")
        (holder,) = pool.holders()
        assert holder.backend_pid == pid(conn)
        assert holder.place.startswith("integration/test_pool_observed.py:")
        assert holder.thread == threading.current_thread().name
        assert holder.transaction == "open"
        assert holder.request is None
        assert holder.stack == ()
        second = keep(pool)
        assert [one.backend_pid for one in pool.holders()] == [pid(conn), pid(second)]
        for one in (conn, second):
            pool.putconn(one)
        assert pool.holders() == []


def test_a_holder_of_a_request_is_told_by_it(pool: ConnectionPool) -> None:
    """With who called, outside of the package."""
    found: list[Any] = []

    def app(environ: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        ask(environ["pgdbpool.conn"], "SELECT 1")
        found.extend(pool.holders())
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    TestApp(PoolMiddleware(app, pool)).get("/report/17")

    (holder,) = found
    assert holder.request == "GET /report/17"
    assert [place.split()[-1] for place in holder.stack[:2]] == ["ask", "app"]
    assert not any("/pgdbpool/wsgi/" in place for place in holder.stack)


# What is measured.


def test_waits_and_holds_are_measured_by_route(pool: ConnectionPool) -> None:
    """Numbers in a path are one route; who has no request goes by its place."""

    def app(environ: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        ask(environ["pgdbpool.conn"], "SELECT pg_sleep(0.02)")
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    client = TestApp(PoolMiddleware(app, pool))
    for number in range(3):
        client.get(f"/order/{number}")
    pool.putconn(keep(pool))

    routes = pool.snapshot().routes
    (place,) = routes.keys() - {"GET /order/*"}
    assert place.startswith("integration/test_pool_observed.py:")
    order = routes["GET /order/*"]
    assert sum(order.waits.counts) == sum(order.holds.counts) == 3
    assert sum(order.holds.counts[:3]) == 0  # none was shorter than 10 ms
    assert order.holds.total >= 3 * 0.02
    assert sum(routes[place].holds.counts) == 1


def test_the_route_of_a_framework_is_taken(pool: ConnectionPool) -> None:
    """As Werkzeug and Bottle leave it in the environment."""

    class Rule:
        rule = "/item/<name>"

    class Request:
        url_rule = Rule()

    def app(environ: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        if environ["PATH_INFO"].startswith("/bottle"):
            environ["bottle.route"] = Rule()
        else:
            environ["werkzeug.request"] = Request()
        ask(environ["pgdbpool.conn"], "SELECT 1")
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    client = TestApp(PoolMiddleware(app, pool))
    client.get("/flask/shoe")
    client.post("/bottle/hat")

    assert pool.snapshot().routes.keys() == {"GET /item/<name>", "POST /item/<name>"}


def test_routes_are_bounded(pool: ConnectionPool) -> None:
    """What comes after the first hundred is counted together."""
    for number in range(MOST_ROUTES + 5):
        conn = pool.acquire(request=f"GET /page{number}x")
        pool.release(conn, conn.hold)

    routes = pool.snapshot().routes
    assert len(routes) == MOST_ROUTES + 1
    assert sum(routes[OTHER].holds.counts) == 5


class Recorder:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []

    def acquired(self, _hold: Hold, waited: float, error: PoolError | None) -> None:
        """Write it down."""
        self.said.append(("acquired", type(error) if error else waited >= 0.0))

    def released(self, _hold: Hold, held: float) -> None:
        """Write it down."""
        self.said.append(("released", held >= 0.0))

    def connected(
        self, _endpoint: Endpoint, seconds: float, error: BaseException | None
    ) -> None:
        """Write it down."""
        self.said.append(("connected", type(error) if error else seconds > 0.0))


def test_observers_are_told_of_everything(dsn: str) -> None:
    """Connects, acquires, refusals, releases, in their order."""
    recorder = Recorder()
    with ConnectionPool(dsn, max_size=1, observe=True) as pool:
        pool.observers += (recorder,)
        held(pool)
        conn = pool.getconn()
        with pytest.raises(PoolTimeout):
            pool.getconn(0.01)
        pool.putconn(conn)

    kinds = [kind for kind, _ in recorder.said]
    assert kinds == [
        "connected",
        *(["acquired", "released"]),
        *["acquired"] * 2,
        ("released"),
    ]
    (refusal,) = [what for _, what in recorder.said if isinstance(what, type)]
    assert issubclass(refusal, PoolTimeout)


def test_a_finalizer_in_the_middle_of_the_pools_work_counts_once(dsn: str) -> None:
    """When its release is carried out, and without the lock."""
    with ConnectionPool(dsn, observe=True) as pool:
        locked: list[bool] = []

        class Witness(Recorder):
            def released(self, *_: object) -> None:
                locked.append(pool._is_locked_by_me())

        pool.observers += (Witness(),)
        conn = pool.acquire()
        with pool._lock:
            pool.release(conn, conn.hold)
        until(lambda: locked)
        assert_at_rest(pool)
        (timings,) = pool.snapshot().routes.values()
        assert sum(timings.holds.counts) == 1
        assert locked == [False]


def test_observers_are_refused_where_nothing_is_measured(dsn: str) -> None:
    """They would never be told anything."""
    with (
        ConnectionPool(dsn, name="shop") as pool,
        pytest.raises(SettingsError, match="observe: must be True for pool 'shop'"),
    ):
        pool.observers += (Recorder(),)


def test_a_failing_observer_costs_nothing_but_a_line_in_the_log(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the connection, nor the work of its holder."""

    class Broken(Recorder):
        def acquired(self, *_: object) -> None:
            raise ValueError("broken")

    with ConnectionPool(dsn, max_size=1, observe=True) as pool:
        pool.observers += (Broken(),)
        for _ in range(3):
            held(pool, lambda conn: ask(conn, "SELECT 1"))
        assert_at_rest(pool)
    assert caplog.text.count("ValueError: broken") == 3


# All of it.


def test_a_snapshot_is_all_there_is_to_see(pool: ConnectionPool) -> None:
    """Plain data, of one moment."""
    first, second = pool.getconn(), pool.getconn()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(held, pool)
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        seen = pool.snapshot()
        pool.putconn(first)
        waiting.result(10.0)
    pool.putconn(second)

    assert (seen.name, seen.is_open, seen.max_size) == ("shop", True, 2)
    assert [session.state for session in seen.sessions] == ["in_use"] * 2
    assert all(session.holder for session in seen.sessions)
    assert seen.waiting[0].place.startswith("tests/asking.py:")
    assert seen.counts["requests_num"] == 3
    assert [endpoint.in_use for endpoint in seen.endpoints] == [2]
    assert seen.connects is not None
    assert sum(seen.connects.counts) == 2
    assert json.dumps(dataclasses.asdict(seen), default=str)


def test_a_forked_child_counts_from_zero(pool: ConnectionPool) -> None:
    """What the parent measured is the parent's."""
    held(pool)
    pool.forget()
    assert pool.snapshot().routes == {}


def test_a_subclass_is_observed_and_threadless_too(dsn: str) -> None:
    """What the settings say holds for whatever pool is made with them."""

    class Mine(ConnectionPool):
        def __init__(self) -> None:
            super().__init__(dsn, observe=True, threaded=False)

    with Mine() as pool:
        held(pool)
        assert isinstance(pool, Mine)
        assert len(pool.snapshot().routes) == 1
        assert type(pool).__name__ == "Mine"
        with pytest.raises(SettingsError, match="strict"):
            pool.getconn(strict=True)


# Whose a session is.


@pytest.mark.direct("asks the server for its sessions")
@pytest.mark.parametrize("given", [{"name": "orders"}, {}])
def test_a_session_tells_service_host_and_process(
    embedded: EmbeddedPostgres,
    admin: connection,
    given: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Failure mode 42: in pg_stat_activity, where nobody gave it another name."""
    monkeypatch.delenv("PGAPPNAME", raising=False)
    with ConnectionPool(embedded.dsn(), **given) as pool:
        told = ask(
            admin,
            "SELECT application_name FROM pg_stat_activity WHERE pid = %s",
            held(pool),
        )
    service, _, process = told.split("/")
    assert service == given.get("name", service) != ""
    assert process == str(os.getpid())


@pytest.mark.parametrize(
    "secret",
    [
        "0123456789abcdef0",
        "c4k3xn-5d1f6a0b9c8e7d2f3a4b5c6d7e8f9a0b",  # base36, as Django's
        "Drmhze6EPcv0fN_81Bj-nA",  # token_urlsafe
        "ann@example.org",
    ],
)
def test_a_page_tells_no_more_of_a_request_than_its_route(
    pool: ConnectionPool, secret: str
) -> None:
    """A path can have a secret in it, and a query; nor do the metrics."""
    holds = [pool.acquire(request=f"GET /reset/{secret}?key=s3cret")]
    holds.append(pool.acquire(request="GET /item/9"))
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(
            pool.acquire, 10.0, request="POST /order/17?key=s3cret"
        )
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        told = json.dumps(state_of(pool))
        for conn in holds:
            pool.release(conn, conn.hold)
        last = waiting.result(10.0)
        pool.release(last, last.hold)
    told += json.dumps(list(pool.snapshot().routes))

    assert {"GET /reset/*", "GET /item/*", "POST /order/*"} <= set(
        re.findall(r'"request": "([^"]*)"', told)
    )
    assert "s3cret" not in told
    assert secret not in told


# Health.


def test_a_pool_is_ready_when_its_server_was_reached(dsn: str) -> None:
    """Asking for it begins the first connect, and blocks for nothing."""
    with ConnectionPool(dsn) as pool:
        before = pool.health()
        assert (before.write_ready, before.read_ready) == (False, False)
        assert before.reasons == (f"{pool.endpoints[0].name} has not been reached yet",)
        until(lambda: pool.health().write_ready)
        assert pool.health().reasons == ()
    assert pool.health().reasons == ("the pool is not open",)


def test_a_pool_whose_connections_are_all_held_is_ready_and_saturated(
    pool: ConnectionPool,
) -> None:
    """Told without acquiring one."""
    conns = [pool.getconn(), pool.getconn()]
    found = pool.health()
    assert found.write_ready
    assert found.read_ready
    assert found.saturated
    assert found.reasons == ("2 connections are all in use",)
    for conn in conns:
        pool.putconn(conn)
    assert not pool.health().saturated


def test_a_server_that_is_down_is_not_ready(private_server: EmbeddedPostgres) -> None:
    """And ready again by itself."""
    with ConnectionPool(private_server.dsn()) as pool:
        pool.wait()
        private_server.stop()
        until(lambda: not pool.health().read_ready)
        assert f"127.0.0.1:{private_server.port} said" in pool.health().reasons[0]
        private_server.start()
        until(lambda: pool.health().write_ready)


@pytest.mark.direct("goes by a session's number on the server")
def test_what_a_holder_lost_is_no_holder(
    pool: ConnectionPool, admin: connection
) -> None:
    """Neither what was collected, nor what the server ended."""
    abandoned: Any = keep(pool)
    del abandoned
    gc.collect()
    until(lambda: not pool.holders())
    conn = keep(pool)
    terminate(admin, pid(conn))
    pool.putconn(conn)
    assert pool.holders() == []

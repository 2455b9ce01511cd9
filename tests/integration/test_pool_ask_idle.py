"""Questions through what is idle anyway: no hold, no count, nobody in the way."""

import threading

import psycopg2
import pytest
from psycopg2 import extensions as driver
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.status.server import Server
from tests.asking import held, pid, terminate
from tests.soundness import assert_at_rest
from tests.waiting import until


def question(conn: connection) -> object:
    """Ask who serves."""
    with driver.connection.cursor(conn, cursor_factory=driver.cursor) as cur:
        cur.execute("SELECT pg_backend_pid()")
        (backend,) = cur.fetchone() or (None,)
        return backend


def counts(pool: ConnectionPool) -> dict[str, int]:
    """Return what is counted of requests."""
    stats = pool.get_stats()
    return {name: stats[name] for name in stats if name.startswith("requests_")}


@pytest.mark.direct("goes by a session's number on the server")
def test_a_question_is_no_hold(dsn: str) -> None:
    """It is answered by the session that serves next, and shows in no count."""
    with ConnectionPool(dsn, observe=True) as pool:
        backend = held(pool)
        before, routes = counts(pool), pool.snapshot().routes
        assert list(pool.ask_idle(question)) == [(pool.endpoints[0].name, backend)]
        assert counts(pool) == before
        assert pool.snapshot().routes == routes
        assert held(pool) == backend
        assert_at_rest(pool)


def test_what_is_in_use_or_waited_for_is_not_asked(dsn: str) -> None:
    """There is nobody to ask then."""
    with ConnectionPool(dsn, max_size=1) as pool:
        assert list(pool.ask_idle(question)) == []
        conn = pool.getconn()
        assert list(pool.ask_idle(question)) == []
        pool.putconn(conn)


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_that_is_lost_is_told_and_replaced(
    dsn: str, admin: connection
) -> None:
    """The error is the answer."""
    with ConnectionPool(dsn) as pool:
        backend = held(pool)

        def lose(conn: connection) -> object:
            terminate(admin, pid(conn))
            return question(conn)

        ((_, error),) = pool.ask_idle(lose)
        assert isinstance(error, psycopg2.Error)
        assert held(pool) != backend
        assert_at_rest(pool)


def test_a_server_that_is_frozen_is_given_up(private_server: EmbeddedPostgres) -> None:
    """After ping_timeout."""
    with ConnectionPool(private_server.dsn(), ping_timeout=0.3) as pool:
        held(pool)
        private_server.freeze()
        try:
            ((_, error),) = pool.ask_idle(question)
        finally:
            private_server.thaw()
        assert "the question took longer than 0.3 s" in str(error)


def test_each_server_is_asked(module_cluster: Cluster) -> None:
    """By its own connection."""
    with ConnectionPool(module_cluster.dsn(), max_size=2) as pool:
        pool.wait()

        def are_met() -> bool:
            return all(endpoint.idle for endpoint in pool.endpoints)

        for _ in range(3):
            held(pool)
        until(are_met)
        names = [endpoint.name for endpoint in pool.endpoints]
        assert [name for name, _ in pool.ask_idle(question)] == names


def test_the_status_page_shows_in_no_count(dsn: str) -> None:
    """What it asks of the servers is nobody's request, and never an error."""
    with ConnectionPool(dsn, observe=True) as pool:
        pool.wait()
        server = Server(lambda: [pool])
        threads = threading.active_count()
        (seen,) = until(server.look)
        assert seen.error is None
        assert [session for session in seen.sessions if session.is_asking]
        assert counts(pool)["requests_num"] == 0
        assert pool.snapshot().routes == {}
        until(lambda: threading.active_count() <= threads)

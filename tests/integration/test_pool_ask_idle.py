"""Questions through what is idle anyway: no hold, no count, nobody in the way."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2 import extensions as driver
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.status.server import Server
from tests.asking import ask, held, pid, terminate
from tests.endpoints import used
from tests.observer import observe
from tests.soundness import assert_at_rest
from tests.waiting import until

# What a question may take in all, seconds: enough for one that is answered.
PATIENCE = 1.0


def answer_to(conn: connection, statement: str) -> object:
    """Return the first value, past everything the user configured."""
    with driver.connection.cursor(conn, cursor_factory=driver.cursor) as cur:
        cur.execute(statement)
        (value,) = cur.fetchone() or (None,)
        return value


def question(conn: connection) -> object:
    """Ask who serves."""
    return answer_to(conn, "SELECT pg_backend_pid()")


def slow(conn: connection) -> object:
    """Ask what takes long, and is broken off by the server."""
    return answer_to(conn, "SELECT pg_sleep(60)")


def endless(conn: connection) -> object:
    """Ask what only the pool can break off."""
    with driver.connection.cursor(conn, cursor_factory=driver.cursor) as cur:
        cur.execute("SET LOCAL statement_timeout = 0")
    return slow(conn)


def counts(pool: ConnectionPool) -> dict[str, int]:
    """Return what is counted of requests."""
    stats = pool.get_stats()
    return {name: stats[name] for name in stats if name.startswith("requests_")}


def blamed(pool: ConnectionPool) -> tuple[int, int, str | None, bool]:
    """Return what a pool has against its only server: nothing, if all is well."""
    stats, (endpoint,) = pool.get_stats(), pool.endpoints
    return (
        stats["connections_lost"],
        stats["returns_bad"],
        endpoint.last_error,
        not pool.health().write_ready,
    )


NOTHING = (0, 0, None, False)


def idle_in(pool: ConnectionPool) -> set[int]:
    """Return the backends that are idle."""
    with pool._lock:
        return {pid(conn) for conn in pool._roster.endpoints[0].shelf}


@pytest.fixture
def three(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool with three idle connections."""
    with ConnectionPool(dsn, min_size=3, max_size=3, ping_timeout=PATIENCE) as pool:
        pool.wait()
        yield pool
        assert_at_rest(pool)


@pytest.mark.direct("goes by a session's number on the server")
@pytest.mark.parametrize("autocommit", [False, True])
def test_a_question_is_no_hold(
    dsn: str,
    autocommit: bool,  # noqa: FBT001 - pytest's
) -> None:
    """It is answered by the session that serves next, and shows in no count."""
    with ConnectionPool(dsn, observe=True, autocommit=autocommit) as pool:
        backend = held(pool)
        before, routes = counts(pool), pool.snapshot().routes
        assert list(pool.ask_idle(question)) == [(pool.endpoints[0].name, backend)]
        assert counts(pool) == before
        assert pool.snapshot().routes == routes
        assert held(pool) == backend
        assert blamed(pool) == NOTHING
        assert_at_rest(pool)


def test_what_is_in_use_is_not_asked(dsn: str) -> None:
    """There is nobody to ask then."""
    with ConnectionPool(dsn, max_size=1) as pool:
        assert list(pool.ask_idle(question)) == []
        conn = pool.getconn()
        assert list(pool.ask_idle(question)) == []
        pool.putconn(conn)


def test_nobody_is_asked_while_somebody_waits(module_cluster: Cluster) -> None:
    """Also not who is idle, but cannot serve who waits."""
    with ConnectionPool(module_cluster.dsn(), max_size=1) as pool:
        used(pool)
        conn = pool.getconn()
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(held, pool)
            until(lambda: pool.get_stats()["requests_waiting"] == 1)
            until(lambda: [one.idle for one in pool.endpoints] == [0, 1, 1])
            asked = list(pool.ask_idle(question))
            pool.putconn(conn)
            waiting.result(10.0)
        assert asked == []
        until(lambda: all(endpoint.idle for endpoint in pool.endpoints))
        assert len(list(pool.ask_idle(question))) == len(pool.endpoints)


def test_who_comes_meanwhile_is_served_after_the_question(dsn: str) -> None:
    """Where there is no other connection, and not later than by its deadline."""
    with (
        ConnectionPool(dsn, max_size=1, ping_timeout=PATIENCE) as pool,
        ThreadPoolExecutor(1) as executor,
    ):
        backend = held(pool)

        def waits(_: connection) -> object:
            waiting.append(executor.submit(held, pool))
            return until(lambda: pool.get_stats()["requests_waiting"])

        waiting = []
        assert [answer for _, answer in pool.ask_idle(waits)] == [1]
        assert waiting[0].result(10.0) == backend


@pytest.mark.direct("goes by a session's number on the server")
@pytest.mark.parametrize("autocommit", [False, True])
def test_a_question_that_the_server_refuses_costs_nothing(
    private_server: EmbeddedPostgres,
    autocommit: bool,  # noqa: FBT001 - pytest's
) -> None:
    """As where pg_stat_activity is not for everybody: it is said, and that is all."""
    with observe(private_server.dsn()) as admin:
        ask(admin, "CREATE ROLE app LOGIN")
        ask(admin, "REVOKE SELECT ON pg_stat_activity FROM PUBLIC")
        try:
            with ConnectionPool(
                private_server.dsn(user="app"), autocommit=autocommit
            ) as pool:
                backend = held(pool)
                for _ in range(3):
                    ((_, error),) = pool.ask_idle(
                        lambda conn: answer_to(conn, "TABLE pg_stat_activity")
                    )
                    assert isinstance(error, sqlstate.InsufficientPrivilege)
                assert held(pool) == backend
                assert blamed(pool) == NOTHING
                assert_at_rest(pool)
        finally:
            ask(admin, "GRANT SELECT ON pg_stat_activity TO PUBLIC")
            ask(admin, "DROP ROLE app")


@pytest.mark.direct("goes by a session's number on the server")
@pytest.mark.parametrize("autocommit", [False, True])
def test_a_slow_question_is_broken_off_by_the_server(
    dsn: str,
    autocommit: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Before the pool has to: so the connection is kept, as it was."""
    with ConnectionPool(dsn, ping_timeout=PATIENCE, autocommit=autocommit) as pool:
        backend = held(pool)
        ((_, error),) = pool.ask_idle(slow)
        assert isinstance(error, sqlstate.QueryCanceled)
        with pool.connection() as conn:
            assert pid(conn) == backend
            assert ask(conn, "SHOW statement_timeout") == "0"
        assert blamed(pool) == NOTHING
        assert_at_rest(pool)


@pytest.mark.direct("goes by a session's number on the server")
def test_a_question_that_ends_by_no_other_means_costs_one_connection(
    three: ConnectionPool,
) -> None:
    """The others stay, and the server is not to blame: it was the question."""
    before = idle_in(three)
    ((_, error),) = three.ask_idle(endless)
    assert f"the question took longer than {PATIENCE:g} s" in str(error)
    assert blamed(three) == NOTHING
    until(lambda: len(idle_in(three)) == 3)
    assert len(idle_in(three) & before) == 2


@pytest.mark.direct("goes by a session's number on the server")
def test_a_question_that_fails_by_itself_costs_one_connection(
    three: ConnectionPool,
) -> None:
    """Nobody knows in the middle of what it was."""
    before = idle_in(three)

    def fail(conn: connection) -> object:
        question(conn)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(three.ask_idle(fail))
    assert blamed(three) == NOTHING
    until(lambda: len(idle_in(three)) == 3)
    assert len(idle_in(three) & before) == 2


@pytest.mark.direct("goes by a session's number on the server")
def test_a_session_that_is_lost_is_told_and_replaced(
    dsn: str, admin: connection
) -> None:
    """The error is the answer, and it says of the server what a ping would."""
    with ConnectionPool(dsn) as pool:
        backend = held(pool)

        def lose(conn: connection) -> object:
            terminate(admin, pid(conn))
            return question(conn)

        ((_, error),) = pool.ask_idle(lose)
        assert isinstance(error, psycopg2.Error)
        assert pool.get_stats()["connections_lost"] == 1
        assert held(pool) != backend
        assert_at_rest(pool)


def test_a_server_that_is_frozen_is_given_up(private_server: EmbeddedPostgres) -> None:
    """After ping_timeout; whether it is lost, the next ping finds out."""
    with ConnectionPool(private_server.dsn(), ping_timeout=0.3) as pool:
        held(pool)
        private_server.freeze()
        try:
            ((_, error),) = pool.ask_idle(question)
            assert "the question took longer than 0.3 s" in str(error)
            assert blamed(pool) == NOTHING
        finally:
            private_server.thaw()


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

"""The functions a user gives to the pool: configure, check, reset."""

from collections.abc import Callable

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolTimeout
from tests.asking import ask, pid
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until


@pytest.mark.direct("SETs a session by SQL of its own")
def test_configure_sees_each_new_connection_once(dsn: str) -> None:
    """And its settings hold for every hold."""
    seen: list[int] = []

    def configure(conn: connection) -> None:
        seen.append(pid(conn))
        ask(conn, "SET work_mem = '7MB'")
        conn.commit()

    with ConnectionPool(dsn, max_size=2, configure=configure) as pool:
        for _ in range(3):
            with pool.connection() as conn:
                assert ask(conn, "SHOW work_mem") == "7MB"
                assert seen == [pid(conn)]
        with pool.connection(), pool.connection():
            assert len(set(seen)) == len(seen) == 2


def leave_open(conn: connection) -> None:
    """Leave a transaction open."""
    ask(conn, "SELECT 1")


def fail(conn: connection) -> None:
    """Raise something that is not the driver's."""
    raise LookupError(f"no tenant for {pid(conn)}")


@pytest.mark.direct("counts sessions of the server", "leave_open")
@pytest.mark.parametrize(
    ("configure", "said"), [(fail, "no tenant"), (leave_open, "transaction open")]
)
def test_a_failing_configure_says_so_to_who_waits(
    dsn: str,
    admin: connection,
    application_name: str,
    configure: Callable[[connection], None],
    said: str,
) -> None:
    """Failure mode 41: PoolTimeout with the hook's error, and no session is kept."""
    with ConnectionPool(dsn, timeout=0.3, configure=configure) as pool:
        with pytest.raises(PoolTimeout, match=said) as caught:
            pool.getconn()
        assert said in str(caught.value.__cause__)
        until(lambda: not backends(admin, application_name))


def test_check_sees_each_hold(dsn: str) -> None:
    """Before its holder does, in addition to the ping."""
    seen: list[int] = []

    def check(conn: connection) -> None:
        seen.append(ask(conn, "SELECT 1"))

    with ConnectionPool(dsn, max_size=1, check=check) as pool:
        for count in (1, 2, 3):
            with pool.connection() as conn:
                assert len(seen) == count
                assert not conn.in_transaction


def test_what_check_objects_to_is_replaced(dsn: str) -> None:
    """Within the same acquire."""
    unfit: set[int] = set()

    def check(conn: connection) -> None:
        if pid(conn) in unfit:
            raise LookupError("unfit")

    with ConnectionPool(dsn, max_size=2, check=check) as pool:
        with pool.connection() as conn:
            unfit.add(pid(conn))
        with pool.connection() as conn:
            assert pid(conn) not in unfit
        assert pool.get_stats()["returns_bad"] == 1


def test_a_check_that_nothing_passes_says_so_to_who_waits(dsn: str) -> None:
    """Failure modes 12 and 41: PoolTimeout with what the hook raised as its cause."""
    with ConnectionPool(dsn, timeout=0.3, check=fail) as pool:
        with pytest.raises(PoolTimeout, match="no tenant") as caught:
            pool.getconn()
        assert isinstance(caught.value.__cause__, LookupError)
        assert_at_rest(pool)


def test_psycopg_pools_check_works(dsn: str) -> None:
    """ConnectionPool.check_connection as the hook."""
    check = ConnectionPool.check_connection
    with ConnectionPool(dsn, check=check) as pool, pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1


@pytest.mark.direct("SETs a session by SQL of its own")
def test_reset_makes_clean_what_was_used(dsn: str) -> None:
    """A function as the policy: called once a hold that used the connection."""
    seen: list[int] = []

    def reset(conn: connection) -> None:
        seen.append(pid(conn))
        ask(conn, "RESET ALL")
        conn.commit()

    with ConnectionPool(dsn, max_size=1, reset=reset) as pool:
        with pool.connection() as conn:
            ask(conn, "SET work_mem = '7MB'")
        with pool.connection() as conn:
            assert seen == [pid(conn)]
            assert ask(conn, "SHOW work_mem") != "7MB"


@pytest.mark.parametrize("reset", [fail, leave_open, connection.close])
def test_a_failing_reset_costs_its_connection_and_nothing_else(
    dsn: str, reset: Callable[[connection], None]
) -> None:
    """Failure mode 41: the holder notices nothing, the next one gets another."""
    with ConnectionPool(dsn, max_size=1, reset=reset) as pool:
        with pool.connection() as conn:
            first = pid(conn)
        with pool.connection() as conn:
            assert pid(conn) != first
            assert ask(conn, "SELECT 1") == 1
        assert_at_rest(pool)


@pytest.mark.direct("goes by a session's number on the server")
def test_a_hook_that_loses_the_session_is_a_lost_session(
    dsn: str, admin: connection
) -> None:
    """The acquire goes on with a new one."""
    victims: list[int] = []

    def check(conn: connection) -> None:
        if not victims:
            victims.append(pid(conn))
            ask(admin, "SELECT pg_terminate_backend(%s, 5000)", pid(conn))
        ask(conn, "SELECT 1")

    with ConnectionPool(dsn, check=check) as pool, pool.connection() as conn:
        assert pid(conn) not in victims
        assert pool.get_stats()["connections_lost"] == 1


@pytest.mark.parametrize("hook", ["configure", "check"])
@pytest.mark.parametrize("is_drivers", [True, False])
def test_what_hooks_state_is_on_no_page(
    dsn: str, hook: str, *, is_drivers: bool
) -> None:
    """Callers and the log have it; who looks at the pool sees what kind it was."""

    def fail(conn: connection) -> None:
        if not is_drivers:
            raise LookupError("no tenant t0ken")
        ask(conn, "SELECT nonsense(%s)", "t0ken")

    with ConnectionPool(dsn, timeout=0.3, **{hook: fail}) as pool:
        with pytest.raises(PoolTimeout, match="t0ken"):
            pool.getconn()
        shown = f"{pool.endpoints} {pool.health()} {pool.snapshot()}"
    assert "t0ken" not in shown
    assert ("UndefinedFunction (42883)" if is_drivers else "LookupError") in shown


@pytest.mark.direct("SETs a session by SQL of its own")
def test_the_drivers_error_in_configure_is_the_cause(dsn: str) -> None:
    """A wrong statement there is found at once, by its text."""

    def configure(conn: connection) -> None:
        ask(conn, "SET work_mem = 'many'")

    with ConnectionPool(dsn, timeout=0.3, configure=configure) as pool:
        with pytest.raises(PoolTimeout, match="work_mem") as caught:
            pool.getconn()
        assert isinstance(caught.value.__cause__, psycopg2.Error)

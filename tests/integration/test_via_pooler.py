"""Behind a transaction pooler nothing is sent that outlives a transaction.

Failure mode 23, on a server without a pooler, which hears what one would. What a
real one makes of it is in `test_pgbouncer`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions as driver
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, ConnectionReleased, PoolTimeout
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint import session
from pgdbpool.endpoint.probe import probe, role_of
from pgdbpool.endpoint.standing import Role
from tests import leftovers
from tests.asking import Heard, ask, held, pid
from tests.integration.holds import ACTS, REFUSED, select, serializable
from tests.observer import observe
from tests.soundness import assert_at_rest
from tests.waiting import until

Pools = Callable[..., ConnectionPool]


@pytest.fixture(scope="module")
def listening() -> Iterator[EmbeddedPostgres]:
    """Give a server that writes down every statement."""
    with EmbeddedPostgres(settings={"log_statement": "all"}) as listening:
        leftovers.permitted_pids.update(listening.pids)
        yield listening


@pytest.fixture
def heard(listening: EmbeddedPostgres) -> Heard:
    """Give what that server hears in this test."""
    return Heard(listening)


@pytest.fixture
def made(listening: EmbeddedPostgres) -> Iterator[Pools]:
    """Give a maker of pools, by default of one connection behind a pooler."""
    pools = []

    def make(**settings: Any) -> ConnectionPool:  # noqa: ANN401 - whatever it takes
        given = {"via": "transaction-pooler", "max_size": 1, **settings}
        pools.append(ConnectionPool(listening.dsn(), **given))
        return pools[-1]

    yield make
    for pool in pools:
        assert_at_rest(pool)
        pool.close()


def test_nothing_is_said_to_a_new_connection(made: Pools, heard: Heard) -> None:
    """No time to wait for a client, no encoding, no date style."""
    made(min_size=3, max_size=3).wait()
    assert heard.of_all() == []


def test_a_direct_pool_is_heard_to_set_something(made: Pools, heard: Heard) -> None:
    """Else the other tests would prove nothing."""
    with made(via="direct", reset="session").connection() as conn:
        select(conn)
    set_for_good, reset = heard.lasting()
    assert "client_connection_check_interval" in set_for_good
    assert "RESET ALL" in reset


def test_a_hold_is_a_plain_transaction(made: Pools, heard: Heard) -> None:
    """Its BEGIN is the ping, and says nothing that some server once reported."""
    pool = made()
    assert held(pool, select) == held(pool, select)
    assert heard.of_all() == ["BEGIN", "SELECT 1", "COMMIT"] * 2


@pytest.mark.parametrize("settings", [{}, {"ping_idle": 60.0}, {"autocommit": True}])
def test_no_hold_leaves_anything(
    made: Pools, heard: Heard, settings: dict[str, Any]
) -> None:
    """Whatever handlers do with the driver, with any ping, and between them."""
    pool = made(**settings)
    for name, act in ACTS.items():
        is_for_a_transaction = name not in ("select", "autocommit", "same_encoding")
        with pool.connection() as conn:
            backend = pid(conn)
            if settings.get("autocommit") and is_for_a_transaction:
                conn.autocommit = False
            act(conn)
        with pool.connection() as conn:
            assert pid(conn) == backend
            assert conn.autocommit is settings.get("autocommit", False)
            modes = (conn.isolation_level, conn.readonly, conn.deferrable)
            assert modes == (None, None, None)
            select(conn)
        pool.check()
    assert len(heard.of_all()) > 2 * len(ACTS)
    assert heard.lasting() == []


def test_what_configure_chose_is_kept(made: Pools, heard: Heard) -> None:
    """It is said in each BEGIN, through all changes and back."""
    pool = made(configure=lambda conn: conn.set_session("SERIALIZABLE", readonly=True))
    for act in (select, ACTS["read_only"], autocommit_for_a_while, select):
        backend = held(pool, act)
        with pool.connection() as conn:
            assert pid(conn) == backend
            assert ask(conn, "SHOW transaction_isolation") == "serializable"
            assert ask(conn, "SHOW transaction_read_only") == "on"
    assert heard.lasting() == []


def autocommit_for_a_while(conn: Any) -> None:  # noqa: ANN401 - a pooled connection
    """Take back what configure chose, and leave it so."""
    conn.set_session("DEFAULT", readonly="DEFAULT", autocommit=True)
    select(conn)


class Strict(driver.connection):
    """A user's class that chooses at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - psycopg2's
        super().__init__(*args, **kwargs)
        self.set_session("SERIALIZABLE")


def test_what_a_class_of_the_user_chose_is_kept(made: Pools, heard: Heard) -> None:
    """It is a class of both."""
    pool = made(kwargs={"connection_factory": Strict})
    for _ in range(2):
        with pool.connection() as conn:
            assert isinstance(conn, Strict)
            assert ask(conn, "SHOW transaction_isolation") == "serializable"
    assert heard.lasting() == []


def test_a_choice_that_autocommit_would_set_fails_the_connect(made: Pools) -> None:
    """Its reason is in the error."""
    pool = made(autocommit=True, configure=serializable, timeout=0.5)
    with pytest.raises(PoolTimeout, match="isolation_level in autocommit"):
        held(pool)


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_be_undone_is_refused(
    made: Pools, heard: Heard, name: str
) -> None:
    """Before anything is sent, and the connection is as good as ever."""
    pool = made()
    with pool.connection() as conn:
        with pytest.raises(psycopg2.NotSupportedError, match="transaction-pooler"):
            REFUSED[name](conn)
        conn.rollback()
        select(conn)
    with pool.connection() as again:
        assert again is conn
        assert (again.autocommit, again.readonly) == (False, None)
        select(again)
    assert heard.lasting() == []


@pytest.mark.parametrize("name", REFUSED)
def test_after_the_release_it_is_refused_for_that(made: Pools, name: str) -> None:
    """As everything is."""
    with made().connection() as conn:
        select(conn)
    with pytest.raises(ConnectionReleased):
        REFUSED[name](conn)


def test_a_commit_begins_nothing_for_the_next(made: Pools, heard: Heard) -> None:
    """Between two transactions the pooler is free to give the server away."""
    pool = made()
    with ThreadPoolExecutor(1) as other:
        with pool.connection() as conn:
            served = other.submit(held, pool, select)
            until(lambda: pool.get_stats()["requests_waiting"] == 1)
            select(conn)
        served.result(10)
    assert heard.of_all() == ["BEGIN", "SELECT 1", "COMMIT"] * 2


@pytest.mark.parametrize("settings", [{}, {"autocommit": True}])
def test_a_hold_for_reading_leaves_nothing(
    made: Pools, heard: Heard, settings: dict[str, Any]
) -> None:
    """READ ONLY is said by BEGIN, and in autocommit not at all."""
    pool = made(**settings)
    for _ in range(2):
        with pool.connection(read_only=True) as conn:
            is_read_only = ask(conn, "SHOW transaction_read_only") == "on"
            assert is_read_only is not bool(settings)
        held(pool, select)
    assert heard.lasting() == []


def test_a_probe_leaves_nothing(made: Pools, heard: Heard) -> None:
    """Also where psycopg2 has a level that it would set anew."""
    pool = made(configure=lambda conn: conn.set_session("SERIALIZABLE"))
    with pool.connection() as conn:
        conn.rollback()
        assert probe(conn).role is Role.PRIMARY
        assert role_of(conn) is None
        assert conn.get_transaction_status() == driver.TRANSACTION_STATUS_IDLE
        assert ask(conn, "SHOW transaction_isolation") == "serializable"
    assert heard.lasting() == []


def test_a_probe_that_fails_leaves_no_transaction(made: Pools, heard: Heard) -> None:
    """It is asked in a transaction, which ends with it."""
    with made().connection() as conn:
        conn.rollback()
        with pytest.raises(psycopg2.ProgrammingError):
            session.execute_alone(conn, "SELECT nonsense")
        assert conn.get_transaction_status() == driver.TRANSACTION_STATUS_IDLE
        select(conn)
    assert heard.lasting() == []


def test_a_reset_of_the_users_is_called(made: Pools) -> None:
    """It is theirs to say what is safe."""
    called: list[connection] = []
    pool = made(reset=called.append)
    with pool.connection() as conn:
        select(conn)
    assert called == [conn]


@pytest.fixture
def reader(listening: EmbeddedPostgres) -> Iterator[str]:
    """Give a user whose transactions are read only by default."""
    with observe(listening.dsn()) as admin:
        ask(admin, "CREATE ROLE reader LOGIN")
        ask(admin, "ALTER ROLE reader SET default_transaction_read_only = on")
        yield "reader"
        ask(admin, "DROP ROLE reader")


def test_a_default_of_the_administrator_is_not_overruled(
    reader: str, made: Pools
) -> None:
    """Whatever was reported when, BEGIN says nothing of it."""
    pool = made(kwargs={"user": reader})
    with pool.connection() as conn:
        assert ask(conn, "SHOW transaction_read_only") == "on"

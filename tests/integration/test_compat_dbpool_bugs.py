"""D1 to D12, and what D26 has of D3: defects of pgdbpool 1.x, none of which is here."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate
from psycopg2.extensions import connection

from pgdbpool import PoolTimeout
from pgdbpool.compat.dbpool import (
    Connection,
    DBConnectionError,
    DBOfflineError,
    DBQueryError,
    Handler,
)
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import LOGGED, Heard, ask, terminate
from tests.integration.dbpools import (  # noqa: F401 - fixtures
    Config,
    config_of,
    given_config,
    given_environ,
    given_init,
    held,
    pid,
    server_of,
    waiting,
)
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

pytestmark = pytest.mark.direct("resets sessions, and sets options in its DSN")

FAILED = "25P02"


@pytest.fixture
def deferred(admin: connection, table: str) -> str:
    """Give a table whose constraint is checked at the COMMIT only."""
    ask(admin, f"ALTER TABLE {table} ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    return table


def insert(db: Handler, table: str, note: str = "mine") -> None:
    """Store a note."""
    db.query(f"INSERT INTO {table} (note) VALUES (%s)", (note,))


def count(admin: connection, table: str) -> int:
    """Return how many notes are committed."""
    return int(ask(admin, f"SELECT count(*) FROM {table}"))


def value(db: Handler, statement: str) -> Any:  # noqa: ANN401 - whatever the database has
    """Return the first value of an answer."""
    return db.query(statement).fetchone()[0]


def failing_with(error: Exception, table: str) -> None:
    """Have a block store a note and raise."""
    with Handler("work") as db:
        insert(db, table)
        raise error


@pytest.mark.usefixtures("_init")
def test_d1_an_exception_rolls_back_and_is_passed_on(
    admin: connection, table: str
) -> None:
    """D1: it is the same one, and nothing is committed."""
    error = RuntimeError("of the application")
    with pytest.raises(RuntimeError) as caught:
        failing_with(error, table)
    assert caught.value is error
    assert count(admin, table) == 0


@pytest.mark.usefixtures("_init")
def test_d2_an_error_of_sql_keeps_the_session_and_fails_the_transaction(
    admin: connection, table: str
) -> None:
    """D2: what follows fails until it is rolled back; then the session is used on."""
    with Handler("work") as db:
        backend = pid(db)
        insert(db, table, "lost")
        for statement, code in (("nonsense", "42601"), ("SELECT 1", FAILED)):
            with pytest.raises(DBQueryError) as caught:
                db.query(statement)
            assert caught.value.pgcode == code
        with pytest.raises(sqlstate.InFailedSqlTransaction):
            db.commit()
        db.rollback()
        assert pid(db) == backend
        insert(db, table, "kept")
    assert ask(admin, f"SELECT note FROM {table}") == "kept"


def swallow_an_error(table: str) -> None:
    """Have a block end well although a statement failed."""
    with Handler("work") as db:
        insert(db, table)
        with pytest.raises(DBQueryError):
            db.query("nonsense")


@pytest.mark.usefixtures("_init")
def test_d2_a_block_that_swallowed_an_error_does_not_end_as_if_all_were_well(
    admin: connection, table: str
) -> None:
    """D2: its COMMIT would be a rollback without a word."""
    with pytest.raises(sqlstate.InFailedSqlTransaction):
        swallow_an_error(table)
    assert count(admin, table) == 0


class Holders:
    """Handlers in many threads, some of which meet with trouble.

    Attributes:
        shared: connections that two of them had at a time.
        ended: how many blocks ended.
    """

    TROUBLES = ("SELECT 1", "nonsense", "SELECT pg_terminate_backend(pg_backend_pid())")

    def __init__(self) -> None:
        self.shared: list[object] = []
        self.ended = 0
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def work(self, seed: int) -> None:
        """Hold connections, one after the other."""
        for turn in range(20):
            trouble = self.TROUBLES[(seed + turn) % 3 if turn % 4 == 0 else 0]
            try:
                with Handler("work") as db:
                    self._use(db, trouble)
            except (DBQueryError, psycopg2.Error):
                pass
            self.ended += 1

    def _use(self, db: Handler, trouble: str) -> None:
        mine = id(db.conn_ref)
        with self._lock:
            if mine in self._held:
                self.shared.append(db.conn_ref)
            self._held.add(mine)
        try:
            db.query("SELECT pg_sleep(0.001)")
            db.query(trouble)
        finally:
            with self._lock:
                self._held.discard(mine)


@pytest.mark.usefixtures("_init")
@pytest.mark.parametrize("number", ["d3", "d26"])
def test_d3_d26_no_connection_ever_has_two_holders(
    number: str, admin: connection, application_name: str
) -> None:
    """D3, D26: eight threads, two connections, errors, sessions that are killed."""
    holders = Holders()
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(holders.work, range(8)))
    assert holders.ended == 8 * 20
    assert holders.shared == [], number
    assert_at_rest(Connection.get_pool("work"))
    assert Connection.get_connection_count(("work", 0)) == 0
    states = {backend.state for backend in backends(admin, application_name)}
    assert states <= {"idle"}


@pytest.mark.usefixtures("_init")
def test_d4_no_session_stays_in_a_transaction(
    admin: connection, application_name: str, table: str
) -> None:
    """D4: after a block that ends, one that raises, one that fails."""
    with Handler("work") as db:
        insert(db, table)
    with pytest.raises(RuntimeError):
        failing_with(RuntimeError(), table)
    with pytest.raises(sqlstate.InFailedSqlTransaction):
        swallow_an_error(table)
    states = {backend.state for backend in backends(admin, application_name)}
    assert states == {"idle"}


@pytest.mark.usefixtures("_init")
@pytest.mark.parametrize("is_explicit", [False, True])
def test_d5_a_commit_that_fails_raises(
    is_explicit: bool,  # noqa: FBT001 - a case
    admin: connection,
    deferred: str,
) -> None:
    """D5: whoever sends it, and the next block is served."""

    def commit() -> None:
        with Handler("work") as db:
            insert(db, deferred)
            insert(db, deferred)
            if is_explicit:
                db.commit()

    with pytest.raises(sqlstate.UniqueViolation):
        commit()
    assert count(admin, deferred) == 0
    assert held("work")


@pytest.mark.usefixtures("_init")
@pytest.mark.parametrize("group", ["plain", "work"])
def test_d6_a_session_that_dies_between_two_blocks_costs_neither(
    group: str, admin: connection, table: str
) -> None:
    """D6: the second is served by another and ends without an error."""
    backend = held(group)
    terminate(admin, backend)
    with Handler(group) as db:
        assert pid(db) != backend
        insert(db, table)
    assert count(admin, table) == 1


@pytest.mark.parametrize(
    "outage",
    [
        2.0,
        pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
    ],
)
def test_d7_after_an_outage_all_is_as_before(
    private_server: EmbeddedPostgres, outage: float
) -> None:
    """D7: while it lasts, errors come within the timeout, and leave nothing."""
    group = {"connection_count": 2, "timeout": 0.5}
    Connection.init(config_of(server_of(private_server.dsn()), work=group))
    Connection.get_pool("work").wait()
    private_server.stop()
    ends = time.monotonic() + outage
    while (began := time.monotonic()) < ends:
        with pytest.raises(DBOfflineError) as caught:
            held("work")
        assert isinstance(caught.value, PoolTimeout)
        assert isinstance(caught.value, DBConnectionError)
        assert time.monotonic() - began < 0.5 + 2.0
    private_server.start()
    until(lambda: _is_served("work"))
    with Handler("work") as one, Handler("work") as two:
        assert pid(one) != pid(two)
    assert_at_rest(Connection.get_pool("work"))
    Connection.close()  # before the server is given back


def _is_served(group: str) -> bool:
    try:
        return held(group) > 0
    except DBConnectionError:
        return False


def test_d8_a_release_wakes_who_waits_at_once(config: Config) -> None:
    """D8: within 5 ms, where 1.x slept for 100."""
    config["groups"] = {"one": {"connection_count": 1}}
    Connection.init(config)
    delays = []
    with ThreadPoolExecutor(1) as executor:
        for _ in range(10):
            with Handler("one"):
                waiter = executor.submit(_time_of_hold)
                until(lambda: waiting("one") == 1)
            released = time.monotonic()
            delays.append(waiter.result(5.0) - released)
    assert min(delays) < 0.005


def _time_of_hold() -> float:
    with Handler("one"):
        return time.monotonic()


def test_d8_who_waits_is_refused_at_the_deadline(config: Config) -> None:
    """D8: not earlier, with a `PoolTimeout` that is a `DBConnectionError`."""
    config["groups"] = {"one": {"connection_count": 1, "timeout": 0.2}}
    Connection.init(config)
    Connection.get_pool("one").wait()
    with Handler("one"), ThreadPoolExecutor(1) as executor:
        began = time.monotonic()
        with pytest.raises(PoolTimeout) as caught:
            executor.submit(held, "one").result(5.0)
        assert time.monotonic() - began >= 0.2
        assert isinstance(caught.value, DBConnectionError)
        assert "pool 'one': no connection within 0.2" in str(caught.value)


def test_d9_who_waits_longest_is_served_first(config: Config) -> None:
    """D9: twelve wait one after the other, and are served in that order."""
    config["groups"] = {"one": {"connection_count": 1}}
    Connection.init(config)
    order: list[int] = []

    def hold(number: int) -> None:
        with Handler("one"):
            order.append(number)

    with ThreadPoolExecutor(12) as executor, Handler("one"):
        for number in range(12):
            executor.submit(hold, number)
            until(lambda wanted=number + 1: waiting("one") == wanted)  # type: ignore[misc]
    assert order == list(range(12))


def _fastest_hold(group: str) -> float:
    """Return how long an acquire and a release take at best, seconds."""
    times = []
    for _ in range(100):
        began = time.perf_counter()
        with Handler(group):
            pass
        times.append(time.perf_counter() - began)
    return min(times)


def test_d10_an_acquire_costs_the_same_in_a_large_pool(config: Config) -> None:
    """D10: with 48 open connections as with two; in 1.x it was a hundred times more."""
    config["groups"] = {
        "small": {"connection_count": 2},
        "large": {"connection_count": 48},
    }
    Connection.init(config)
    for group, size in (("small", 2), ("large", 48)):
        handlers = [Handler(group).__enter__() for _ in range(size)]
        for handler in handlers:
            handler.__exit__(None, None, None)
    assert _fastest_hold("large") < 3 * _fastest_hold("small")


def test_d11_a_hold_is_checked_once(
    config: Config, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D11: by the BEGIN of its transaction; between its queries nothing is sent."""
    monkeypatch.setenv("PGOPTIONS", LOGGED)
    Connection.init(config)
    backend = held("work")
    heard = Heard(server)
    with Handler("work") as db:
        assert db.conn_ref is not None
        assert db.conn_ref.info.backend_pid == backend
        for number in (1, 2, 3):
            db.query("SELECT %s", (number,))
    said = heard.of(backend)
    assert said[:5] == [
        "BEGIN READ WRITE",
        "SELECT 1",
        "SELECT 2",
        "SELECT 3",
        "COMMIT",
    ]
    assert len(said) == 6  # and the reset


@pytest.mark.usefixtures("_init")
@pytest.mark.parametrize("group", ["plain", "work"])
def test_d12_nothing_of_a_session_reaches_the_next_holder(group: str) -> None:
    """D12: settings, locks, temporary tables; in the same session."""
    with Handler(group) as db:
        backend = pid(db)
        db.query("SET search_path = elsewhere")
        db.query("SET statement_timeout = 0")
        db.query("SELECT pg_advisory_lock(12)")
        db.query("CREATE TEMPORARY TABLE left_over (id int)")
        db.query("LISTEN left_over")
    with Handler(group) as db:
        assert pid(db) == backend
        assert value(db, "SHOW search_path") == '"$user", public'
        assert value(db, "SHOW statement_timeout") == "5s"
        held_locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert value(db, f"{held_locks} AND pid = pg_backend_pid()") == 0
        assert value(db, "SELECT to_regclass('pg_temp.left_over')") is None
        assert value(db, "SELECT count(*) FROM pg_listening_channels()") == 0

"""The classes of pgdbpool 1.x: what they do, and what they do not do any more."""

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection
from psycopg2.extras import DictCursor

from pgdbpool import ConnectionPool
from pgdbpool.compat import dbpool
from pgdbpool.compat.dbpool import (
    Connection,
    DBConnectionError,
    DBOfflineError,
    DBQueryError,
    Handler,
    Query,
    conn_iter,
    global_lock,
)
from pgdbpool.demo.postgres import free_port
from tests.asking import ask, terminate
from tests.integration.dbpools import (  # noqa: F401 - fixtures
    Config,
    extension,
    given_config,
    given_environ,
    given_init,
    held,
    pid,
)

pytestmark = pytest.mark.direct("resets sessions, and sets options in its DSN")


@pytest.mark.usefixtures("_init")
def test_a_handler_returns_rows_by_position_and_name(table: str) -> None:
    """And commits at the end of its block; it can be used again."""
    db = Handler("work")
    with db:
        assert isinstance(db.query("SELECT 1"), DictCursor)
        db.query(f"INSERT INTO {table} (note) VALUES (%(note)s)", {"note": "mine"})
        assert "holds <PooledConnection" in repr(db)
    with db:
        (row,) = db.query(f"SELECT id, note FROM {table} WHERE note = %s", ("mine",))
        assert (row[1], row["note"]) == ("mine", "mine")
    assert repr(db) == "<Handler of 'work' holds nothing>"
    assert (db.conn_ref, db._connection) == (None, None)
    db.commit()
    db.rollback()


@pytest.mark.usefixtures("_init")
def test_a_commit_within_a_block_stays(admin: connection, table: str) -> None:
    """What comes after it is rolled back by the exception."""
    with pytest.raises(ZeroDivisionError):
        _commit_and_fail(table)
    assert ask(admin, f"SELECT string_agg(note, ' ') FROM {table}") == "kept"


def _commit_and_fail(table: str) -> None:
    with Handler("work") as db:
        db.query(f"INSERT INTO {table} (note) VALUES ('kept')")
        db.commit()
        db.query(f"INSERT INTO {table} (note) VALUES ('lost')")
        raise ZeroDivisionError


@pytest.mark.usefixtures("_init")
def test_a_handler_without_a_block_acquires_at_its_first_use(
    admin: connection, table: str
) -> None:
    """Whichever use that is; and keeps the connection."""
    db = Handler("work")
    assert db._connection is not None
    assert db._connection == db._connection
    db.query(f"INSERT INTO {table} (note) VALUES ('mine')")
    assert ask(admin, f"SELECT count(*) FROM {table}") == 0
    db.commit()
    assert ask(admin, f"SELECT count(*) FROM {table}") == 1
    assert Connection.get_connection_count(db._connection) == 1
    other = Handler("plain")
    assert other.conn_ref is other.conn_ref
    with other:
        assert pid(other)
    assert Connection.get_connection_count(("plain", 0)) == 0


@pytest.mark.usefixtures("_init")
def test_a_handler_in_autocommit_outlives_its_session(admin: connection) -> None:
    """Without a block: the query that finds it lost fails, and the next is served."""
    db = Handler("plain")
    backend = pid(db)
    terminate(admin, backend)
    with pytest.raises(DBQueryError):
        pid(db)
    assert pid(db) != backend


@pytest.mark.usefixtures("_init")
@pytest.mark.parametrize("is_committed", [True, False])
def test_a_transaction_is_never_continued_in_another_session(
    is_committed: bool,  # noqa: FBT001 - a case
    admin: connection,
    table: str,
) -> None:
    """Not before its handler has heard that it is lost: by its commit or rollback."""
    db = Handler("work")
    db.query(f"INSERT INTO {table} (note) VALUES ('first half')")
    terminate(admin, pid(db))
    for _ in range(2):
        with pytest.raises(DBQueryError):
            db.query(f"INSERT INTO {table} (note) VALUES ('second half')")
    if is_committed:
        with pytest.raises(psycopg2.OperationalError, match="nothing is committed"):
            db.commit()
    else:
        db.rollback()
    db.query(f"INSERT INTO {table} (note) VALUES ('all')")
    db.commit()
    assert ask(admin, f"SELECT string_agg(note, ' ') FROM {table}") == "all"


@pytest.mark.usefixtures("_init")
def test_within_a_block_a_lost_session_is_not_replaced(admin: connection) -> None:
    """Nor in autocommit: all of the block has one session, or none; its end says so."""
    with pytest.raises(psycopg2.OperationalError, match="the session was lost"):
        _lose_the_session(admin, Handler("plain"))
    assert held("plain")


def _lose_the_session(admin: connection, db: Handler) -> None:
    with db:
        terminate(admin, pid(db))
        for _ in range(2):
            with pytest.raises(DBQueryError):
                pid(db)
        db.rollback()
        with pytest.raises(DBQueryError):
            pid(db)


@pytest.mark.usefixtures("_init")
def test_a_block_whose_connection_was_set_free_ends_well(
    admin: connection, table: str
) -> None:
    """What it did until then is rolled back; what follows has another number."""
    with Handler("work") as db:
        place = db._connection
        assert place is not None
        db.query(f"INSERT INTO {table} (note) VALUES ('lost')")
        Connection.set_connection_status(place, "free")
    with Handler("work") as db:
        place = db._connection
        assert place is not None
        Connection.set_connection_status(place, "free")
        db.query(f"INSERT INTO {table} (note) VALUES ('kept')")
        assert db._connection != place
    assert ask(admin, f"SELECT string_agg(note, ' ') FROM {table}") == "kept"


@pytest.mark.usefixtures("_init")
def test_the_pool_hears_of_what_its_statements_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver's own error: it can tell that a server is the primary no more."""
    pool, heard = Connection.get_pool("work"), []
    monkeypatch.setattr(pool, "blame", lambda _, error: heard.append(error))
    with pytest.raises(DBQueryError), Handler("work") as db:
        db.query("nonsense")
    assert isinstance(heard[0], psycopg2.errors.SyntaxError)


@pytest.mark.usefixtures("_init")
def test_a_connection_can_be_held_by_its_number() -> None:
    """Until it is set free; what its holder left open is rolled back."""
    first = Connection.get_next_connection("work")
    second = next(Connection.get_connection_iter_container("work"))
    assert first is not None
    assert second is not None
    (one, conn), (two, other) = first, second
    assert one != two
    assert conn is not other
    assert Connection.get_connection(("work", one)) == (conn, "occupied")
    assert Connection.get_connection_container(("work", two)) == (other, "occupied")
    assert Connection.get_connection_count(("work", one)) == 2
    assert Query.execute(("work", one), "SELECT %s", (7,)).fetchone()[0] == 7
    Connection.set_connection_status(("work", one), "occupied")
    for _ in range(2):
        Connection.set_connection_status(("work", one), "free")
    assert Connection.get_connection(("work", one)) == (None, "free")
    assert Connection.get_connection_count(("work", two)) == 1
    with pytest.raises(DBConnectionError, match="get_next_connection"):
        Connection.set_connection_status(("work", one), "occupied")
    with pytest.raises(ValueError, match="must be free or occupied, not 'connecting'"):
        Connection.set_connection_status(("work", two), "connecting")
    Connection.set_connection_status(("work", two), "free")


def test_where_all_are_in_use_the_next_connection_is_none(config: Config) -> None:
    """After the timeout; a server that is not there is an error."""
    config["groups"]["work"]["timeout"] = 0.1
    Connection.init(config)
    pool = Connection.get_pool("work")
    pool.resize(2, 2)
    pool.wait()
    with Handler("work"), Handler("work"):
        assert Connection.get_next_connection("work") is None
    config["db"]["port"] = free_port()
    Connection.init(config)
    with pytest.raises(DBOfflineError) as caught:
        Connection.get_next_connection("work")
    assert isinstance(caught.value, DBConnectionError)


@pytest.mark.usefixtures("_init")
def test_connections_are_proved_and_not_replaced_under_their_holder(
    admin: connection,
) -> None:
    """By connect, reconnect and check_db; also in a failed transaction."""
    for prove in (Connection.connect, Connection.reconnect):
        prove(("work", 0))
    db = Handler("work")
    place = db._connection
    assert place is not None
    for _ in range(2):
        for prove in (Connection.connect, Connection.reconnect, Query.check_db):
            prove(place)
        with pytest.raises(DBQueryError):
            db.query("nonsense")
    db.rollback()
    terminate(admin, pid(db))
    for prove in (Connection.connect, Connection.reconnect, Query.check_db):
        with pytest.raises(DBOfflineError):
            prove(place)
    db.rollback()
    with pytest.raises(DBConnectionError, match="nothing is held"):
        Query.check_db(place)


@pytest.mark.usefixtures("_init")
def test_a_failed_transaction_whose_session_is_lost_is_found_so(
    admin: connection,
) -> None:
    """Although no statement can be sent to find out."""
    db = Handler("work")
    backend = pid(db)
    assert db._connection is not None
    with pytest.raises(DBQueryError):
        db.query("nonsense")
    terminate(admin, backend)
    with pytest.raises(DBOfflineError, match="lost"):
        Query.check_db(db._connection)
    db.rollback()


def test_threads_share_an_iterator(config: Config) -> None:
    """Which hands out each connection once."""
    config["groups"]["work"]["connection_count"] = 8
    Connection.init(config)
    shared = conn_iter("work")
    assert iter(shared) is shared
    with ThreadPoolExecutor(8) as executor:
        found = [one for one in executor.map(lambda _: next(shared), range(8)) if one]
    assert len({number for number, _ in found}) == 8
    assert len({id(conn) for _, conn in found}) == 8
    for number, _ in found:
        Connection.set_connection_status(("work", number), "free")


def test_prepared_queries_are_prepared_once_a_session(
    config: Config, admin: connection, table: str
) -> None:
    """And outlive the reset between two holders; values are data."""
    config["groups"]["work"]["sqlprepare"] = True
    config["groups"]["plain"]["sqlprepare"] = True
    add = f"INSERT INTO {table} (note) VALUES ($1)"
    find = f"SELECT note FROM {table} WHERE note LIKE $1"
    evil = "x'); DROP TABLE accounts; --"
    with extension(admin, add=add, find=find):
        Connection.init(config)
        used = set()
        for group in ("work", "plain"):
            for _ in range(3):
                with Handler(group) as db:
                    used.add(pid(db))
                    done = db.query_prepared(("I", "add", f'{{"n": "{evil}"}}', ["n"]))
                    assert done == [{"Result": "None"}]
        with Handler("work") as db:
            assert db._connection is not None
            asked = ("S", "find", '{"n": "x%"}', ["n"])
            assert Query.execute_prepared(db._connection, asked) == [{"note": evil}] * 6
            for nothing in (
                lambda: db.query_prepared(None),  # type: ignore[arg-type]
                lambda: Query.execute_prepared(db._connection, None),  # type: ignore[arg-type]
            ):
                with pytest.raises(ValueError, match="sql_params must be given"):
                    nothing()
        assert len(used) == 2
        Connection.close()


def test_a_server_without_the_extension_says_so(config: Config) -> None:
    """In the error of the acquire."""
    config["groups"]["work"] |= {"sqlprepare": True, "timeout": 0.5}
    Connection.init(config)
    with pytest.raises(DBConnectionError, match="SQLPrepare"):
        held("work")


@pytest.mark.usefixtures("_init")
def test_its_pools_can_be_given_to_others() -> None:
    """To a middleware, or to code that is written for `ConnectionPool`."""
    pool = Connection.get_pool("plain")
    assert isinstance(pool, ConnectionPool)
    assert all(callable(getattr(dbpool, name)) for name in dbpool.__all__[:-1])
    with global_lock:  # of who locks it; nobody waits for it here
        assert held("plain")

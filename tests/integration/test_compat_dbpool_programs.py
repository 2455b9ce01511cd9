"""The programs of 1.x's manual run as they stand, but for their import."""

import threading
from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection, parse_dsn

from pgdbpool import PoolMiddleware
from pgdbpool.compat import dbpool
from pgdbpool.compat.dbpool import (
    Connection,
)
from tests.asking import ask
from tests.integration.dbpools import (  # noqa: F401 - fixtures
    Config,
    config_of,
    given_config,
    given_environ,
    held,
    imported,
    server_of,
)
from tests.soundness import assert_at_rest
from tests.webtesting import TestApp

pytestmark = pytest.mark.direct("resets sessions, and sets options in its DSN")


@pytest.fixture
def shop(admin: connection) -> Iterator[connection]:
    """Give the tables of the manual's programs."""
    ask(
        admin,
        "CREATE TABLE users (id int, name text, email text, active bool);"
        "INSERT INTO users VALUES (1, 'Ann', 'ann@example.com', true);"
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int CHECK (balance >= 0));"
        "INSERT INTO accounts VALUES (1, 100), (2, 0);"
        "CREATE TABLE transaction_log (from_id int, to_id int, amount numeric);"
        "CREATE TABLE table1 (id serial, col1 text);"
        "INSERT INTO table1 (col1) VALUES ('x')",
    )
    yield admin
    ask(admin, "DROP TABLE users, accounts, transaction_log, table1")


@pytest.mark.usefixtures("shop")
def test_the_wsgi_application_runs() -> None:
    """With the configuration beside it."""
    app = imported("wsgi_app").application
    assert TestApp(app).get("/").json == [
        {"id": 1, "name": "Ann", "email": "ann@example.com"}
    ]
    wrapped = PoolMiddleware(app, Connection.get_pool("default"))
    assert TestApp(wrapped).get("/").json


def test_money_is_moved_or_stays(shop: connection) -> None:
    """The third transfer breaks a rule, the fourth is of no amount."""
    config = imported("dbconfig").config
    config["groups"]["write_pool"] = config["groups"].pop("transactions")
    Connection.init(config)
    transfer = imported("transfer").transfer_funds
    assert transfer(1, 2, 30)
    assert transfer(1, 2, 30)
    assert not transfer(1, 2, 50)
    assert not transfer(1, 2, "nothing")
    balances = "SELECT string_agg(balance::text, ' ' ORDER BY id) FROM accounts"
    assert ask(shop, balances) == "40 60"
    assert ask(shop, "SELECT count(*) FROM transaction_log") == 2


@pytest.mark.usefixtures("shop")
def test_several_servers_serve_as_one(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the replica is down; both groups read and write."""
    monkeypatch.setenv("SHOP_PRIMARY", parse_dsn(dsn)["host"])
    monkeypatch.setenv("SHOP_REPLICA", "127.0.0.9")
    Connection.init(imported("multi_config").config)
    assert held("read_pool")
    assert imported("transfer").transfer_funds(1, 2, 30)


def test_a_process_of_one_thread_needs_no_other() -> None:
    """``non-threaded``, and as many connections as it asks for."""
    Connection.init(imported("process_config").config)
    assert Connection.get_threading_model() == "non-threaded"
    threads = threading.active_count()
    assert held("worker_pool") == held("worker_pool")
    assert threading.active_count() == threads


def test_writers_and_readers_run_side_by_side(dsn: str, shop: connection) -> None:
    """The programs of the example with several servers."""
    groups = {name: {"connection_count": 2} for name in ("writer1", "writer2")}
    groups |= {name: {"connection_count": 4} for name in ("reader1", "reader2")}
    Connection.init(config_of(server_of(dsn), **groups))
    balanced = imported("balanced")
    balanced.insert(10)
    balanced.update(10)
    assert balanced.select(5) == [41] * 15
    assert ask(shop, "SELECT col1 FROM table1 WHERE id = 1") == "9"
    for group in groups:
        assert_at_rest(Connection.get_pool(group))


def test_what_the_manual_calls_the_package_works_too(
    config: Config, admin: connection, table: str
) -> None:
    """``dbpool.Handler``: its own example, which failed with 1.x."""
    dbpool.Connection.init(config)
    with dbpool.Handler("work") as db:
        db.query(f"INSERT INTO {table} (note) VALUES (%s)", ("value1",))
        db.query(f"INSERT INTO {table} (note) VALUES (%s)", ("value2",))
        db.commit()
    assert ask(admin, f"SELECT count(*) FROM {table}") == 2

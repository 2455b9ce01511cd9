"""The demo's shop: its pages, its table, and an order whose COMMIT is cut off."""

import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import psycopg2
import pytest
from werkzeug.test import Client, TestResponse

from pgdbpool.demo.app import DSN_VARIABLE, make_application
from pgdbpool.demo.shop import ORDERS, Shop
from pgdbpool.pool import all_pools
from tests.waiting import until

# A commit that takes its time, for orders under the key "slow".
SLOW_COMMIT = """
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.key = 'slow')
        EXECUTE FUNCTION wait();
"""
CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = %s AND state = 'active' AND query = 'COMMIT'
"""
ORDER = {"customer": 7, "article": 3, "quantity": 2}


@pytest.fixture(scope="module")
def shop(server_dsn: str) -> Iterator[Shop]:
    """Give a filled shop."""
    shop = Shop(server_dsn)
    shop.create(lambda _: None)
    yield shop
    shop.drop()


@pytest.fixture
def client(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Give a client of the shop's application."""
    monkeypatch.setenv(DSN_VARIABLE, shop.dsn)
    before = set(all_pools())
    yield Client(make_application())
    for pool in set(all_pools()) - before:
        pool.close()


def json_of(answer: TestResponse) -> dict[str, Any]:
    """Return the object of an answer."""
    assert isinstance(answer.json, dict)
    return answer.json


def test_probes_and_metrics_are_served_beside_it(client: Client) -> None:
    """All that there is to see of a pool."""
    assert client.get("/livez").status_code == HTTPStatus.OK
    assert client.get("/readyz").json["saturated"] is False
    client.get("/orders/42")
    told = client.get("/metrics").text
    assert 'pgdbpool_hold_seconds_count{pool="shop",route="GET /orders/*"} 1.0' in told


def test_shop_has_the_promised_orders(client: Client) -> None:
    """The shop opens with 100,000 orders."""
    assert json_of(client.get("/revenue"))["orders"] >= ORDERS == 100_000


def test_order_is_shown(client: Client) -> None:
    """An order can be looked at."""
    assert json_of(client.get("/orders/42"))["id"] == 42


def test_what_is_not_there_is_not_found(client: Client) -> None:
    """An unknown order, article or page is a 404."""
    unknown = client.post("/orders", json=ORDER | {"article": 999_999})
    answers = [unknown, client.get("/orders/999999999"), client.get("/nothing")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


@pytest.mark.parametrize("order", [{}, {"customer": "x"}, ORDER | {"quantity": None}])
def test_incomplete_order_is_a_bad_request(
    client: Client, order: dict[str, object]
) -> None:
    """An order that lacks a number is a 400 that says what is needed."""
    answer = client.post("/orders", json=order)
    assert answer.status_code == 400
    assert "quantity" in answer.text


@pytest.mark.parametrize("form", ["json", "data"])
def test_placed_order_is_found_under_its_key(client: Client, form: str) -> None:
    """What was ordered, as JSON or as a form, is found under its key."""
    wanted: dict[str, Any] = {form: ORDER, "headers": {"Idempotency-Key": form}}
    placed = client.post("/orders", **wanted)
    assert placed.status_code == 201
    found = client.get("/orders", query_string={"key": form})
    assert [order["id"] for order in found.json or ()] == [json_of(placed)["id"]]


def test_keys_are_counted_as_they_stand(client: Client, shop: Shop) -> None:
    """A key is counted as often as it was written: twice is seen, not prevented."""
    for key in ("once", "twice", "twice"):
        client.post("/orders", json=ORDER, headers={"Idempotency-Key": key})
    counts = shop.count_keys(["once", "twice", "never"], lambda: None)
    assert counts == {"once": 1, "twice": 2}


def test_all_orders_are_streamed(client: Client) -> None:
    """The CSV has a line for every order and one of names."""
    assert client.get("/orders.csv").text.count("\n") > ORDERS


def test_index_takes_no_connection(client: Client) -> None:
    """Pages that need no database take no connection."""
    client.get("/")
    assert json_of(client.get("/pool")).get("requests_num", 0) == 0


def test_cut_commit_is_admitted(
    client: Client, shop: Shop, admin: psycopg2.extensions.connection
) -> None:
    """An order whose COMMIT was cut off is a 500 that says: unknown."""
    with shop.connect() as conn, conn.cursor() as cur:
        cur.execute(SLOW_COMMIT)
    conn.close()
    answers: list[TestResponse] = []

    def place() -> None:
        headers = {"Idempotency-Key": "slow"}
        answers.append(client.post("/orders", json=ORDER, headers=headers))

    thread = threading.Thread(target=place)
    thread.start()
    with admin.cursor() as cur:

        def is_cut() -> bool:
            cur.execute(CUT, (shop.name,))
            return bool(cur.fetchall())

        until(is_cut, message="the COMMIT is under way")
    thread.join(10)
    (answer,) = answers
    assert answer.status_code == 500
    assert answer.headers["X-Outcome"] == "unknown"
    assert "Retry-After" not in answer.headers

"""`sql_comments`: statements that tell for which route they are."""

from typing import Any

import pytest
from psycopg2 import sql
from psycopg2.extensions import connection, make_dsn
from psycopg2.extras import (
    DictConnection,
    DictCursor,
    RealDictConnection,
    execute_values,
)

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import LOGGED, Heard, ask

ROUTE = "/*route='GET%20%2Forder%2F%2A'*/"

pytestmark = pytest.mark.direct("reads the server's log of a session")


def said_by(
    embedded: EmbeddedPostgres,
    act: Any,  # noqa: ANN401 - what is done with a connection
    request: str | None = "GET /order/17",
    **given: Any,  # noqa: ANN401 - whatever a pool takes
) -> list[str]:
    """Return what a server hears from a request, but for the pool's own."""
    heard = Heard(embedded)
    dsn = make_dsn(embedded.dsn(), options=LOGGED)
    with ConnectionPool(dsn, **{"sql_comments": True, **given}) as pool:
        conn = pool.acquire(request=request)
        backend = conn.info.backend_pid
        act(conn)
        pool.release(conn, conn.hold)
    own = ("BEGIN", "ROLLBACK", "COMMIT", "SHOW", "SELECT CASE WHEN current_setting")
    return [said for said in heard.of(backend) if not said.startswith(own)]


def test_each_statement_of_a_request_tells_its_route(
    embedded: EmbeddedPostgres,
) -> None:
    """As text, as bytes, as a composition, with parameters, one or many."""

    def act(conn: connection) -> None:
        cur = conn.cursor()
        cur.execute("SELECT 1")
        cur.execute(b"SELECT 2")
        cur.execute(sql.SQL("SELECT {}").format(sql.Literal(3)))
        cur.execute("SELECT %s, '100%%'", (4,))
        assert cur.fetchone() == (4, "100%")
        cur.executemany("SELECT %s", [(5,), (6,)])

    said = said_by(embedded, act)

    assert said == [
        *(f"SELECT {number} {ROUTE}" for number in (1, 2, 3)),
        f"SELECT 4, '100%' {ROUTE}",
        *(f"SELECT {number} {ROUTE}" for number in (5, 6)),
    ]


def test_cursors_of_every_kind_tell_it(embedded: EmbeddedPostgres) -> None:
    """The user's, named ones, and those that psycopg2's own helpers use."""

    def act(conn: connection) -> None:
        with conn.cursor(cursor_factory=DictCursor) as cur:
            cur.execute("SELECT 7 AS seven")
            assert cur.fetchone()["seven"] == 7
        with conn.cursor("named") as cur:
            cur.execute("SELECT 8")
            assert cur.fetchall() == [(8,)]
        with conn.cursor() as cur:
            rows = execute_values(
                cur, "SELECT * FROM (VALUES %s) v", [(9,)], fetch=True
            )
            assert rows == [(9,)]

    said = said_by(embedded, act)

    assert said[0] == f"SELECT 7 AS seven {ROUTE}"
    assert said[1].endswith(f"FOR SELECT 8 {ROUTE}")
    assert said[-1].endswith(f"v {ROUTE}")


@pytest.mark.parametrize(
    ("factory", "row"),
    [(DictConnection, [1]), (RealDictConnection, {"one": 1})],
)
def test_a_connection_that_chooses_its_cursors_does_so(
    embedded: EmbeddedPostgres, factory: type, row: object
) -> None:
    """As those of psycopg2.extras."""

    def act(conn: connection) -> None:
        with conn.cursor() as cur:
            cur.execute("SELECT 1 AS one")
            assert cur.fetchone() == row

    said = said_by(embedded, act, kwargs={"connection_factory": factory})
    assert said == [f"SELECT 1 AS one {ROUTE}"]


def test_the_cursor_of_the_pool_is_kept(embedded: EmbeddedPostgres) -> None:
    """Told from the user's by nothing but what it says."""

    def act(conn: connection) -> None:
        with conn.cursor() as cur:
            cur.execute("SELECT 1 AS one")
            assert cur.fetchone()["one"] == 1
            assert isinstance(cur, DictCursor)
            assert type(cur).__name__ == "DictCursor"

    assert said_by(embedded, act, kwargs={"cursor_factory": DictCursor})


@pytest.mark.parametrize(
    "request_line",
    ["GET /a'b", "GET /*/ DROP TABLE x; --", "GET /%s%%", "GET /\N{SNOWMAN}\n"],
)
def test_no_path_ends_the_comment(
    embedded: EmbeddedPostgres, request_line: str
) -> None:
    """Whatever a client asks for."""
    (said,) = said_by(embedded, lambda conn: ask(conn, "SELECT 1"), request_line)
    begin, comment = said.split(" /*", 1)
    assert begin == "SELECT 1"
    assert comment.startswith("route='GET%20%2F")
    assert comment.endswith("'*/")
    assert not set(comment.removesuffix("'*/").removeprefix("route='")) & set("'*/; ")


def test_a_statement_with_a_comment_is_left_alone(embedded: EmbeddedPostgres) -> None:
    """Somebody else has told already."""
    said = said_by(embedded, lambda conn: ask(conn, "SELECT 1 /*mine*/"))
    assert said == ["SELECT 1 /*mine*/"]


def test_what_is_of_no_request_says_nothing(embedded: EmbeddedPostgres) -> None:
    """There is nothing to tell."""
    assert said_by(embedded, lambda conn: ask(conn, "SELECT 1"), None) == ["SELECT 1"]


def test_nothing_is_said_unless_asked_for(embedded: EmbeddedPostgres) -> None:
    """It is a setting."""
    said = said_by(embedded, lambda conn: ask(conn, "SELECT 1"), sql_comments=False)
    assert said == ["SELECT 1"]


def test_a_transaction_pooler_may_stand_between(embedded: EmbeddedPostgres) -> None:
    """A comment outlives nothing."""
    said = said_by(
        embedded, lambda conn: ask(conn, "SELECT 1"), via="transaction-pooler"
    )
    assert f"SELECT 1 {ROUTE}" in said

"""`sql_comments`: statements that tell for which route they are."""

import io
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from psycopg2 import ProgrammingError, sql
from psycopg2.extensions import connection, cursor, make_dsn
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


class Own(cursor):
    """Takes what it likes, by the names that it likes, and adds parameters."""

    def execute(self, sql: str, params: Sequence[object] = (), *, twice: bool = False):  # type: ignore[no-untyped-def,override] # noqa: ANN201 - as users write it
        """Execute, twice if asked to."""
        if twice:
            super().execute(sql, params)
        return super().execute(sql, params)


class Named(cursor):
    """Calls psycopg2's cursor by its name, as an example of its manual does."""

    def execute(self, sql: str, args: object = ()) -> None:  # type: ignore[override]
        """Execute, without a result."""
        cursor.execute(self, sql, args)  # type: ignore[arg-type]


def test_a_cursor_takes_the_arguments_that_it_takes(embedded: EmbeddedPostgres) -> None:
    """Whatever they are called; what counts is what reaches psycopg2."""

    def act(conn: connection) -> None:
        cur: Any = conn.cursor(cursor_factory=Own)
        cur.execute("SELECT 1")
        cur.execute("SELECT %s", params=(2,), twice=True)
        cur.execute(sql="SELECT 3")
        assert cur.fetchone() == (3,)

    said = said_by(embedded, act)
    assert said == [f"SELECT {number} {ROUTE}" for number in (1, 2, 2, 3)]


def test_a_cursor_that_goes_past_the_comments_works(embedded: EmbeddedPostgres) -> None:
    """It says nothing of the route, and parameters are what they were."""

    def act(conn: connection) -> None:
        cur = conn.cursor(cursor_factory=Named)
        cur.execute("SELECT '100%%'")
        assert cur.fetchone() == ("100%",)

    assert said_by(embedded, act) == ["SELECT '100%'"]


def test_a_cursor_is_of_the_users_class_in_all_but_that(
    embedded: EmbeddedPostgres,
) -> None:
    """By its names, and by what it has no room for."""

    def act(conn: connection) -> None:
        kind = type(conn.cursor(cursor_factory=Own))
        assert issubclass(kind, Own)
        assert (kind.__module__, kind.__qualname__) == (__name__, "Own")
        assert type(conn.cursor(cursor_factory=kind)) is kind
        assert not hasattr(conn.cursor(), "__dict__")

    assert said_by(embedded, act) == []


def test_what_is_no_statement_is_refused_by_psycopg2(
    embedded: EmbeddedPostgres,
) -> None:
    """By the error that it has without comments."""

    def act(conn: connection) -> None:
        cur: Any = conn.cursor()
        for wrong in (None, ""):
            with pytest.raises(ProgrammingError, match="empty query"):
                cur.execute(wrong)
        with pytest.raises(TypeError):
            cur.execute(5)

    assert said_by(embedded, act) == []


def test_functions_and_copies_tell_it_too(
    embedded: EmbeddedPostgres, table: str
) -> None:
    """Of a function behind its name, for psycopg2 writes the rest."""

    def act(conn: connection) -> None:
        cur: Any = conn.cursor()
        cur.callproc("pg_backend_pid")
        assert cur.fetchone() == (conn.info.backend_pid,)
        cur.callproc("abs", (1,))
        assert cur.fetchone() == (1,)
        cur.callproc("make_interval", {"days": 2})
        assert cur.fetchone() == (timedelta(days=2),)
        cur.callproc("pg_backend_pid", None)
        cur.copy_expert(f"COPY {table} TO STDOUT", io.StringIO())
        cur.copy_expert(sql.SQL("COPY {} TO STDOUT").format(name), io.StringIO())

    name = sql.Identifier(table)
    assert said_by(embedded, act) == [
        f"SELECT * FROM pg_backend_pid {ROUTE}()",
        f"SELECT * FROM abs {ROUTE}(1)",
        f'SELECT * FROM make_interval {ROUTE}("days":=2)',
        f"SELECT * FROM pg_backend_pid {ROUTE}()",
        f"COPY {table} TO STDOUT {ROUTE}",
        f'COPY "{table}" TO STDOUT {ROUTE}',
    ]


def test_what_psycopg2_makes_up_by_itself_says_nothing(
    embedded: EmbeddedPostgres, table: str
) -> None:
    """As the manual has it."""

    def act(conn: connection) -> None:
        conn.cursor().copy_to(io.StringIO(), table)

    (said,) = said_by(embedded, act)
    assert said.startswith("COPY")
    assert "route=" not in said


@pytest.mark.parametrize("end", ["-- all of them", "-- é", "--"])
def test_a_comment_to_the_end_of_the_line_does_not_swallow_it(
    embedded: EmbeddedPostgres, end: str
) -> None:
    """It stands on a line of its own then."""
    heard: list[str] = []

    def act(conn: connection) -> None:
        for statement in (f"SELECT 1 {end}", f"SELECT 1 {end}".encode()):
            assert ask(conn, statement) == 1  # type: ignore[arg-type]
            heard.append(
                ask(
                    conn,
                    "SELECT split_part(query, chr(10), 2) FROM pg_stat_activity"
                    " WHERE pid = pg_backend_pid() --",
                )
            )

    said_by(embedded, act)
    assert heard == [ROUTE, ROUTE]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT '/*'",
        "SELECT 'it''s /*'",
        r"SELECT E'\'/*', '/*'",
        'SELECT 1 AS "/*"',
        "SELECT $$/*$$",
        "SELECT $of$/*$$/*$of$",
        "SELECT 1 -- /*",
        b"SELECT '/*'",
    ],
)
def test_what_only_looks_like_a_comment_is_none(
    embedded: EmbeddedPostgres, statement: str | bytes
) -> None:
    """In strings of every kind, names, and comments of the other kind."""
    queries: list[bytes] = []

    def act(conn: connection) -> None:
        cur = conn.cursor()
        cur.execute(statement)
        queries.append(cur.query or b"")

    said_by(embedded, act)
    assert queries[0].endswith(ROUTE.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 /*mine*/",
        "/* mine */ SELECT '/*'",
        "SELECT 'a', $$b$$ /*mine*/, \"one\" FROM (SELECT 1 AS one) x",
        "SELECT 1 /*+ a hint */",
    ],
)
def test_a_statement_with_a_comment_is_left_alone(
    embedded: EmbeddedPostgres, statement: str
) -> None:
    """Somebody else has told already."""
    said = said_by(embedded, lambda conn: ask(conn, statement))
    assert said == [statement]


def test_the_rule_of_a_framework_is_told(embedded: EmbeddedPostgres) -> None:
    """Rather than the path, where it is known by then."""

    def act(conn: Any) -> None:  # noqa: ANN401 - one of the pool's
        conn.hold.route = "GET /order/<number>"
        ask(conn, "SELECT 1")

    (said,) = said_by(embedded, act)
    assert said == "SELECT 1 /*route='GET%20%2Forder%2F%3Cnumber%3E'*/"


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

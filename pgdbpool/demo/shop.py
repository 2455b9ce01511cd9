"""The small shop: its tables, how they are filled, and what is in them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import extensions, sql

from pgdbpool.demo.errors import DemoError
from pgdbpool.errors import SettingsError
from pgdbpool.routing.hosts import split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from psycopg2.extensions import connection

ORDERS = 100_000
ARTICLES = 1_000
CUSTOMERS = 5_000
CHUNK = 5_000
KEYS_A_QUERY = 5_000

TABLES = """
    CREATE TABLE articles (
        id integer PRIMARY KEY,
        name text NOT NULL,
        price_cents integer NOT NULL,
        sold bigint NOT NULL DEFAULT 0
    );
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        customer integer NOT NULL,
        article integer NOT NULL,
        quantity integer NOT NULL,
        key text,
        placed_at timestamptz NOT NULL DEFAULT now()
    );
"""
FILL_ARTICLES = """
    INSERT INTO articles (id, name, price_cents)
    SELECT n, 'article ' || n, 100 + mod(n * 37, 9900) FROM generate_series(1, %s) n
"""
FILL_ORDERS = """
    INSERT INTO orders (customer, article, quantity, placed_at)
    SELECT 1 + mod(n * 7, %(customers)s), 1 + mod(n * 13, %(articles)s), 1 + mod(n, 5),
           now() - (%(orders)s - n) * interval '1 second'
    FROM generate_series(%(first)s, %(last)s) n
"""
# The key is indexed and, on purpose, not unique: an order placed twice must be
# seen by the demo, not prevented by it.
INDEXES = """
    CREATE INDEX ON orders (customer, id);
    CREATE INDEX ON orders (key) WHERE key IS NOT NULL;
    ALTER TABLE orders ADD FOREIGN KEY (article) REFERENCES articles;
    ANALYZE articles, orders;
"""
COUNT_KEYS = "SELECT key, count(*) FROM orders WHERE key = ANY(%s) GROUP BY key"


class Shop:
    """A shop in a schema of its own, in somebody's database.

    Its own sessions are plain ones of the driver: what judges the pool must not
    be served by it.
    """

    def __init__(self, server_dsn: str) -> None:
        """Choose the name of the schema; nothing is created yet.

        Args:
            server_dsn: Where the database is, as a DSN or URL.

        Raises:
            DemoError: The DSN does not parse.
        """
        self.name = f"pgdbpool_demo_{secrets.token_hex(4)}"
        try:
            given = extensions.parse_dsn(server_dsn)
        except psycopg2.ProgrammingError:
            # Whose text may quote a password.
            raise DemoError(
                "--dsn: neither a DSN nor a URL that libpq can parse"
            ) from None
        self.addresses = _addresses(given)
        options = f"{given.get('options', '')} -c search_path={self.name}"
        self.dsn: str = extensions.make_dsn(
            server_dsn,
            options=options.strip(),
            connect_timeout=given.get("connect_timeout", "5"),
            application_name=self.name,
        )

    def create(self, progress: Callable[[int], object]) -> None:
        """Create and fill the tables; blocks for about a second.

        Args:
            progress: Called with the number of orders there so far; what it
                raises ends the filling.
        """
        schema = sql.Identifier(self.name)
        with self._session() as conn, conn.cursor() as cur:
            cur.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            cur.execute(TABLES)
            cur.execute(FILL_ARTICLES, (ARTICLES,))
            for first in range(1, ORDERS + 1, CHUNK):
                last = min(first + CHUNK - 1, ORDERS)
                cur.execute(FILL_ORDERS, _bounds(first, last))
                progress(last)
            cur.execute(INDEXES)

    def drop(self) -> None:
        """Remove the schema and everything in it; waits 5 s for locks at most."""
        schema = sql.Identifier(self.name)
        with self._session() as conn, conn.cursor() as cur:
            cur.execute("SET LOCAL lock_timeout = '5s'")
            cur.execute("SET LOCAL client_min_messages = warning")
            cur.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))

    def count_keys(
        self, keys: Sequence[str], progress: Callable[[], object]
    ) -> dict[str, int]:
        """Return how many orders each key has; keys without any are left out."""
        counts: dict[str, int] = {}
        with self._session() as conn, conn.cursor() as cur:
            for first in range(0, len(keys), KEYS_A_QUERY):
                progress()
                cur.execute(COUNT_KEYS, (list(keys[first : first + KEYS_A_QUERY]),))
                counts.update(cur.fetchall())
        return counts

    def connect(self, **more: object) -> connection:
        """Open a session of the demo's own, told from those that serve. Blocks.

        Args:
            more: Parameters of libpq that replace the DSN's.

        Raises:
            psycopg2.OperationalError: The server is not to be reached.
        """
        own = {"application_name": "pgdbpool demo", **more}
        return psycopg2.connect(extensions.make_dsn(self.dsn, **own))

    def _session(self) -> _Session:
        # libpq passes standbys over; with one server it has no choice to make.
        choice = {"target_session_attrs": "read-write"} if self.addresses[1:] else {}
        return _Session(self.connect(**choice))


class _Session:
    """One session and one transaction, closed at its end.

    psycopg2's own ``with conn`` ends the transaction and leaves the session open.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def __enter__(self) -> connection:
        return self._conn.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._conn.__exit__(kind, error, traceback)
        finally:
            self._conn.close()


def _addresses(given: dict[str, str]) -> list[dict[str, str]]:
    """Return what to replace in a DSN to reach each of its servers alone."""
    try:
        servers = split(given)
    except SettingsError as error:
        raise DemoError(f"--dsn: {error}") from None
    keys = ("host", "hostaddr", "port")
    return [{key: one[key] for key in keys if key in one} for one in servers]


def _bounds(first: int, last: int) -> dict[str, int]:
    return {
        "first": first,
        "last": last,
        "orders": ORDERS,
        "customers": CUSTOMERS,
        "articles": ARTICLES,
    }

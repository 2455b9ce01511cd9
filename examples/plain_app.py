"""Notes, with nothing but WSGI.

    export PGDBPOOL_CONNINFO=postgresql://app@localhost/shop
    gunicorn -c examples/gunicorn.conf.py examples.plain_app:app
    curl localhost:8000
    curl localhost:8000 -d 'buy milk'

GET shows the latest notes. POST adds one for each line, all of them or none: an
empty line breaks a rule of the table, and the request is rolled back.
"""

from collections.abc import Callable
from typing import Any

from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolMiddleware

# Workers that start together would trip over each other without the lock.
SCHEMA = """
    SELECT pg_advisory_xact_lock(hashtext('notes'));
    CREATE TABLE IF NOT EXISTS notes (
        id serial PRIMARY KEY, note text NOT NULL CHECK (note <> '')
    )
"""


def create_table(conn: connection) -> None:
    """Create the table on each new connection, unless it is there."""
    with conn, conn.cursor() as cur:
        cur.execute(SCHEMA)


def show(conn: connection) -> str:
    """Return the latest notes."""
    with conn.cursor() as cur:
        cur.execute("SELECT note FROM notes ORDER BY id DESC LIMIT 20")
        return "".join(f"{note}\n" for (note,) in cur)


def add(conn: connection, notes: list[str]) -> None:
    """Add some notes."""
    with conn.cursor() as cur:
        for note in notes:
            cur.execute("INSERT INTO notes (note) VALUES (%s)", (note,))


def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer one request, which is one transaction."""
    conn = environ["pgdbpool.conn"]
    if environ["REQUEST_METHOD"] == "POST":
        length = int(environ.get("CONTENT_LENGTH") or 0)
        add(conn, environ["wsgi.input"].read(length).decode().splitlines())
    body = show(conn).encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
    ]
    start_response("200 OK", headers)
    return [body]


pool = ConnectionPool.from_env(configure=create_table)
app = PoolMiddleware(serve, pool)

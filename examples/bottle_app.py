"""Notes, with Bottle.

    export PGDBPOOL_CONNINFO=postgresql://app@localhost/shop
    gunicorn -c examples/gunicorn.conf.py examples.bottle_app:app
    curl localhost:8000
    curl localhost:8000 -d 'buy milk'

GET shows the latest notes. POST adds one for each line, all of them or none: an
empty line breaks a rule of the table, and the request is rolled back.
"""

from bottle import Bottle, request, response
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


bottle = Bottle()


@bottle.get("/")
def show() -> str:
    """Show the latest notes."""
    response.content_type = "text/plain; charset=utf-8"
    with request.environ["pgdbpool.conn"].cursor() as cur:
        cur.execute("SELECT note FROM notes ORDER BY id DESC LIMIT 20")
        return "".join(f"{note}\n" for (note,) in cur)


@bottle.post("/")
def add() -> str:
    """Add the notes, then show them."""
    with request.environ["pgdbpool.conn"].cursor() as cur:
        for note in request.body.read().decode().splitlines():
            cur.execute("INSERT INTO notes (note) VALUES (%s)", (note,))
    return show()


pool = ConnectionPool.from_env(configure=create_table)
app = PoolMiddleware(bottle, pool)

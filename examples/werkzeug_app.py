"""Notes, with Werkzeug.

    export PGDBPOOL_CONNINFO=postgresql://app@localhost/shop
    gunicorn -c examples/gunicorn.conf.py examples.werkzeug_app:app
    curl localhost:8000
    curl localhost:8000 -d 'buy milk'

GET shows the latest notes. POST adds one for each line, all of them or none: an
empty line breaks a rule of the table, and the request is rolled back.
"""

from psycopg2.extensions import connection
from werkzeug import Request, Response

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


@Request.application
def serve(request: Request) -> Response:
    """Answer one request, which is one transaction."""
    with request.environ["pgdbpool.conn"].cursor() as cur:
        if request.method == "POST":
            for note in request.get_data(as_text=True).splitlines():
                cur.execute("INSERT INTO notes (note) VALUES (%s)", (note,))
        cur.execute("SELECT note FROM notes ORDER BY id DESC LIMIT 20")
        return Response([f"{note}\n" for (note,) in cur])


pool = ConnectionPool.from_env(configure=create_table)
app = PoolMiddleware(serve, pool)

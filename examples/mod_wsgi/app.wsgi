"""Notes under Apache's mod_wsgi; apache.conf beside this file is to be included.

Every GET shows the latest notes, and every POST adds one:

    curl localhost -d 'buy milk'
"""

from pgdbpool import ConnectionPool, PoolMiddleware

# Processes that start together would trip over each other without the lock.
SCHEMA = """
    SELECT pg_advisory_xact_lock(hashtext('notes'));
    CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, note text NOT NULL)
"""


def create_table(conn):
    """Create the table on each new connection, unless it is there."""
    with conn, conn.cursor() as cur:
        cur.execute(SCHEMA)


def serve(environ, start_response):
    """Answer one request, which is one transaction."""
    with environ["pgdbpool.conn"].cursor() as cur:
        if environ["REQUEST_METHOD"] == "POST":
            note = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
            cur.execute("INSERT INTO notes (note) VALUES (%s)", (note,))
        cur.execute("SELECT note FROM notes ORDER BY id DESC LIMIT 20")
        body = "".join(f"{note}\n" for (note,) in cur).encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [body]


# A process of one thread needs one connection, and a pool without threads.
pool = ConnectionPool.from_env(threaded=False, max_size=1, configure=create_table)
application = PoolMiddleware(serve, pool)

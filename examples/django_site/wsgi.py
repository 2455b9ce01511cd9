"""Notes, with Django: a whole project in one file.

    export PGDBPOOL_CONNINFO=postgresql://app@localhost/shop
    gunicorn -c examples/gunicorn.conf.py examples.django_site.wsgi
    curl localhost:8000
    curl localhost:8000 -d 'buy milk'

GET shows the latest notes. POST adds one for each line, all of them or none: an
empty line breaks a rule of the table, and the request is rolled back.

Django's models have connections of their own. This is for views that speak SQL,
beside models or without any.
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_http_methods
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


@require_http_methods(["GET", "POST"])
def notes(request: HttpRequest) -> HttpResponse:
    """Add notes, if there are any to add, and show the latest."""
    with request.environ["pgdbpool.conn"].cursor() as cur:
        if request.method == "POST":
            for note in request.body.decode().splitlines():
                cur.execute("INSERT INTO notes (note) VALUES (%s)", (note,))
        cur.execute("SELECT note FROM notes ORDER BY id DESC LIMIT 20")
        lines = [f"{note}\n" for (note,) in cur]
    return HttpResponse(lines, content_type="text/plain; charset=utf-8")


urlpatterns = [path("", notes)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"])

pool = ConnectionPool.from_env(configure=create_table)
application = PoolMiddleware(get_wsgi_application(), pool)

"""The middleware around Flask, Django, Bottle, Werkzeug and plain applications.

Each serves the same five pages; WebTest asks for them, and checks with its lint
that the responses are what PEP 3333 wants.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import bottle
import django
import flask
import pytest
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from psycopg2.extensions import connection
from werkzeug.wrappers import Request, Response

from pgdbpool.demo.postgres import free_port
from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.proxy import ConnectionProxy
from pgdbpool.wsgi.rules import Application, Environ, StartResponse
from tests.webtesting import TestApp, TestResponse

Pages = dict[str, Callable[[ConnectionProxy], str | Iterator[str]]]


def _store(conn: ConnectionProxy) -> str:
    with conn.cursor() as cur:
        cur.execute("INSERT INTO frameworks (note) VALUES ('mine')")
    return "stored"


def _fail(conn: ConnectionProxy) -> str:
    _store(conn)
    raise LookupError("no such order")


def _lose(conn: ConnectionProxy) -> str:
    _store(conn)
    with conn.cursor() as cur:
        cur.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    return "unreachable"


def _stream(conn: ConnectionProxy) -> Iterator[str]:
    with conn.cursor("rows") as cur:
        cur.execute("SELECT generate_series(1, 5000)")
        for (number,) in cur:
            yield f"{number}\n"


PAGES: Pages = {"store": _store, "fail": _fail, "lose": _lose, "stream": _stream}


def make_flask() -> Application:
    """Return the pages in Flask, which makes a 500 of every exception."""
    app = flask.Flask("shop")

    @app.route("/<page>", methods=["GET", "POST"])
    def show(page: str) -> str | Iterator[str]:
        if page == "static":
            return "static"
        return PAGES[page](flask.request.environ["pgdbpool.conn"])

    return app.wsgi_app


def make_bottle() -> Application:
    """Return the pages in Bottle, which makes a 500 of every exception."""
    app = bottle.Bottle()

    @app.route("/<page>", method=["GET", "POST"])
    def show(page: str) -> str | Iterator[str]:
        if page == "static":
            return "static"
        return PAGES[page](bottle.request.environ["pgdbpool.conn"])

    return app


def _django_view(
    request: HttpRequest, page: str
) -> HttpResponse | StreamingHttpResponse:
    if page == "static":
        return HttpResponse("static")
    content = PAGES[page](request.environ["pgdbpool.conn"])
    if isinstance(content, str):
        return HttpResponse(content)
    return StreamingHttpResponse(content)


urlpatterns = [path("<page>", _django_view)]


def make_django() -> Application:
    """Return the pages in Django, which makes a 500 of every exception."""
    if not django_settings.configured:
        django_settings.configure(
            ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING={}
        )
        django.setup()
    return WSGIHandler()


@Request.application
def _werkzeug(request: Request) -> Response:
    page = request.path.strip("/")
    if page == "static":
        return Response("static")
    return Response(PAGES[page](request.environ["pgdbpool.conn"]))


def make_werkzeug() -> Application:
    """Return the pages in Werkzeug, which lets exceptions through."""
    return _werkzeug


def plain(environ: Environ, start: StartResponse) -> Iterable[bytes]:
    """Serve the pages without anything."""
    page = environ["PATH_INFO"].strip("/")
    content = page if page == "static" else PAGES[page](environ["pgdbpool.conn"])
    start("200 OK", [("Content-Type", "text/plain")])
    if isinstance(content, str):
        return [content.encode()]
    return (line.encode() for line in content)


MAKERS = {
    "bottle": make_bottle,
    "django": make_django,
    "flask": make_flask,
    "plain": lambda: plain,
    "werkzeug": make_werkzeug,
}


@pytest.fixture(params=sorted(MAKERS))
def app(request: pytest.FixtureRequest) -> Application:
    """Return the pages, in one framework after the other."""
    return MAKERS[request.param]()


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of one connection."""
    with ConnectionPool(dsn, max_size=1, timeout=5.0) as pool:
        yield pool


@pytest.fixture
def client(
    app: Application, pool: ConnectionPool, admin: connection
) -> Iterator[TestApp]:
    """Give a client of the pages, and the table they store to."""
    with admin.cursor() as cur:
        cur.execute("CREATE TABLE frameworks (note text)")
    yield TestApp(PoolMiddleware(app, pool))
    with admin.cursor() as cur:
        cur.execute("DROP TABLE frameworks")


def post(client: TestApp, page: str) -> TestResponse:
    """Return the answer, whatever its status and whatever the framework logged."""
    return client.post(page, expect_errors=True)


def stored(admin: connection) -> int:
    """Return how many rows have been committed."""
    with admin.cursor() as cur:
        cur.execute("SELECT count(*) FROM frameworks")
        return int(cur.fetchone()[0])


def test_a_page_that_succeeds_is_committed(
    client: TestApp, admin: connection, pool: ConnectionPool
) -> None:
    """And its connection is back before the next request."""
    for _ in range(2):
        assert client.post("/store").text == "stored"
        assert pool.get_stats()["pool_available"] == 1
    assert stored(admin) == 2


def test_a_page_that_fails_is_rolled_back(
    client: TestApp, admin: connection, pool: ConnectionPool
) -> None:
    """The framework's 500 or the app's own exception, as without us."""
    with contextlib.suppress(LookupError):
        assert post(client, "/fail").status_int == 500
    assert stored(admin) == 0
    assert pool.get_stats()["pool_available"] == 1


def test_a_page_that_loses_its_session_is_answered_503(
    client: TestApp, admin: connection
) -> None:
    """Also where the framework has made a 500 of it, and the next page is served."""
    answer = post(client, "/lose")
    assert (answer.status_int, answer.headers["Retry-After"]) == (503, "1")
    assert stored(admin) == 0
    assert client.post("/store").text == "stored"


def test_a_stream_selects_while_it_is_sent(
    client: TestApp, pool: ConnectionPool
) -> None:
    """Out of a server-side cursor, in the request's transaction (row 10)."""
    assert client.get("/stream").text.split() == [str(n) for n in range(1, 5001)]
    assert pool.get_stats()["pool_available"] == 1


def test_pages_without_a_database_outlive_its_outage(app: Application) -> None:
    """They are served; the others are answered 503 and say so in time."""
    dsn = f"host=127.0.0.1 port={free_port()} dbname=nowhere user=nobody"
    with ConnectionPool(dsn, timeout=0.2, grace=0.0) as pool:
        client = TestApp(PoolMiddleware(app, pool))
        assert client.get("/static").text == "static"
        answer = post(client, "/store")
        assert (answer.status_int, answer.headers["Retry-After"]) == (503, "1")
        assert client.get("/static").text == "static"

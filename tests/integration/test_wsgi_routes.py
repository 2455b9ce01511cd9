"""The route of a request is its framework's, which has no secret in it."""

import json
import sys
from collections.abc import Callable, Iterator

import bottle
import flask
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path, re_path

from pgdbpool import ConnectionPool, PoolMiddleware
from pgdbpool.status.service import state_of
from tests.asking import ask
from tests.integration.test_wsgi_frameworks import make_django
from tests.webtesting import TestApp

TOKEN = "c4k3xn-abcdefgh"
PATH = f"/accounts/reset/MQ/{TOKEN}/"
SEEN: list[str] = []


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool that is observed, and Django these pages."""
    SEEN.clear()
    make_django()
    with (
        ConnectionPool(dsn, observe=True, name="shop") as pool,
        override_settings(ROOT_URLCONF=sys.modules[__name__]),
    ):
        yield pool


def use(environ: dict[str, object], pool: ConnectionPool) -> str:
    """Use the connection of a request, and look at what is told of it meanwhile."""
    ask(environ["pgdbpool.conn"], "SELECT 1")  # type: ignore[arg-type]
    SEEN.append(json.dumps(state_of(pool)))
    return "done"


def of_django(request: HttpRequest, **_: str) -> HttpResponse:
    """Serve a page of Django's."""
    environ = request.environ  # type: ignore[attr-defined]
    return HttpResponse(use(environ, environ["pgdbpool.pool"]))


urlpatterns = [
    path(
        "accounts/",
        include(
            [
                path("reset/<uidb64>/<token>/", of_django),
                re_path(r"^mail/(?P<address>[^/]+)/$", of_django),
            ]
        ),
    ),
]


def flask_app() -> Callable[..., object]:
    """Return the page in Flask."""
    app = flask.Flask("shop")

    @app.route("/accounts/reset/<uidb64>/<token>/")
    def reset(uidb64: str, token: str) -> str:
        assert (uidb64, token) == ("MQ", TOKEN)
        environ = flask.request.environ
        return use(environ, environ["pgdbpool.pool"])

    return app.wsgi_app


def bottle_app() -> Callable[..., object]:
    """Return the page in Bottle."""
    app = bottle.Bottle()

    @app.route("/accounts/reset/<uidb64>/<token>/")
    def reset(uidb64: str, token: str) -> str:
        assert (uidb64, token) == ("MQ", TOKEN)
        environ = bottle.request.environ
        return use(environ, environ["pgdbpool.pool"])

    return app


@pytest.mark.parametrize("make", [flask_app, bottle_app, make_django])
def test_the_route_of_a_framework_is_told_and_no_token(
    pool: ConnectionPool, make: Callable[[], Callable[..., object]]
) -> None:
    """While it is held, and in the counts afterwards."""
    app = PoolMiddleware(make(), pool)  # type: ignore[arg-type]
    assert TestApp(app).get(PATH).text == "done"

    rule = "GET /accounts/reset/<uidb64>/<token>/"
    assert pool.snapshot().routes.keys() == {rule}
    (seen,) = SEEN
    assert json.dumps(rule) in seen
    assert TOKEN not in seen


def test_a_regular_expression_of_django_is_told_like_a_path(
    pool: ConnectionPool,
) -> None:
    """By the names in it."""
    app = PoolMiddleware(make_django(), pool)
    TestApp(app).post("/accounts/mail/ann@example.org/")

    assert pool.snapshot().routes.keys() == {"POST /accounts/mail/<address>/"}
    assert "ann@" not in SEEN[0]

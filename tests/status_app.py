"""The application of `tests.gunicorn_app` with the status page and the probes.

Its token, if it has one, is STATUS_TOKEN. ``/leak`` keeps a connection, which ``/mend``
of the same worker gives back. With STATUS_BUTTON the page has a button of that name,
which fails.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pgdbpool.pool import ConnectionPool
from pgdbpool.status import HealthApp, StatusApp
from tests import gunicorn_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from pgdbpool import PooledConnection

PAGE = "/_pgdbpool"
# The token of each.
TENANTS = {"a": "token of tenant a", "b": "token of tenant b"}

_kept: list[PooledConnection] = []


def leak(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Keep a connection, and forget about it."""
    _kept.append(gunicorn_app.make_pool().getconn())
    return _say(environ, start_response)


def mend(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Give back what this worker has kept."""
    while _kept:
        gunicorn_app.make_pool().putconn(_kept.pop())
    return _say(environ, start_response)


def _say(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def _fail() -> None:
    raise ProcessLookupError


def make_two() -> WSGIApplication:
    """Return an application with a page for each of two tenants."""
    dsn = os.environ["APP_DSN"]
    pages = {
        f"/{name}": StatusApp(ConnectionPool(dsn, name=f"tenant-{name}"), token=token)
        for name, token in TENANTS.items()
    }
    return DispatcherMiddleware(gunicorn_app.eager(), pages)


def make() -> WSGIApplication:
    """Return all of it; each worker makes one when it loads the application."""
    pool = gunicorn_app.make_pool()
    token = os.environ.get("STATUS_TOKEN")
    button = os.environ.get("STATUS_BUTTON")
    actions = {} if button is None else {button: _fail}
    return DispatcherMiddleware(
        gunicorn_app.eager(),
        {
            PAGE: StatusApp(pool, token=token, actions=actions),
            "/health": HealthApp(pool),
            "/leak": leak,
            "/mend": mend,
        },
    )

"""The application of `tests.gunicorn_app`, with its probes on a port of their own too.

The port is APP_LISTENER.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pgdbpool.status import HealthApp, Listener
from tests import gunicorn_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def who(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say which process answers."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def make() -> WSGIApplication:
    """Return the application, and have the probes served beside it."""
    health = HealthApp(gunicorn_app.make_pool())
    beside = DispatcherMiddleware(who, {"/health": health})
    Listener(beside, int(os.environ["APP_LISTENER"]))
    return DispatcherMiddleware(gunicorn_app.eager(), {"/health": health})

"""Which route a framework has found for a request."""

from collections.abc import Mapping
from typing import Any


def route_of(environ: Mapping[str, Any]) -> str | None:
    """Return method and rule, as ``GET /item/<name>``; None: nobody tells.

    Flask leaves its request in the environment through Werkzeug, Bottle its route.
    """
    request, route = environ.get("werkzeug.request"), environ.get("bottle.route")
    for found in (getattr(request, "url_rule", None), route):
        rule = getattr(found, "rule", None)
        if isinstance(rule, str):
            return f"{environ.get('REQUEST_METHOD', '')} {rule}"
    return None

"""The HTML of the status page, and the files it brings along."""

from __future__ import annotations

from importlib import resources
from typing import Final

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

import pgdbpool

# What a browser may load and do: our own files, and no code or style in the page.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not none at all: browsers would send a form with "Origin: null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Those that can be asked for, and no other file of the folder.
FILES: Final = {
    "cells.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "panels.js": "text/javascript; charset=utf-8",
    "status.css": "text/css; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "sums.js": "text/javascript; charset=utf-8",
    "tip.js": "text/javascript; charset=utf-8",
    "uplot/uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uplot/uPlot.min.css": "text/css; charset=utf-8",
}


class Page:
    """Renders the templates of this folder.

    Raises:
        ImportError: jinja2 is missing; the message says how to install it.
    """

    def __init__(self) -> None:
        try:
            import jinja2  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ImportError(
                "the status page needs jinja2: pip install 'pgdbpool[status]'"
            ) from error
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("pgdbpool.status"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, name: str, status: int = 200, **variables: object) -> Response:
        """Return a page."""
        template = self._templates.get_template(name)
        body = template.render(version=pgdbpool.__version__, **variables)
        response = Response(body, status, content_type="text/html; charset=utf-8")
        response.headers["Cache-Control"] = "no-store"
        return response


def file(name: str) -> Response:
    """Return one of the page's files.

    Raises:
        NotFound: it has no such file.
    """
    kind = FILES.get(name)
    if kind is None:
        raise NotFound(f"there is no file {name!r}")
    body = (resources.files("pgdbpool.status") / "static" / name).read_bytes()
    response = Response(body, content_type=kind)
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return response

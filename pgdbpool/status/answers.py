"""What the endpoints of this folder have in common: plain words, nothing kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterable

READING: Final = ("GET", "HEAD")


def check_method(request: Request, methods: Iterable[str] = READING) -> None:
    """Refuse a method that is not among those given.

    Raises:
        MethodNotAllowed: with the header that names them.
    """
    if request.method not in methods:
        raise MethodNotAllowed(methods, f"{request.method} is not for this address")


def as_json(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever json takes
    """Return a response that no cache keeps."""
    body = json.dumps(content, separators=(",", ":")) + "\n"
    response = Response(body, status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def in_words(error: HTTPException) -> Response:
    """Return an error as one line of plain text."""
    text = f"{error.code} {error.name}: {error.description}\n"
    response = Response(text, error.code, content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers.add(name, value)
    return response

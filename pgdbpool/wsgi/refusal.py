"""The 503 that says: nothing was committed, try again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from werkzeug.datastructures import Headers
from werkzeug.exceptions import ServiceUnavailable

if TYPE_CHECKING:
    from typing_extensions import Self

# For strangers: the cause is for the operator, who finds it in the log.
TEXT = b"The service is not available for the moment. Please try again.\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A response made once and sent many times."""

    status: str
    headers: tuple[tuple[str, str], ...]
    text: bytes

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Return the 503 that asks the client to come back after ``seconds``."""
        error = ServiceUnavailable(retry_after=seconds)
        headers = Headers(error.get_headers())
        headers["Content-Type"] = "text/plain; charset=utf-8"
        headers["Content-Length"] = str(len(TEXT))
        headers["Cache-Control"] = "no-store"
        return cls(f"{error.code} {error.name}", tuple(headers.to_wsgi_list()), TEXT)

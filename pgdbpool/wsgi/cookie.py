"""A value that a browser keeps for us, signed with itsdangerous."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from itsdangerous import BadSignature, TimestampSigner
from werkzeug.http import dump_cookie, parse_cookie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgdbpool.wsgi.rules import Environ


class _Signer(TimestampSigner):
    """A signer whose clock is a parameter."""

    default_digest_method = staticmethod(hashlib.sha256)
    clock: Callable[[], float]

    def get_timestamp(self) -> int:
        """Return the time in whole seconds."""
        return int(self.clock())


class SignedCookie:
    """A cookie whose value is ours, and recent, or is not heeded.

    Args:
        name: the cookie's.
        secret_keys: what it is signed with, the oldest first. The last one signs,
            each of them is believed.
        max_age: how long it is kept and believed; seconds.
        is_secure: send it over HTTPS only; None where the request came by it.
        clock: tells the time; seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        secret_keys: list[str],
        max_age: float,
        is_secure: bool | None,  # noqa: FBT001 - None makes three
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._max_age = math.ceil(max_age)
        self._is_secure = is_secure
        self._signer = _Signer(secret_keys, salt=f"pgdbpool.wsgi {name}")
        self._signer.clock = clock

    def values(self, environ: Environ) -> Iterator[str]:
        """Yield what came with the request and can be believed."""
        header = environ.get("HTTP_COOKIE", "")
        if self.name not in header:
            return
        # Werkzeug takes UTF-8, and raises for what others put there. Ours is ASCII.
        readable = header.encode("ascii", "replace").decode()
        for signed in parse_cookie(readable).getlist(self.name):
            try:
                value, at = self._signer.unsign(signed, return_timestamp=True)
            except BadSignature:
                continue
            # Also of a server whose clock is ahead, which unsign() by itself refuses.
            if abs(self._signer.get_timestamp() - at.timestamp()) <= self._max_age:
                yield value.decode()

    def header(self, environ: Environ, value: str) -> tuple[str, str]:
        """Return the header that makes the browser keep ``value``."""
        is_secure = self._is_secure
        if is_secure is None:
            is_secure = environ.get("wsgi.url_scheme") == "https"
        cookie = dump_cookie(
            self.name,
            self._signer.sign(value).decode(),
            max_age=self._max_age,
            path="/",
            secure=is_secure,
            httponly=True,
            samesite="Lax",
        )
        return "Set-Cookie", cookie

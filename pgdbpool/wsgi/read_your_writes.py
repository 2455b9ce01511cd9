"""Read-your-writes: how far a client must see travels with the client.

After a COMMIT the primary says how long its WAL is. The client keeps that position
for a while and brings it along, and a standby serves it only after it has replayed
that much. Nothing is kept on our side, so any worker on any machine can serve the
next request.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from pgdbpool.errors import SettingsError

if TYPE_CHECKING:
    from pgdbpool.wsgi.cookie import SignedCookie
    from pgdbpool.wsgi.rules import Environ, Headers

# PostgreSQL's own text of a WAL position (manual, "pg_lsn Type").
POSITION: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")

# RFC 6265, section 4.1.1, without the marks that nobody uses in a cookie's name.
COOKIE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")

# What survives the way into environ and back.
HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")


class ReadYourWrites:
    """Let a client's reads see what the client wrote, whichever standby serves it.

    The position travels in a signed cookie, in a header, or in both. The cookie is
    for browsers: HttpOnly, SameSite=Lax, Path=/. The header is for API clients,
    which send back what they got last; it is not signed. What is forged, expired
    or no position at all is ignored.

    Args:
        secret_key: what the cookie is signed with. A list rotates: the oldest key
            comes first, the last one signs, each is believed.
        cookie: the cookie's name; None for no cookie, and then no secret key. Each
            middleware of a stack needs a name of its own.
        header: the header's name, such as ``X-Written``; None for no header.
        max_age: for how long a client is remembered to have written; seconds. Long
            enough for the standbys to catch up, so at least the pool's ``max_lag``.
        secure: whether the cookie goes over HTTPS only; None: if the request did.
        clock: tells the time; seconds since the epoch.

    Raises:
        SettingsError: an argument is wrong; the message names it.
        ImportError: a cookie needs itsdangerous; the message says how to install it.
    """

    def __init__(
        self,
        secret_key: str | Sequence[str] | None = None,
        *,
        cookie: str | None = "pgdbpool_written",
        header: str | None = None,
        max_age: float = 15.0,
        secure: bool | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_names(cookie, header)
        _check_max_age(max_age)
        if secure is not None and not isinstance(secure, bool):
            raise SettingsError(f"secure: must be bool or None, not {secure!r}")
        self._cookie: SignedCookie | None = None
        if cookie is not None:
            keys = _checked_keys(secret_key)
            self._cookie = _signed_cookie()(cookie, keys, max_age, secure, clock)
        elif secret_key is not None:
            raise SettingsError("secret_key: signs the cookie, and there is none")
        self._header = header
        self._environ_key = None if header is None else _environ_key(header)

    def brought(self, environ: Environ) -> int | None:
        """Return the position that came with a request; None if there is none."""
        texts: list[str] = []
        if self._environ_key is not None:
            texts.append(environ.get(self._environ_key, ""))
        if self._cookie is not None:
            texts += self._cookie.values(environ)
        return max(map(_position, texts), default=0) or None

    def headers(self, environ: Environ, position: int) -> Headers:
        """Return the headers that make the client bring ``position`` along."""
        text = f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
        headers = []
        if self._cookie is not None:
            headers.append(self._cookie.header(environ, text))
        if self._header is not None:
            headers.append((self._header, text))
        return headers

    def __repr__(self) -> str:
        """Return how the position travels, without the secret."""
        cookie = None if self._cookie is None else self._cookie.name
        return f"<ReadYourWrites cookie={cookie!r} header={self._header!r}>"


def _position(text: str) -> int:
    """Return a position in bytes; 0 for what is none."""
    found = POSITION.fullmatch(text)
    return 0 if found is None else int(found[1], 16) << 32 | int(found[2], 16)


def _environ_key(header: str) -> str:
    """Return where a server puts a request's header (PEP 3333, "environ Variables")."""
    return f"HTTP_{header.upper().replace('-', '_')}"


def _signed_cookie() -> type[SignedCookie]:
    try:
        from pgdbpool.wsgi.cookie import SignedCookie  # noqa: PLC0415 - optional
    except ImportError:
        raise ImportError(
            "ReadYourWrites signs its cookie with itsdangerous: "
            "pip install 'pgdbpool[cookies]', or give cookie=None and a header"
        ) from None
    return SignedCookie


def _check_names(cookie: object, header: object) -> None:
    if cookie is None and header is None:
        raise SettingsError("cookie: must be given where header is None")
    _check_name("cookie", cookie, COOKIE_NAME)
    _check_name("header", header, HEADER_NAME)


def _check_name(setting: str, name: object, form: re.Pattern[str]) -> None:
    if name is None:
        return
    if not isinstance(name, str) or not form.fullmatch(name):
        raise SettingsError(f"{setting}: must be the name of one, not {name!r}")


def _check_max_age(max_age: object) -> None:
    if isinstance(max_age, bool) or not isinstance(max_age, (int, float)):
        raise SettingsError(f"max_age: must be seconds, not {max_age!r}")
    if not 0 < max_age < math.inf:
        raise SettingsError(f"max_age: must not be {max_age}")


def _checked_keys(secret_key: object) -> list[str]:
    """Return the keys as a list; what is wrong with them is told without them."""
    keys = [secret_key] if isinstance(secret_key, str) else secret_key
    if not isinstance(keys, (list, tuple)) or not keys:
        kind = type(secret_key).__name__
        raise SettingsError(f"secret_key: must be str or a list of them, not {kind}")
    if not all(isinstance(key, str) and key for key in keys):
        raise SettingsError("secret_key: must not contain an empty one, or no str")
    return list(keys)

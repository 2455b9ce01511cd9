"""Who may look: this machine alone, or who has the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import Forbidden
from werkzeug.http import parse_cookie

from pgdbpool.errors import SettingsError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

COOKIE: Final = "pgdbpool_status"
# How long a browser stays logged in, seconds.
MAX_AGE: Final = 12 * 3600

# What a token must have: an address is guessed at once, and nobody counts the guesses.
SHORTEST_TOKEN: Final = 8

# What a proxy adds. Their values can be forged, and so can decide nothing.
PROXY_HEADERS: Final = (
    "CDN-Loop",
    "CF-Connecting-IP",
    "CF-Ray",
    "Client-IP",
    "Fastly-Client-IP",
    "Forwarded",
    "True-Client-IP",
    "Via",
    "X-Amzn-Trace-Id",
    "X-Appengine-User-Ip",
    "X-Azure-ClientIP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Envoy-External-Address",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Original-Forwarded-For",
    "X-Original-Host",
    "X-Original-URL",
    "X-ProxyUser-Ip",
    "X-Real-IP",
    "X-Scheme",
)


# What proxies ask an application by that are not told to use another, nginx for long by
# default. Browsers do not.
OLD_PROTOCOLS: Final = ("HTTP/0.9", "HTTP/1.0")
# In the environ of waitress alone, which removes `PROXY_HEADERS` unless told otherwise.
WAITRESS: Final = "waitress.client_disconnected"


def check_is_local(request: Request) -> None:
    """Refuse a request that did not come from this machine, as far as it shows.

    Raises:
        Forbidden: it came from elsewhere, or may have.
    """
    reason = why_not_local(request)
    if reason is not None:
        raise Forbidden(f"{reason}: StatusApp(pool, token=...)")


def why_not_local(request: Request) -> str | None:
    """Return why a request may have come from elsewhere, None if it is the machine's.

    What a proxy of this machine passes on comes from a loopback address too. It gives
    itself away by a header, by an old protocol, or by the name that the client asked
    for, which also keeps out the pages of others, whose names can be made to lead here
    (DNS rebinding).
    """
    if not is_loopback(request.remote_addr or ""):
        return "without a token this is for the machine itself; who has one may look"
    passed_on = [name for name in PROXY_HEADERS if name in request.headers]
    if passed_on:
        return f"{passed_on[0]} tells of a proxy, behind which a token is needed"
    if WAITRESS in request.environ:
        return (
            "waitress removes what would tell of a proxy, so a token is needed under it"
        )
    protocol = request.environ.get("SERVER_PROTOCOL", "")
    if protocol in OLD_PROTOCOLS:
        return (
            f"{protocol} is what proxies ask by; without a token ask by HTTP/1.1 (not "
            "as curl -0 and ab do), and behind a proxy a token is needed"
        )
    if not is_local_name(request.headers.get("Host", "")):
        return "without a token this answers to localhost and loopback addresses only"
    return None


def check_same_origin(request: Request) -> None:
    """Refuse what another site's page had a browser send.

    Raises:
        Forbidden: it does not come from this page.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "")
    if site != "same-origin" and origin.partition("://")[2] != request.host:
        raise Forbidden("this is for the page's own buttons")


def is_loopback(address: str) -> bool:
    """Whether an address is of the machine itself."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def is_local_name(host: str) -> bool:
    """Whether a Host header, with or without a port, names the machine itself."""
    name = host
    if not host.endswith("]"):
        head, colon, port = host.rpartition(":")
        if colon and port.isdecimal():
            name = head
    name = name.strip("[]").rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


class Token:
    """A secret that opens the page: in a header for programs, in a form for people.

    Args:
        token: the secret.

    Attributes:
        mark: the same in all workers that have this token, which it does not tell.

    Raises:
        SettingsError: it is no text, or has less than `SHORTEST_TOKEN` characters.
        ImportError: itsdangerous is missing; the message says how to install it.
    """

    def __init__(self, token: object) -> None:
        if not (isinstance(token, str) and token.strip()):
            raise SettingsError("token: must be a text that is not empty")
        if len(token.strip()) < SHORTEST_TOKEN:
            raise SettingsError(
                f"token: must have {SHORTEST_TOKEN} characters or more; a good one is "
                "what secrets.token_urlsafe() returns"
            )
        self._token = token.strip().encode()
        self.mark = hashlib.sha256(b"pgdbpool.peers " + self._token).hexdigest()
        key = hashlib.sha256(b"pgdbpool.status " + self._token).digest()
        try:
            from itsdangerous import TimestampSigner  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ImportError(
                "the status page needs itsdangerous: pip install 'pgdbpool[status]'"
            ) from error
        self._signer = TimestampSigner(
            key, salt=COOKIE, key_derivation="hmac", digest_method=hashlib.sha256
        )

    def is_right(self, given: bytes) -> bool:
        """Whether it is the token; takes as long for each wrong one."""
        return hmac.compare_digest(
            hashlib.sha256(given).digest(), hashlib.sha256(self._token).digest()
        )

    def opens(self, request: Request) -> bool:
        """Whether a request brings the token, or the cookie of who had it."""
        header = request.headers.get("Authorization", "")
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer":
            return self.is_right(given.strip().encode("latin-1", "replace"))
        # Werkzeug takes UTF-8, and raises for what others put there. Ours is ASCII.
        header = request.headers.get("Cookie", "").encode("ascii", "replace").decode()
        return any(
            self._signer.validate(signed, max_age=MAX_AGE)
            for signed in parse_cookie(header).getlist(COOKIE)
        )

    def remember(self, request: Request, response: Response) -> None:
        """Make the browser bring a cookie, for this page only.

        Its path is left to the browser, which takes that of the form: behind a proxy
        that rewrites addresses nobody else knows it.
        """
        response.set_cookie(
            COOKIE,
            self._signer.sign("in").decode(),
            max_age=MAX_AGE,
            path=None,
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )

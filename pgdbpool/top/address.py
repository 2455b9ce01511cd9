"""The address of a status page, and how it is asked without telling others."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

FORM: Final = "give http://host:port/path/"
# What a path may have besides letters, digits and %.
IN_PATHS: Final = "/%:@!$&'()*+,;=~-._"
FIGURES: Final = "status.json"


class AddressError(ValueError):
    """There can be no page at this address."""


def address_of(url: str) -> str:
    """Return where a page has its figures.

    Args:
        url: the page's, with or without a slash at the end.

    Raises:
        AddressError: it is none; a secret in it is not quoted.
    """
    # Whatever is wrong with it, a password before the @ or a token after the ? stays.
    shown = "what was given" if set(url) & set("@?#") else repr(url)
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname and parts.hostname.encode("idna"))
        is_whole = is_whole and parts.port != 0 and url.isprintable()
    except ValueError:  # a bracket, a port or a name that cannot be
        is_whole = False
    if not is_whole or parts.scheme not in ("http", "https") or " " in url:
        raise AddressError(f"{shown} is no address of a page: {FORM}")
    for complaint in _complaints(url, parts):
        raise AddressError(complaint)
    path = quote(parts.path, safe=IN_PATHS)
    folder = path if path.endswith("/") else f"{path}/"
    return f"{parts.scheme}://{parts.netloc}{folder}{FIGURES}"


def _complaints(url: str, parts: SplitResult) -> Iterator[str]:
    if "@" in parts.netloc:
        yield (
            "the address has a user's name or password, which the page does not ask "
            f"for: {FORM}, and its token with --token or PGDBPOOL_STATUS_TOKEN"
        )
    if "?" in url or "#" in url:
        yield (
            f"the address has a query or a fragment, which a page's has not: {FORM}, "
            "and its token with --token or PGDBPOOL_STATUS_TOKEN"
        )


def page_of(location: str, asked: str) -> str:
    """Return the page that a redirection leads to, without what may be secret.

    Args:
        location: as the answer has it.
        asked: what was asked for.
    """
    try:
        parts = urlsplit(urljoin(asked, location))
    except ValueError:
        return "nowhere"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.removesuffix(FIGURES)}"


class _Staying(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token is for the one who was asked."""

    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401 - urllib's
        """Refuse; the redirection is an error then."""


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """Return what asks only the host of an address, its own machine without a proxy."""
    handlers: list[urllib.request.BaseHandler] = [_Staying()]
    if _is_here(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

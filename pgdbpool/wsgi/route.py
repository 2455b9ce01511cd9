"""Which route a framework has found for a request."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

logger = logging.getLogger(__name__)

# A group of a regular expression without another inside, and its name.
_GROUP: Final = re.compile(r"\((?:\?P<(\w+)>)?[^()]*\)[*+?]?")
# What says nothing of the path: the ends, what may be missing, and what quotes.
_MARKS: Final = re.compile(r"\\[AZb]|[\^$]|(?<=/)\?|\\(?=\W)")
# What is left of an expression that was not understood.
_REST: Final = re.compile(r"[^/]*[][(){}|\\?+][^/]*")


def route_of(environ: Mapping[str, Any]) -> str | None:
    """Return method and rule, as ``GET /item/<name>``; None: nobody tells.

    The rule begins with where the application is mounted. Flask leaves its request in
    the environment through Werkzeug, Bottle its route. Django leaves nothing there, so
    it is asked.
    """
    request, route = environ.get("werkzeug.request"), environ.get("bottle.route")
    for found in (getattr(request, "url_rule", None), route):
        rule = getattr(found, "rule", None)
        if isinstance(rule, str):
            return _told(environ, rule)
    urls = sys.modules.get("django.urls")
    rule = None if urls is None else _rule_of_django(urls, environ)
    return None if rule is None else _told(environ, rule)


def printable(path: str) -> str:
    """Return a path as it was on the wire where it could forge a line of the log."""
    if path.isascii() and path.isprintable():
        return path
    return quote(path, encoding="latin-1", errors="replace")


def _told(environ: Mapping[str, Any], rule: str) -> str:
    mounted = printable(environ.get("SCRIPT_NAME", ""))
    return f"{environ.get('REQUEST_METHOD', '')} {mounted}{rule}"


def _rule_of_django(urls: Any, environ: Mapping[str, Any]) -> str | None:  # noqa: ANN401 - a module that is optional
    """Return the rule by which Django, if it is at work in this thread, has chosen."""
    try:
        if urls.get_urlconf() is None:  # it is not
            return None
        path = str(environ.get("PATH_INFO", "")).encode("latin-1").decode()
        found = urls.resolve(path or "/").route
    except Exception as error:  # noqa: BLE001 - a converter of the user's may raise any
        # Not what it says, which has the path in it, and so what may be secret.
        logger.debug("Django tells no rule of a request: %s", type(error).__name__)
        return None
    return plain(found) if isinstance(found, str) else None


def plain(rule: str) -> str:
    """Return a rule of Django's in the form of the others: ``/item/<name>``.

    Args:
        rule: of `path`, of `re_path`, or of both, one in another.
    """
    before = ""
    while before != rule:
        before, rule = rule, _GROUP.sub(_name_of, rule)
    return "/" + _REST.sub("*", _MARKS.sub("", rule)).lstrip("/")


def _name_of(group: re.Match[str]) -> str:
    return "*" if group[1] is None else f"<{group[1]}>"

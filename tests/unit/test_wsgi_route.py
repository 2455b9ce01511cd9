"""The rule of a request, as frameworks leave or tell it."""

import logging
import sys
import types
from typing import Any

import pytest

from pgdbpool.wsgi.route import plain, route_of


class Found:
    """What Werkzeug and Bottle have: a rule."""

    def __init__(self, rule: object) -> None:
        self.rule = rule


class Matched:
    """What Django has."""

    def __init__(self, route: object) -> None:
        self.route = route


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", "/"),
        ("reset/<uidb64>/<token>/", "/reset/<uidb64>/<token>/"),
        ("accounts/^login/$", "/accounts/login/"),
        ("^articles/(?P<year>[0-9]{4})/$", "/articles/<year>/"),
        (r"^user/(?P<name>[\w.@+-]+)/(\d+)/?$", "/user/<name>/*/"),
        (r"^(?P<all>(?P<first>\w+)-\w+)$", "/<all>"),
        (r"^page-(?P<number>\d+)?$", "/page-<number>"),
        (r"^index\.html\Z", "/index.html"),
        ("^a/(?P<x>[^)]+)/b$", "/a/*/b"),  # too much for us
        ("^[a-z]+/b$", "/*/b"),
    ],
)
def test_a_rule_of_django_looks_like_the_others(rule: str, told: str) -> None:
    """Whether it is a path or a regular expression."""
    assert plain(rule) == told


def django(monkeypatch: pytest.MonkeyPatch, urlconf: object, resolve: Any) -> None:  # noqa: ANN401 - a callable
    """Let that be Django."""
    urls = types.ModuleType("django.urls")
    vars(urls).update(get_urlconf=lambda: urlconf, resolve=resolve)
    monkeypatch.setitem(sys.modules, "django.urls", urls)


def test_django_is_asked_only_while_it_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this thread: it may be there for something else."""
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/stra\xc3\x9fe/7"}
    asked = []

    def resolve(path: str) -> Matched:
        asked.append(path)
        return Matched("straße/<int:number>")

    django(monkeypatch, None, resolve)
    assert route_of(environ) is None
    assert asked == []
    django(monkeypatch, "shop.urls", resolve)
    assert route_of(environ) == "POST /straße/<int:number>"
    assert asked == ["/straße/7"]
    assert route_of({"REQUEST_METHOD": "GET"}) == "GET /straße/<int:number>"
    assert asked[1:] == ["/"]


def test_what_django_does_not_know_is_no_route(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises: the request goes on; the log has its kind, not the path."""

    def resolve(path: str) -> Matched:
        raise LookupError(path)

    caplog.set_level(logging.DEBUG, "pgdbpool")
    django(monkeypatch, "shop.urls", resolve)
    assert route_of({"REQUEST_METHOD": "GET", "PATH_INFO": "/s3cret"}) is None
    assert "LookupError" in caplog.text
    assert "s3cret" not in caplog.text
    assert route_of({"REQUEST_METHOD": "GET", "PATH_INFO": "/\xff"}) is None
    django(monkeypatch, "shop.urls", lambda _: Matched(None))
    assert route_of({"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}) is None


def test_without_django_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not imported for this."""
    monkeypatch.delitem(sys.modules, "django.urls", raising=False)
    assert route_of({"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}) is None
    assert "django.urls" not in sys.modules


@pytest.mark.parametrize("key", ["werkzeug.request", "bottle.route"])
def test_what_a_framework_left_is_taken(key: str) -> None:
    """As it is, where it is a rule."""
    left: dict[str, Any] = {
        "werkzeug.request": type("Request", (), {"url_rule": Found("/item/<name>")}),
        "bottle.route": Found("/item/<name>"),
    }
    environ = {"REQUEST_METHOD": "GET", key: left[key]}
    assert route_of(environ) == "GET /item/<name>"
    assert route_of({**environ, key: Found(None)}) is None
    mounted = {**environ, "SCRIPT_NAME": "/shop\n"}
    assert route_of(mounted) == "GET /shop%0A/item/<name>"

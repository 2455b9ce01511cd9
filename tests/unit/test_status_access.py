"""Who may look at the status page, and what the others are told."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import pytest

from pgdbpool.errors import SettingsError
from pgdbpool.pool import ConnectionPool
from pgdbpool.status import HealthApp, StatusApp
from pgdbpool.status.access import COOKIE, MAX_AGE, PROXY_HEADERS
from pgdbpool.status.page import FILES
from tests.unit.wsgi_exchange import Exchange

TOKEN = "geheim über alles"
MODERN = {"SERVER_PROTOCOL": "HTTP/1.1"}
LOCAL = {**MODERN, "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8000"}
ELSEWHERE = {**MODERN, "REMOTE_ADDR": "192.0.2.7", "HTTP_HOST": "shop.example"}


@pytest.fixture
def pool() -> ConnectionPool:
    """Give a pool that never connects."""
    return ConnectionPool("host=nowhere.invalid", open=False, name="shop")


@pytest.fixture
def local(pool: ConnectionPool) -> Iterator[StatusApp]:
    """Give a page without a token."""
    app = StatusApp(pool)
    yield app
    app.service.history.stop()


@pytest.fixture
def guarded(pool: ConnectionPool) -> Iterator[StatusApp]:
    """Give a page with a token."""
    app = StatusApp(pool, token=TOKEN)
    yield app
    app.service.history.stop()


def ask(
    app: Any,  # noqa: ANN401 - each of both
    path: str = "/status.json",
    method: str = "GET",
    **environ: object,
) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers and the text of an answer."""
    exchange = Exchange(app, [], method, PATH_INFO=path, **environ).run()
    assert exchange.error is None
    text = exchange.content.decode()
    return int(exchange.status.split()[0]), dict(exchange.headers), text


def bearer(token: str) -> dict[str, str]:
    """Return the header of a program, as a server puts it into environ."""
    return {"HTTP_AUTHORIZATION": f"Bearer {token}".encode().decode("latin-1")}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]
)
@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "a.localhost."],
)
def test_without_a_token_the_machine_itself_may_look(
    local: StatusApp, address: str, host: str
) -> None:
    """By whichever of its names."""
    assert ask(local, **MODERN, REMOTE_ADDR=address, HTTP_HOST=host)[0] == 200


@pytest.mark.parametrize(
    "address", ["192.0.2.7", "10.0.0.1", "", "unix:", "::2", "127"]
)
def test_without_a_token_nobody_else_may(local: StatusApp, address: str) -> None:
    """Nor who has no address, as behind a Unix socket."""
    environ = {**LOCAL, "REMOTE_ADDR": address}
    status, headers, text = ask(local, **environ)
    assert status == 403
    assert headers["Content-Type"].startswith("text/plain")
    assert "token=" in text


@pytest.mark.parametrize("header", PROXY_HEADERS)
def test_what_a_proxy_passed_on_is_not_local(local: StatusApp, header: str) -> None:
    """Whatever the header says: it could be forged."""
    name = "HTTP_" + header.upper().replace("-", "_")
    status, _, text = ask(local, **LOCAL, **{name: "127.0.0.1"})
    assert status == 403
    assert header in text


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/0.9"])
def test_an_old_protocol_is_a_proxys(local: StatusApp, protocol: str) -> None:
    """As nginx spoke for long by default; who has an old program is told why."""
    environ = {**LOCAL, "SERVER_PROTOCOL": protocol}
    status, _, text = ask(local, **environ)
    assert status == 403
    assert protocol in text
    assert "curl -0" in text
    assert "token=" in text


def test_where_a_server_removes_the_proxys_headers_a_token_is_needed(
    local: StatusApp, guarded: StatusApp
) -> None:
    """Waitress does, and says of itself that it is there."""
    waitress = {**LOCAL, "waitress.client_disconnected": bool}
    status, _, text = ask(local, **waitress)
    assert status == 403
    assert "waitress" in text
    assert ask(guarded, **waitress, **bearer(TOKEN))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["shop.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::2]"],
)
def test_a_name_of_somebody_else_is_not_local(local: StatusApp, host: str) -> None:
    """It was made to lead here, or a proxy passed it on."""
    environ = {**LOCAL, "HTTP_HOST": host}
    assert ask(local, **environ)[0] == 403


@pytest.mark.parametrize(
    "path", ["/", "/status.json", "/static/status.css", "/nothing"]
)
def test_all_of_it_is_closed_to_others(local: StatusApp, path: str) -> None:
    """Also what is not there, which nobody needs to know."""
    assert ask(local, path, **ELSEWHERE)[0] == 403


@pytest.mark.parametrize("token", ["", "  ", 7, b"bytes"])
def test_a_token_that_is_none_is_refused(pool: ConnectionPool, token: Any) -> None:  # noqa: ANN401 - wrong on purpose
    """At the start, rather than to let all in."""
    with pytest.raises(SettingsError, match="token: must be a text that is not empty"):
        StatusApp(pool, token=token)


def test_a_token_that_can_be_guessed_is_refused(pool: ConnectionPool) -> None:
    """Its length can be told, and nothing else of it is."""
    with pytest.raises(SettingsError, match="token: must have 8 characters") as raised:
        StatusApp(pool, token=" hunter2 ")
    assert "hunter2" not in str(raised.value)
    assert StatusApp(pool, token="hunter2!")


@pytest.mark.parametrize("app", [StatusApp, HealthApp])
def test_what_is_no_pool_is_refused(app: Any) -> None:  # noqa: ANN401 - each of both
    """Such as a DSN."""
    with pytest.raises(SettingsError, match="'host=db' is no ConnectionPool"):
        app("host=db")


def test_the_token_opens_from_anywhere(guarded: StatusApp) -> None:
    """In the header of RFC 6750."""
    status, _, text = ask(guarded, **ELSEWHERE, **bearer(TOKEN))
    assert status == 200
    assert json.loads(text)["workers"][0]["pools"][0]["name"] == "shop"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic Z2VoZWlt",
        "Bearer \xff\xfe",
        TOKEN,
    ],
)
def test_a_wrong_token_is_401_in_plain_words(guarded: StatusApp, header: str) -> None:
    """Also from the machine itself; the token is not in the answer."""
    given = {"HTTP_AUTHORIZATION": header} if header else {}
    for path in ("/", "/status.json", "/nothing"):
        status, headers, text = ask(guarded, path, **LOCAL, **given)
        assert status == 401
        assert headers["WWW-Authenticate"] == 'Bearer realm="pgdbpool"'
        assert text == "401 Unauthorized: the token is missing or wrong\n"


def log_in(
    app: StatusApp, token: str, **environ: object
) -> tuple[int, dict[str, str], str]:
    """Send the form."""
    body = urlencode({"token": token}).encode()
    return ask(
        app,
        "/login",
        "POST",
        **ELSEWHERE,
        **environ,
        CONTENT_TYPE="application/x-www-form-urlencoded",
        CONTENT_LENGTH=str(len(body)),
        **{"wsgi.input": BytesIO(body)},
    )


def cookie_of(headers: dict[str, str]) -> str:
    """Return what the browser sends back."""
    return headers["Set-Cookie"].partition(";")[0]


def test_the_form_sets_a_cookie_that_opens(guarded: StatusApp) -> None:
    """For this page alone, out of reach of scripts and other sites.

    The browser knows best at which address that is: a proxy may have rewritten it.
    """
    html = {"HTTP_ACCEPT": "text/html,*/*"}
    status, _, text = ask(guarded, "/", **ELSEWHERE, **html)
    assert status == 401
    assert 'action="login"' in text
    status, headers, _ = log_in(guarded, TOKEN, SCRIPT_NAME="/_pgdbpool")
    assert status == 303
    assert headers["Location"] == "./"
    parts = {part.strip() for part in headers["Set-Cookie"].split(";")}
    assert {"HttpOnly", "SameSite=Strict"} <= parts
    assert not [part for part in parts if part.startswith(("Path", "Domain"))]
    assert f"Max-Age={MAX_AGE}" in parts
    assert "Secure" not in parts
    assert ask(guarded, "/", **ELSEWHERE, HTTP_COOKIE=cookie_of(headers))[0] == 200


def test_the_cookie_is_for_https_where_the_form_came_by_it(guarded: StatusApp) -> None:
    """It never travels in the open then."""
    headers = log_in(guarded, TOKEN, **{"wsgi.url_scheme": "https"})[1]
    assert "Secure" in headers["Set-Cookie"]


def test_a_wrong_token_in_the_form_is_said_and_sets_no_cookie(
    guarded: StatusApp,
) -> None:
    """Nor does the page repeat it."""
    status, headers, text = log_in(guarded, "hunter2")
    assert status == 401
    assert "That is not the token." in text
    assert "hunter2" not in text
    assert "Set-Cookie" not in headers


def test_a_cookie_of_another_token_opens_nothing(
    guarded: StatusApp, pool: ConnectionPool
) -> None:
    """Nor does a forged one, an old one, or bytes that are no text."""
    other = cookie_of(log_in(StatusApp(pool, token="another one"), "another one")[1])
    for cookie in (other, f"{COOKIE}=in", f"{COOKIE}=in.x.y", f"{COOKIE}=\xff.\xfe"):
        assert ask(guarded, **ELSEWHERE, HTTP_COOKIE=cookie)[0] == 401


def test_a_form_that_is_too_long_is_refused(guarded: StatusApp) -> None:
    """Before it is read."""
    assert log_in(guarded, "x" * 5000)[0] == 413


def test_the_form_is_not_for_get(guarded: StatusApp) -> None:
    """A token does not belong into an address."""
    status, headers, _ = ask(guarded, "/login", QUERY_STRING="token=x", **ELSEWHERE)
    assert status == 405
    assert headers["Allow"] == "POST"


def test_the_files_of_the_form_are_open_to_who_has_no_token(guarded: StatusApp) -> None:
    """They are the same for everybody."""
    for name, kind in FILES.items():
        status, headers, _ = ask(guarded, f"/static/{name}", **ELSEWHERE)
        assert (status, headers["Content-Type"]) == (200, kind)

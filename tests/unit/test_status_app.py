"""The addresses of the status page and of the probes, and the headers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgdbpool.status
from pgdbpool.pool import ConnectionPool
from pgdbpool.status import HealthApp, StatusApp
from pgdbpool.status.page import FILES, POLICY
from tests.unit.test_import import run
from tests.unit.test_status_access import ELSEWHERE, LOCAL, ask

STATIC = Path(pgdbpool.status.__file__).parent / "static"


@pytest.fixture
def pool() -> ConnectionPool:
    """Give a pool that never connects."""
    return ConnectionPool("host=nowhere.invalid", open=False, name="shop")


@pytest.fixture
def app(pool: ConnectionPool) -> Iterator[StatusApp]:
    """Give a page for the machine itself."""
    app = StatusApp(pool)
    yield app
    app.service.history.stop()


def test_every_answer_has_the_strict_headers(app: StatusApp) -> None:
    """Nothing from elsewhere, no code or style in the page, in no frame."""
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    for path in ("/", "/status.json", "/static/status.js", "/nothing"):
        _, headers, _ = ask(app, path, **LOCAL)
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
    assert ask(app, "/", **ELSEWHERE)[1]["Content-Security-Policy"] == POLICY


def test_the_page_has_no_code_or_style_of_its_own(app: StatusApp) -> None:
    """Which its policy would keep from working; and all it loads is ours."""
    _, headers, text = ask(app, "/", **LOCAL)
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    links = set(re.findall(r'(?:src|href)="(?!#)([^"]*)"', text)) - {"status.json"}
    assert {link.removeprefix("static/") for link in links} <= set(FILES)


def test_every_file_that_is_served_is_there_and_every_one_there_is_served() -> None:
    """But for licences, which are for who reads the package."""
    found = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*.*")}
    assert found - {"uplot/README.md"} == set(FILES)
    assert (STATIC / "uplot" / "LICENSE").exists()


def test_every_module_that_a_script_imports_is_served() -> None:
    """From beside it."""
    for script in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert name in FILES


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "../app.py", "uplot/LICENSE", "", "%2e%2e/app.py", "/etc/passwd"],
)
def test_no_other_file_is_served(app: StatusApp, name: str) -> None:
    """Whatever is in the folder."""
    assert ask(app, f"/static/{name}", **LOCAL)[0] == 404


def test_a_file_is_sent_once(app: StatusApp) -> None:
    """Then the browser asks whether its own is the same."""
    headers = ask(app, "/static/status.css", **LOCAL)[1]
    again = ask(app, "/static/status.css", **LOCAL, HTTP_IF_NONE_MATCH=headers["ETag"])
    assert (again[0], again[2]) == (304, "")


def test_an_address_that_is_not_there_is_404_in_plain_words(app: StatusApp) -> None:
    """One line, no markup."""
    status, headers, text = ask(app, "/nothing<b>", **LOCAL)
    assert status == 404
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert text == "404 Not Found: there is nothing at /nothing<b>\n"


@pytest.mark.parametrize("path", ["/", "/status.json", "/static/status.css"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "X"])
def test_a_method_that_is_not_for_reading_is_405(
    app: StatusApp, path: str, method: str
) -> None:
    """With those that are."""
    status, headers, text = ask(app, path, method, **LOCAL)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert text == f"405 Method Not Allowed: {method} is not for this address\n"


def test_head_has_headers_only(app: StatusApp) -> None:
    """Of the page and the figures."""
    for path in ("/", "/status.json"):
        status, _, text = ask(app, path, "HEAD", **LOCAL)
        assert (status, text) == (200, "")


@pytest.mark.parametrize(
    ("mounted", "location"), [("/_pgdbpool", "_pgdbpool/"), ("/a/b", "b/"), ("", "/")]
)
def test_the_mount_without_a_slash_leads_to_the_page(
    app: StatusApp, mounted: str, location: str
) -> None:
    """Relative, so that it holds behind a proxy that adds a prefix."""
    status, headers, _ = ask(app, "", **LOCAL, SCRIPT_NAME=mounted)
    assert (status, headers["Location"]) == (308, location)


@pytest.mark.parametrize("since", ["x", "-1", "1.5", "9" * 20, "%D9%A3"])
def test_a_second_that_is_none_is_400(app: StatusApp, since: str) -> None:
    """In plain words."""
    status, _, text = ask(app, **LOCAL, QUERY_STRING=f"since={since}")
    assert status == 400
    assert "since: must be whole seconds since 1970" in text


def test_the_figures_of_a_process_alone(app: StatusApp) -> None:
    """One worker, which answers; nothing a cache may keep."""
    _, headers, text = ask(app, **LOCAL)
    found = json.loads(text)
    assert headers["Cache-Control"] == "no-store"
    (worker,) = found["workers"]
    assert worker["answers"]
    assert worker["serves"]
    assert worker["pools"][0]["health"]["reasons"] == ["the pool is not open"]
    assert found["server"] == []


@pytest.mark.parametrize(
    ("mounted", "path"),
    [("", "/livez"), ("/health", "/livez"), ("/livez", ""), ("/livez", "/")],
)
def test_the_probes_answer_wherever_they_are_mounted(
    pool: ConnectionPool, mounted: str, path: str
) -> None:
    """Known by the last part of the address."""
    status, headers, text = ask(HealthApp(pool), path, SCRIPT_NAME=mounted)
    assert status == 200
    assert json.loads(text) == {"alive": True}
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "method", "query", "status"),
    [
        ("/", "GET", "", 404),
        ("/healthz", "GET", "", 404),
        ("/readyz", "POST", "", 405),
        ("/livez", "POST", "", 405),
        ("/readyz", "GET", "writes", 400),
        ("/readyz", "HEAD", "read", 503),
    ],
)
def test_a_probe_that_asks_wrongly_is_told(
    pool: ConnectionPool, path: str, method: str, query: str, status: int
) -> None:
    """Rather than taken for another question."""
    app = HealthApp(pool)
    assert ask(app, path, method, QUERY_STRING=query)[0] == status


def test_what_the_page_needs_is_not_needed_by_the_package_or_the_probes() -> None:
    """And the page says what to install."""
    without = ("jinja2", "itsdangerous")
    program = (
        "import pgdbpool; from pgdbpool.status import HealthApp, StatusApp; "
        "pool = pgdbpool.ConnectionPool(open=False); HealthApp(pool); {}StatusApp(pool)"
    )
    assert run(program.format("0 and "), without=without).stderr == ""
    said = run(program.format(""), without=without).stderr.splitlines()[-1]
    assert said == (
        "ImportError: the status page needs jinja2: pip install 'pgdbpool[status]'"
    )

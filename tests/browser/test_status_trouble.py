"""What an open status page says when something is not as it should be."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdbpool.demo.cluster import Cluster
from tests.browser.test_status_page import POOL, check, go, place, serve
from tests.chromium import Visit, needs_browser, visiting
from tests.gunicorns import Gunicorn, asking
from tests.status_app import PAGE
from tests.waiting import until

__all__ = ["place"]

pytestmark = [
    needs_browser,
    pytest.mark.direct("its pools are in other processes"),
    pytest.mark.timeout(120),
]

FIGURES = "**/status.json*"
NONE = "\N{EN DASH}"
TEXT = "text/plain; charset=utf-8"


@pytest.fixture
def gunicorn(place: Path, dsn: str) -> Iterator[Gunicorn]:
    """Give the application with its page and a button that fails."""
    environ = {"STATUS_BUTTON": "wind it up"}
    with serve(place, dsn, "--timeout", "0", environ=environ) as gunicorn:
        yield gunicorn


@pytest.fixture
def visit(place: Path, gunicorn: Gunicorn) -> Iterator[Visit]:
    """Give the page, open and well."""
    with visiting(place) as visit:
        go(visit, gunicorn)
        yield visit


def answer(visit: Visit, **response: Any) -> None:  # noqa: ANN401 - Playwright's
    """Have all further questions for figures answered so."""
    visit.page.route(FIGURES, lambda route: route.fulfill(**response))


def test_an_answer_that_is_none_is_told_from_no_answer(visit: Visit) -> None:
    """In the application's own words, if it has any."""
    answer(visit, status=403, content_type=TEXT, body="403 Forbidden: come by HTTPS\n")
    visit.wait_text("#reason", "The application does not tell: 403 Forbidden: come by")
    visit.page.unroute(FIGURES)
    visit.wait("#trouble", state="hidden")
    answer(visit, status=500, content_type="text/html", body="<h1>Oops</h1>")
    visit.wait_text("#reason", "The application does not tell: 500")
    assert "Oops" not in visit.text("#trouble")
    visit.page.unroute(FIGURES)
    visit.wait("#trouble", state="hidden")
    answer(visit, status=200, content_type="application/json", body='{"cut": ')
    visit.wait_text("#reason", "is cut off")
    visit.page.unroute(FIGURES)
    visit.page.route(FIGURES, lambda route: route.abort())
    visit.wait_text("#reason", "No answer from the application")


def test_figures_that_the_page_does_not_understand_are_told(visit: Visit) -> None:
    """The application may have another version by now; it is there, and answers."""
    answer(visit, status=200, content_type="application/json", body=json.dumps({}))
    visit.wait_text("#reason", "This page cannot show what it was told")
    visit.page.unroute(FIGURES)
    visit.wait("#trouble", state="hidden")
    assert visit.complaints != []


def test_a_clock_that_is_set_back_leaves_nothing_of_the_future(visit: Visit) -> None:
    """What is shown as the newest is not what was before, for an hour."""
    tile = ".tiles div:has(dt:text('acquires')) b"
    until(lambda: visit.text(tile) != NONE, message="there is a second to show")

    def set_back(route: Any) -> None:  # noqa: ANN401 - Playwright's
        content = route.fetch().json()
        content["taken_at"] -= 3600.0
        route.fulfill(json=content)

    visit.page.route(FIGURES, set_back)
    visit.wait_text(tile, NONE)
    visit.page.unroute(FIGURES)
    until(lambda: visit.text(tile) != NONE, message="it goes on")


def test_what_is_read_aloud_stays_the_same(visit: Visit) -> None:
    """The seconds go on beside it."""
    visit.page.route(FIGURES, lambda route: route.abort())
    visit.wait_text("#reason", "No answer")
    assert visit.page.get_attribute("#reason", "role") == "alert"
    visit.page.evaluate(
        "window.changes = 0; new MutationObserver(() => { changes += 1; })"
        ".observe(reason, { childList: true, subtree: true, characterData: true })"
    )
    first = visit.text("#ago")
    until(lambda: visit.text("#ago") != first)
    assert visit.page.evaluate("changes") == 0


def test_a_button_that_fails_says_so(visit: Visit) -> None:
    """And one that nobody answers, or that somebody else may press."""
    button = visit.page.get_by_role("button", name="wind it up")
    button.click()
    visit.wait_text("#pressed", "'wind it up' has failed: ProcessLookupError")
    visit.page.route("**/do/0", lambda route: route.abort())
    button.click()
    visit.wait_text("#pressed", "no answer from the application")
    visit.page.unroute("**/do/0")
    refused = {"status": 403, "content_type": TEXT, "body": "403 Forbidden: not you"}
    visit.page.route("**/do/0", lambda route: route.fulfill(**refused))
    button.click()
    visit.wait_text("#pressed", "403 Forbidden: not you")


def test_a_worker_that_was_silent_is_in_the_charts_again(
    visit: Visit, gunicorn: Gunicorn
) -> None:
    """What it did before is asked for anew: all that it knows, once."""
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    victim = gunicorn.workers()[0]
    victim.suspend()
    try:
        visit.wait_text("#service", "1 silent", timeout=30.0)
    finally:
        victim.resume()

    def wholes() -> int:
        visit.page.wait_for_timeout(10)  # hears of requests
        return sum(url.endswith("status.json?since=0") for url in asked)

    until(lambda: wholes() == 1, 20.0, "all of the history is asked for")
    visit.wait_text(".pool .verdict", "all well")
    assert "silent" not in visit.text("#service")
    assert wholes() == 1


def test_sessions_that_are_not_new_are_marked_as_old(
    place: Path,
    dsn: str,
) -> None:
    """With their age: nothing can be asked while all connections are in use."""
    pool = {**POOL, "min_size": 1, "max_size": 1, "timeout": 3}
    with serve(place, dsn, pool=pool) as gunicorn, visiting(place) as visit:
        go(visit, gunicorn)
        visit.wait("tbody tr:has-text('asks for this')")
        until(lambda: has_leaked(gunicorn), 30.0, "both have a leak")
        with asking(gunicorn, "/"):
            visit.wait_text(".tiles", "up to")
        visit.wait("tr.old td:has-text(' ago')", timeout=30.0)
        until(lambda: is_mended(visit, gunicorn), 30.0, "they are new again")
        check(visit, gunicorn)


def has_leaked(gunicorn: Gunicorn) -> bool:
    """Leak in any worker; whether all have no connection left."""
    gunicorn.status("/leak")
    content = gunicorn.get(f"{PAGE}/status.json")[1]
    pools = [pool for worker in content["workers"] for pool in worker["pools"]]
    return all(pool["health"]["saturated"] for pool in pools)


def is_mended(visit: Visit, gunicorn: Gunicorn) -> bool:
    """Give back in any worker; whether nothing on the page is old."""
    gunicorn.status("/mend")
    return visit.page.query_selector("tr.old") is None


def test_a_server_that_is_down_is_in_the_verdict(
    place: Path,
    breakable: Cluster,
) -> None:
    """Also where the others serve; its error takes no more than it needs."""
    dsn = breakable.dsn()
    with serve(place, dsn) as gunicorn, visiting(place, width=360, height=740) as visit:
        go(visit, gunicorn)
        visit.wait_text(".pool .verdict", "all well")
        breakable.standbys[0].stop("immediate")
        visit.wait_text(".pool .verdict", "is down")
        visit.wait_text(".errors", "refused")
        heights = "[...document.querySelectorAll('.pool tbody')[0].rows]"
        heights += ".map((row) => row.offsetHeight)"
        assert max(visit.page.evaluate(heights)) < 40
        check(visit, gunicorn)

"""The page of the demo, with its buttons, on a primary and a standby."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.chromium import Visit, needs_browser, visiting
from tests.demo import DemoProcess, address, running_demo

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(180)]

SESSIONS = ".panel:has(h3:text('Sessions'))"


@pytest.fixture
def demo() -> Iterator[DemoProcess]:
    """Give a demo that serves a primary and a standby."""
    with running_demo("--standbys", "1") as demo:
        yield demo
        demo.interrupt()
        assert demo.wait() == 0


@pytest.fixture
def visit(demo: DemoProcess) -> Iterator[Visit]:
    """Give its page, open all the time."""
    with (
        tempfile.TemporaryDirectory(prefix="page-") as directory,
        visiting(Path(directory)) as visit,
    ):
        shop = address(demo)
        demo.wait_for("Ctrl-C ends it")
        visit.page.goto(f"{shop}/_pgdbpool/")
        visit.wait(".pool .cell")
        visit.page.evaluate("window.isTheSame = true")
        yield visit
        assert visit.page.evaluate("window.isTheSame") is True
        assert visit.complaints == []
        assert visit.hosts == {urlsplit(shop).netloc}


def press(visit: Visit, words: str) -> None:
    """Press a button of the page, as soon as it can be pressed."""
    visit.page.get_by_role("button", name=words).click()


def primary(visit: Visit) -> str:
    """Return which server is the primary, as the page has it."""
    visit.wait_text(".pool tr:has(td:text-is('primary'))", "up")
    row = visit.page.query_selector(".pool tr:has(td:text-is('primary'))")
    name: str = row.query_selector("td").inner_text()
    return name


def test_the_page_lives_through_what_its_buttons_do(
    demo: DemoProcess, visit: Visit
) -> None:
    """A freeze is seen while it lasts, and another server is the primary afterwards."""
    old = primary(visit)
    visit.wait_text(".pool .verdict", "all well")
    visit.wait(f"{SESSIONS} tr:has-text('asks for this') td:text-is({old!r})")

    press(visit, "freeze the database")
    demo.wait_for("freezing PostgreSQL for 5 s")
    visit.wait("td.bad")
    demo.wait_for("PostgreSQL goes on")
    visit.wait_text(".pool .verdict", "all well")

    press(visit, "switch over")
    demo.wait_for("switching over")
    visit.wait(f".pool tr:has-text({old!r}):has(td:text-is('standby'))", timeout=30.0)
    assert primary(visit) != old
    visit.wait_text(".pool .verdict", "all well")

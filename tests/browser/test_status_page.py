"""The status page as people see it, of a gunicorn with two workers."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.chromium import Visit, needs_browser, visiting
from tests.gunicorns import Gunicorn, asking
from tests.status_app import PAGE
from tests.waiting import until

pytestmark = [
    needs_browser,
    pytest.mark.direct("its pools are in other processes"),
    pytest.mark.timeout(120),
]

LEAK_AFTER = 0.5
POOL: dict[str, object] = {
    "name": "shop",
    "min_size": 2,
    "max_size": 4,
    "timeout": 10,
    "observe": True,
    "leak_warn_after": LEAK_AFTER,
}
SIZES = [(1280, 900), (360, 740)]
NO_RELOAD = "window.isTheSame = true"


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="page-", dir="/tmp") as name:
        yield Path(name)


def serve(place: Path, dsn: str, *options: str, **more: Any) -> Gunicorn:  # noqa: ANN401 - of `Gunicorn`
    """Start two workers with the page."""
    options = ("-k", "gthread", "-w", "2", "--threads", "4", *options)
    environ = {"TMPDIR": str(place), **more.pop("environ", {})}
    app = "tests.status_app:make()"
    more = {"app": app, "pool": POOL, "environ": environ, **more}
    return Gunicorn(place, dsn, *options, **more)


def go(visit: Visit, gunicorn: Gunicorn) -> None:
    """Open the page, and wait for its first figures."""
    gunicorn.wait()
    visit.page.goto(f"http://127.0.0.1:{gunicorn.port}{PAGE}/")
    visit.wait(".pool .worker:nth-child(2) .cell")
    visit.page.evaluate(NO_RELOAD)


def check(visit: Visit, gunicorn: Gunicorn) -> None:
    """Fail if it was loaded again, complained, or asked another host."""
    assert visit.page.evaluate("window.isTheSame") is True
    assert visit.complaints == []
    assert visit.hosts == {f"127.0.0.1:{gunicorn.port}"}


@pytest.fixture
def gunicorn(place: Path, dsn: str) -> Iterator[Gunicorn]:
    """Give the application with its page."""
    with serve(place, dsn) as gunicorn:
        yield gunicorn


def test_the_page_shows_both_workers_and_renews_itself(
    place: Path, gunicorn: Gunicorn
) -> None:
    """Cells, servers, charts and the sessions as the server sees them."""
    with visiting(place) as visit:
        go(visit, gunicorn)
        names = [h4.inner_text() for h4 in visit.page.query_selector_all("h4")]
        running = sorted(process.pid for process in gunicorn.workers())
        assert sorted(int(name.split()[-1]) for name in names) == running
        visit.wait_text(".freshness", "as of")
        visit.wait_text("td.well", "up")
        visit.wait_text("td", "asks for this")
        assert len(visit.page.query_selector_all(".plot canvas")) == 6

        def acquires() -> int:
            text = visit.text("section.panel:has(h3:text('Routes')) tbody")
            counts = [row.split("\t")[1] for row in text.splitlines() if "GET /" in row]
            return int(counts[0].replace(",", "")) if counts else 0

        before = acquires()
        for _ in range(10):
            assert gunicorn.status() == 200
        until(lambda: acquires() >= before + 10, message="the new requests are counted")
        check(visit, gunicorn)


def test_a_leak_is_named_until_it_is_mended(place: Path, gunicorn: Gunicorn) -> None:
    """In the verdict, as a cell, and by mouse and keyboard."""
    with visiting(place) as visit:
        go(visit, gunicorn)
        visit.wait_text(".pool .verdict", "all well")
        assert gunicorn.status("/leak") == 200
        visit.wait(".cells .cell.long")
        visit.wait_text(".pool .verdict", "tests/status_app.py:")
        visit.wait_text("td.bad", "long")
        visit.page.hover(".cells .cell.long")
        visit.wait_text("#tip", "acquired at")
        visit.wait_text("#tip", "tests/status_app.py:")
        visit.page.mouse.move(0, 0)
        visit.wait("#tip", state="hidden")
        until(lambda: gunicorn.status("/mend") == 200 and not is_long(visit))
        visit.wait_text(".pool .verdict", "all well")
        check(visit, gunicorn)


def is_long(visit: Visit) -> bool:
    """Whether the page shows a connection that is held for long."""
    return visit.page.query_selector(".cells .cell.long") is not None


def test_all_of_it_can_be_reached_by_the_keyboard(
    place: Path, gunicorn: Gunicorn
) -> None:
    """Cells are one stop of Tab; arrows go from one to the next, Escape closes."""
    with visiting(place) as visit:
        go(visit, gunicorn)
        for _ in range(20):
            visit.page.keyboard.press("Tab")
            if visit.page.evaluate("document.activeElement.matches('button.cell')"):
                break
        focused = "document.activeElement.getAttribute('aria-label')"
        first = visit.page.evaluate(focused)
        assert "worker" in first
        visit.wait("#tip")
        visit.page.keyboard.press("ArrowRight")
        assert visit.page.evaluate("document.activeElement.matches('button.cell')")
        visit.wait_text("#tip", "backend")
        visit.page.keyboard.press("Escape")
        visit.wait("#tip", state="hidden")
        # The cell keeps the focus while the page is renewed.
        told = visit.text("#freshness")
        until(lambda: visit.text("#freshness") != told)
        assert visit.page.evaluate("document.activeElement.matches('button.cell')")
        check(visit, gunicorn)


def test_the_open_page_lives_through_a_restart_of_the_database(
    place: Path, private_server: EmbeddedPostgres
) -> None:
    """It says that the server is down, and that it is up again."""
    with serve(place, private_server.dsn()) as gunicorn, visiting(place) as visit:
        go(visit, gunicorn)
        visit.wait_text("td.well", "up")
        private_server.stop("immediate")
        visit.wait_text("td.bad", "down")
        visit.wait_text(".pool .verdict", "not reachable")
        private_server.start()
        visit.wait_text("td.well", "up")
        visit.wait_text(".pool .verdict", "all well")
        check(visit, gunicorn)


def test_the_open_page_lives_through_a_restart_of_the_application(
    place: Path, dsn: str
) -> None:
    """It says that nobody answers, and goes on with whoever does."""
    with visiting(place) as visit:
        with serve(place, dsn) as gunicorn:
            go(visit, gunicorn)
        visit.wait_text("#trouble", "No answer from the application")
        # Where the first one was, and where the test looks whether it is there.
        with serve(place, dsn, "--bind", f"127.0.0.1:{gunicorn.port}") as second:
            visit.wait("#trouble", state="hidden", timeout=30.0)
            running = {process.pid for process in second.workers()}
            until(
                lambda: (
                    {int(e.inner_text().split()[-1]) for e in headings(visit)}
                    <= running
                )
            )
        assert visit.page.evaluate("window.isTheSame") is True


def headings(visit: Visit) -> list[Any]:
    """Return the names of the workers."""
    return list(visit.page.query_selector_all("h4"))


def test_who_has_the_token_logs_in_and_stays_so(place: Path, dsn: str) -> None:
    """A wrong one is refused in words."""
    with (
        serve(place, dsn, environ={"STATUS_TOKEN": "geheim genug"}) as gunicorn,
        visiting(place) as visit,
    ):
        gunicorn.wait()
        visit.page.goto(f"http://127.0.0.1:{gunicorn.port}{PAGE}")
        visit.page.fill("#token", "hunter2")
        visit.page.keyboard.press("Enter")
        visit.wait_text("#complaint", "That is not the token.")
        visit.page.fill("#token", "geheim genug")
        visit.page.keyboard.press("Enter")
        visit.wait(".pool .worker .cell")
        visit.page.reload()
        visit.wait(".pool .worker .cell")
        assert visit.hosts == {f"127.0.0.1:{gunicorn.port}"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_page_fits_its_window_and_can_be_read(
    place: Path, gunicorn: Gunicorn, width: int, height: int, scheme: str
) -> None:
    """No sideways scrolling, and the contrast that WCAG 2.2 asks for (1.4.3)."""
    with visiting(place, width=width, height=height, scheme=scheme) as visit:
        go(visit, gunicorn)
        assert gunicorn.status("/leak") == 200
        with asking(gunicorn, "/?seconds=3"):
            visit.wait(".cells .cell.long")
            assert visit.page.evaluate("document.documentElement.scrollWidth") == width
            assert visit.page.evaluate(CONTRASTS) == []
            if width > height:  # all that matters at once, without scrolling
                assert visit.page.evaluate(CHARTS_END) <= height
        check(visit, gunicorn)


CHARTS_END = "document.querySelector('.charts').getBoundingClientRect().bottom"

# The elements with text of their own whose contrast is below 4.5.
CONTRASTS = """() => {
  const parse = (text) => {
    const box = new OffscreenCanvas(1, 1).getContext("2d");
    box.fillStyle = text; box.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = box.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], a: a / 255 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const { rgb, a } = parse(getComputedStyle(e).backgroundColor);
      if (a > 0.99) return rgb;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3);
    const isText = texts.some((node) => node.data.trim());
    if (!isText || !element.checkVisibility()) continue;
    if (element.matches("script, noscript, .skip")) continue;
    const a = light(parse(getComputedStyle(element).color).rgb);
    const b = light(behind(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${element.tagName}.${element.className}`;
    if (ratio < 4.5) bad.push(`${name} ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
}"""

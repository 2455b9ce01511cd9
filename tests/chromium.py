"""A real browser: Debian's Chromium, headless, driven by Playwright.

Playwright is PyPI's, without the browsers that it would fetch. Where one of the two is
missing, the tests that need them are skipped, and say what to install.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
# It may call nobody but the page under test; and a container has no sandbox for it.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _lacks() -> Iterator[str]:
    """Yield what is missing, and the way out."""
    if _PROGRAM is None:
        yield "chromium is missing: apt-get install chromium"
    if importlib.util.find_spec("playwright") is None:
        yield "playwright is missing: pip install playwright"


_missing = list(_lacks())
needs_browser = pytest.mark.skipif(bool(_missing), reason="; ".join(_missing))


class Visit:
    """A page in a browser of its own, and what it asked for and complained of.

    Attributes:
        page: Playwright's.
        hosts: of all requests.
        complaints: errors on the console, and exceptions that nobody caught.
    """

    def __init__(self, page: Any) -> None:  # noqa: ANN401 - there may be no Playwright
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: Any) -> None:  # noqa: ANN401 - as above
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def wait(self, selector: str, timeout: float = 15.0, **more: Any) -> Any:  # noqa: ANN401 - as above
        """Return what a selector finds, once it is to be seen."""
        return self.page.wait_for_selector(selector, timeout=timeout * 1000, **more)

    def wait_text(self, selector: str, text: str, timeout: float = 15.0) -> None:
        """Wait until an element says something."""
        self.wait(f"{selector}:has-text({text!r})", timeout)

    def text(self, selector: str) -> str:
        """Return what an element says now."""
        return str(self.page.inner_text(selector))


@contextlib.contextmanager
def visiting(
    directory: Path, *, width: int = 1280, height: int = 900, scheme: str = "light"
) -> Iterator[Visit]:
    """Give an empty page of a browser that nobody has used before."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - may be missing

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            directory / f"profile-{width}-{scheme}",
            executable_path=_PROGRAM,
            headless=True,
            args=_FLAGS,
            color_scheme=scheme,
            viewport={"width": width, "height": height},
        )
        try:
            yield Visit(context.pages[0])
        finally:
            context.close()

"""The buttons of a status page, which only a demo has."""

from collections.abc import Iterator

import pytest

from pgdbpool.pool import ConnectionPool
from pgdbpool.status import StatusApp
from tests.unit.test_status_access import ELSEWHERE, LOCAL, ask

OURS = {**LOCAL, "method": "POST", "HTTP_SEC_FETCH_SITE": "same-origin"}


@pytest.fixture
def pressed() -> list[str]:
    """Give what was pressed so far."""
    return []


@pytest.fixture
def app(pressed: list[str]) -> Iterator[StatusApp]:
    """Give a page with two buttons."""
    app = StatusApp(
        ConnectionPool("host=nowhere.invalid", open=False),
        actions={
            "wind <it> up": lambda: pressed.append("up"),
            "let it down": lambda: pressed.append("down"),
        },
    )
    yield app
    app.service.history.stop()


def test_a_page_has_the_buttons_it_was_given(app: StatusApp) -> None:
    """Forms, so that they work without a script."""
    _, _, text = ask(app, "/", **LOCAL)
    assert 'action="do/0"><button>wind &lt;it&gt; up</button>' in text
    assert 'action="do/1"><button>let it down</button>' in text


def test_without_any_there_is_nothing_to_press() -> None:
    """As in every application but a demo."""
    app = StatusApp(ConnectionPool("host=nowhere.invalid", open=False))
    assert "<form" not in ask(app, "/", **LOCAL)[2]
    assert ask(app, "/do/0", **OURS)[0] == 404
    app.service.history.stop()


def test_a_button_does_what_it_is_for(app: StatusApp, pressed: list[str]) -> None:
    """And leads back to the page."""
    status, headers, _ = ask(app, "/do/1", **OURS)
    assert status == 303
    assert headers["Location"] == "../"
    assert pressed == ["down"]


def test_the_origin_tells_where_a_browser_says_no_more(
    app: StatusApp, pressed: list[str]
) -> None:
    """Older ones send that alone."""
    given = {**OURS, "HTTP_ORIGIN": f"http://{LOCAL['HTTP_HOST']}"}
    del given["HTTP_SEC_FETCH_SITE"]
    assert ask(app, "/do/0", **given)[0] == 303
    assert pressed == ["up"]


@pytest.mark.parametrize(
    "given",
    [
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_SEC_FETCH_SITE": "", "HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_SEC_FETCH_SITE": "", "HTTP_ORIGIN": "null"},
        {"HTTP_SEC_FETCH_SITE": ""},
    ],
)
def test_another_sites_page_presses_nothing(
    app: StatusApp, pressed: list[str], given: dict[str, str]
) -> None:
    """Whatever it has a browser send."""
    status, _, text = ask(app, "/do/0", **{**OURS, **given})
    assert status == 403
    assert "this is for the page's own buttons" in text
    assert pressed == []


def test_who_may_not_look_presses_nothing(app: StatusApp, pressed: list[str]) -> None:
    """Nor who only looks."""
    assert ask(app, "/do/0", **{**OURS, **ELSEWHERE})[0] == 403
    assert ask(app, "/do/0", **{**OURS, "method": "GET"})[0] == 405
    for path in ("/do/2", "/do/-1", "/do/", "/do/x", "/do/00", "/do/" + "9" * 5000):
        assert ask(app, path, **OURS)[0] == 404
    assert pressed == []


def test_a_token_goes_before_a_button(pressed: list[str]) -> None:
    """As before all else."""
    app = StatusApp(
        ConnectionPool("host=nowhere.invalid", open=False),
        token="open-sesame",
        actions={"wind it up": lambda: pressed.append("up")},
    )
    assert ask(app, "/do/0", **OURS)[0] == 401
    bearer = {**OURS, "HTTP_AUTHORIZATION": "Bearer open-sesame"}
    assert ask(app, "/do/0", **bearer)[0] == 303
    assert pressed == ["up"]
    app.service.history.stop()


def test_a_button_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """In words and in the log: what it was for may be gone."""

    def fail() -> None:
        raise ProcessLookupError(3, "hunter2")

    app = StatusApp(
        ConnectionPool("host=nowhere.invalid", open=False), actions={"wind it up": fail}
    )
    status, headers, text = ask(app, "/do/0", **OURS)
    assert status == 500
    assert headers["Content-Type"].startswith("text/plain")
    assert "'wind it up' has failed: ProcessLookupError" in text
    assert "hunter2" not in text
    assert "the button 'wind it up' has failed" in caplog.text

"""Where `pgdbpool top` looks, and what it refuses before it asks anybody."""

import pytest

from pgdbpool.top.address import page_of
from pgdbpool.top.source import Source, SourceError

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host/",
        "http://",
        "/a",
        "http://[::1/",
        "http://host:port/",
        "http://host:99999/",
        "http://host:0/",
        "http://a..b/",
        "http://host/a b",
        "http://host/a\nb",
        "http://ho\x1bst/",
    ],
)
def test_what_is_no_address_is_told(url: str) -> None:
    """Before anything is asked for."""
    with pytest.raises(SourceError, match="is no address of a page") as caught:
        Source(url, None)
    assert not caught.value.may_pass


@pytest.mark.parametrize(
    "url",
    [
        f"http://admin:{SECRET}@127.0.0.1:1/",
        f"http://{SECRET}@127.0.0.1:1/",
        f"http://admin:{SECRET}@[::1/",
        f"admin:{SECRET}@127.0.0.1:1/",
        f"http://127.0.0.1:1/?token={SECRET}",
        f"http://127.0.0.1:1/#{SECRET}",
        f"http://127.0.0.1:x/?token={SECRET}",
    ],
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    """It would stand in every error, and the page takes none from there."""
    with pytest.raises(SourceError, match="give http://host:port/path/") as caught:
        Source(url, None)
    assert SECRET not in str(caught.value)
    assert not caught.value.may_pass


def test_the_address_may_end_in_a_slash_or_not() -> None:
    """It is a page's either way; what a path may not have is quoted."""
    for url in ("http://h:1/pools", "http://h:1/pools/"):
        assert Source(url, None).url == "http://h:1/pools/status.json"
    assert Source("https://[::1]:8/", None).url == "https://[::1]:8/status.json"
    assert Source("http://h/ä%20", None).url == "http://h/%C3%A4%20/status.json"


@pytest.mark.parametrize("token", ["", " ", "a\nb", "a\r\nX: y", "a\x00b"])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    """In words, and without it."""
    with pytest.raises(SourceError, match="the token is empty, or has") as caught:
        Source("http://h/", token)
    assert not caught.value.may_pass


@pytest.mark.parametrize(
    ("location", "page"),
    [
        ("https://h/pools/status.json?since=0", "https://h/pools/"),
        ("/login?next=/pools", "http://h:1/login"),
        (f"https://admin:{SECRET}@other/", "https://other/"),
        ("http://[", "nowhere"),
    ],
)
def test_a_redirection_is_told_without_what_may_be_secret(
    location: str, page: str
) -> None:
    """So that it can be given, if it is the right one."""
    assert page_of(location, "http://h:1/pools/status.json") == page

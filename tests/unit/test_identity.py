"""What the server is told of whose session it is."""

import os
import socket
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdbpool.endpoint import identity

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_token_and_no_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PGAPPNAME", raising=False)
    before = identity.token()
    identity.set_token("")
    yield
    identity.set_token(before)


def name_of(params: dict[str, str], service: str | None = None) -> str:
    """Return the name of a session."""
    return identity.application_name(params, service)


@pytest.mark.parametrize(
    ("program", "service"),
    [
        (["/srv/shop/serve.py", "--port"], "serve"),
        (["/usr/bin/gunicorn"], "gunicorn"),
        (["/srv/shop/__main__.py"], "shop"),
        (["-c"], "pgdbpool"),
        ([""], "pgdbpool"),
        ([], "pgdbpool"),
        (None, "pgdbpool"),
    ],
)
def test_a_session_goes_by_program_host_and_process(
    program: list[str] | None, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody chose a name; an embedded interpreter may have no arguments."""
    monkeypatch.setattr(socket, "gethostname", lambda: "web1.example.org")
    if program is None:
        monkeypatch.delattr(sys, "argv")
    else:
        monkeypatch.setattr(sys, "argv", program)

    assert name_of({}) == f"{service}/web1/{os.getpid()}"


def test_a_session_goes_by_the_name_of_its_pool() -> None:
    """Where the user gave it one."""
    assert name_of({}, "orders").startswith("orders/")
    assert name_of({"application_name": "shop"}, "orders") == "shop"


@given(service=st.text("aé€😀", min_size=1, max_size=70))
def test_a_long_service_pushes_neither_process_nor_token_out(service: str) -> None:
    """The service gives way."""
    identity.set_token(TOKEN)

    told = name_of({}, service)

    assert told.isascii()
    assert len(told) <= identity.LONGEST_NAME
    assert told.endswith(f"/{os.getpid()}:{TOKEN}")


def test_the_users_name_is_kept() -> None:
    """Without a token, the user's own name stays as it is."""
    assert name_of({"application_name": "shop"}) == "shop"


def test_the_name_of_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGAPPNAME is what libpq would have used, so it is used."""
    monkeypatch.setenv("PGAPPNAME", "from-outside")

    assert name_of({}) == "from-outside"


def test_the_users_name_goes_before_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the DSN says overrules PGAPPNAME, as in libpq."""
    monkeypatch.setenv("PGAPPNAME", "from-outside")

    assert name_of({"application_name": "shop"}) == "shop"


def test_the_token_follows_the_name() -> None:
    """A marked process is recognised by the end of the name."""
    identity.set_token(TOKEN)

    assert name_of({"application_name": "shop"}) == f"shop:{TOKEN}"


def test_a_process_without_a_token_says_so() -> None:
    """There is no token until one is set, and then it is that one."""
    assert identity.token() == ""

    identity.set_token(TOKEN)

    assert identity.token() == TOKEN


@given(name=st.text("aé€😀\n", min_size=1, max_size=70))
def test_a_long_name_never_pushes_the_token_out(name: str) -> None:
    """PostgreSQL cuts at 63 bytes, of what it makes of each byte that is not ASCII."""
    identity.set_token(TOKEN)

    told = name_of({"application_name": name})

    kept = "".join(c if c == "a" else "?" for c in name)[: 63 - len(TOKEN) - 1]
    assert told == f"{kept}:{TOKEN}"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("web1", "web1"),
        ("checkout-7d9f8c6b5d1", "checkout-7d9f8c6b5d1"),
        ("checkout-service-7d9f8c6b5d-x2x9k", "checkout-..b5d-x2x9k"),
        ("checkout-service-7d9f8c6b5d-k8p2m", "checkout-..b5d-k8p2m"),
        ("ü" * 30, "?????????..?????????"),
    ],
)
def test_of_a_long_host_both_ends_are_shown(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pods of a deployment differ in the last letters."""
    monkeypatch.setattr(socket, "gethostname", lambda: f"{host}.example.org")
    assert name_of({}, "shop") == f"shop/{shown}/{os.getpid()}"
    identity.set_token(TOKEN)
    assert name_of({}, "s" * 70).endswith(f"/{shown}/{os.getpid()}:{TOKEN}")


def test_a_name_that_just_fits_is_not_cut() -> None:
    """All 63 bytes are used."""
    identity.set_token(TOKEN)
    name = "n" * (63 - len(TOKEN) - 1)

    assert name_of({"application_name": name}) == f"{name}:{TOKEN}"

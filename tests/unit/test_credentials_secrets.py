"""No secret is shown by the cache, whatever the provider does: row 38."""

import gc
import io
import logging
import secrets
import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pgdbpool.auth.provider import Credential
from pgdbpool.errors import CredentialError
from tests.unit.scripted_credentials import ScriptedCredentials

SECRET = f"s3cr:t@{secrets.token_hex(16)}"
OTHER = f"s3cr:t@{secrets.token_hex(16)}"


class Heard:
    """All that is said in the course of a test, by whatever way."""

    def __init__(self) -> None:
        self.log = io.StringIO()
        self.texts: list[str] = []

    def say(self, *things: object) -> None:
        """Take down how things present themselves."""
        self.texts += [f"{thing!r} {thing}" for thing in things]

    def failing(self, cache: ScriptedCredentials) -> None:
        """Take down what a get that fails says, and all that hangs on that."""
        with pytest.raises(CredentialError) as caught:
            cache.get()
        error: BaseException | None = caught.value
        while error is not None:
            self.say(error, error.args, cache)
            self.texts.append("".join(traceback.format_exception(error)))
            error = error.__cause__ or error.__context__


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    """Give what takes down all; fail at the end if it heard a secret."""
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    handler = logging.StreamHandler(heard.log)
    logging.getLogger().addHandler(handler)
    yield heard
    gc.collect()
    logging.getLogger().removeHandler(handler)
    assert heard.log.getvalue()
    for text in (*heard.texts, heard.log.getvalue()):
        for secret in (SECRET, OTHER):
            assert secret not in text
            assert secret[-16:] not in text


def test_no_answer_that_is_useless_shows_it(heard: Heard) -> None:
    """Each of them, told and logged."""
    cache = ScriptedCredentials()
    token = cache.token(SECRET)
    useless: list[object] = [
        SECRET.encode(),
        [SECRET],
        {"password": SECRET},
        f"{SECRET}\0",
        f"{SECRET}\udcff",
        replace(token, expires_at=1.0),
        replace(token, expires_at=float("nan")),
        replace(token, secret=SECRET.encode()),
        replace(token, user=""),
    ]
    for answer in useless:
        cache.provider.then(answer)  # type: ignore[arg-type]
        heard.failing(cache)
        cache.pass_time(120.0)
    assert cache.provider.asked == len(useless)


def test_no_step_of_a_life_shows_it(heard: Heard) -> None:
    """Fetched, renewed, refused, kept while the provider is down, expired."""
    cache = ScriptedCredentials()
    cache.provider.then(cache.token(SECRET), cache.token(OTHER))
    heard.say(cache.get(), cache.get(), cache)
    heard.say(cache.refused(cache.get()), cache)
    cache.provider.then(ConnectionError("no route"))
    cache.pass_time(900.0)
    heard.say(cache.get(), cache, cache._last)
    heard.say(cache.refused(cache.get()))
    cache.pass_time(100.0)
    heard.failing(cache)
    heard.say(cache._fetch, *vars(cache).values(), Credential(SECRET))


def test_no_change_that_fails_shows_it(heard: Heard) -> None:
    """The traceback of a callback is logged."""
    cache = ScriptedCredentials(SECRET, OTHER)
    cache.on_change(lambda: 1 / 0)
    cache.get()
    cache.refused(cache.get())
    assert "ZeroDivisionError" in heard.log.getvalue()

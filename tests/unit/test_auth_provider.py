"""What a provider may answer, and what it is told of any other answer."""

import functools
import math
import secrets
from collections.abc import Callable
from typing import Any, cast

import psycopg2
import pytest

from pgdbpool.auth.provider import LONGEST_WORDS, Credential, as_provider
from pgdbpool.errors import CredentialError, PoolError, SettingsError

NOW = 1_000_000.0
SECRET = secrets.token_hex(16)


def answering(answer: object, user: str | None = None) -> Callable[[], Credential]:
    """Return what checks a provider that always answers that."""
    return as_provider(lambda: cast("Any", answer), user, clock=lambda: NOW)


class Vault:
    """A provider as an object."""

    def credential(self) -> Credential:
        """Return the same each time."""
        return Credential(SECRET, "app")


# What may be.


def test_a_callable_may_return_a_string() -> None:
    """A password that does not expire, of whomever the DSN names."""
    assert answering(SECRET)() == Credential(SECRET)


def test_a_callable_may_return_a_credential() -> None:
    """Which says whose it is, and until when."""
    credential = Credential(SECRET, "app", NOW + 900)
    assert answering(credential, "app")() is credential


def test_an_object_with_the_method_is_a_provider() -> None:
    """Asked anew each time; it has one version for ever, if it tells of none."""
    source = as_provider(Vault())
    assert source() == Credential(SECRET, "app")
    assert source.version() is None


def test_the_version_is_the_providers_own() -> None:
    """Passed on as it is."""

    class Numbered(Vault):
        def version(self) -> object:
            return 7

    assert as_provider(Numbered()).version() == 7


def test_a_version_that_is_no_method_is_something_else() -> None:
    """Such as that of a client library."""

    class Library(Vault):
        version = "1.2.3"

    assert as_provider(Library()).version() is None


@pytest.mark.parametrize("secret", ["line\nbreak", " ", "ümläut 🔑", "x" * 10_000])
def test_a_secret_may_be_any_text_that_libpq_can_send(secret: str) -> None:
    """It is not shortened, stripped, or encoded."""
    assert answering(secret)().secret == secret


@pytest.mark.parametrize("user", [None, "app"])
def test_a_credential_may_leave_the_user_to_the_dsn(user: str | None) -> None:
    """Whether that names one or not."""
    assert answering(Credential(SECRET), user)().user is None


# What may not be.

USELESS: dict[str, tuple[object, str]] = {
    "nothing": (None, "returned None, not a str"),
    "bytes": (SECRET.encode(), "returned a bytes, not a str"),
    "a list": ([SECRET], "returned a list, not a str"),
    "a class": (Credential, "returned a type, not a str"),
    "empty": ("", "returned an empty secret"),
    "empty inside": (Credential(""), "returned an empty secret"),
    "nul": (f"{SECRET}\0{SECRET}", "NUL"),
    "surrogate": (f"{SECRET}\udcff", "UTF-8"),
    "bytes inside": (
        Credential(cast("str", SECRET.encode())),
        "returned a secret that is a bytes",
    ),
    "expired": (Credential(SECRET, None, NOW - 90), "expired 90 s ago"),
    "expires now": (Credential(SECRET, None, NOW), "expired 0 s ago"),
    "not a number": (Credential(SECRET, None, math.nan), "expires_at is nan"),
    "negative": (Credential(SECRET, None, -1.0), "expires_at is -1.0"),
    "endless": (Credential(SECRET, None, math.inf), "expires_at is inf"),
    "milliseconds": (Credential(SECRET, None, NOW * 1e6), "not seconds since"),
    "huge": (Credential(SECRET, None, 10**400), "not seconds since"),
    "a word": (Credential(SECRET, None, cast("float", "1")), "expires_at is a str"),
    "a flag": (Credential(SECRET, None, True), "expires_at is a bool"),
    "another user": (Credential(SECRET, "eve"), "'eve', but the DSN says 'app'"),
    "no name": (Credential(SECRET, ""), "whose user is ''"),
    "a number as user": (Credential(SECRET, cast("str", 7)), "whose user is 7"),
}


@pytest.mark.parametrize(("answer", "says"), USELESS.values(), ids=USELESS)
def test_a_useless_answer_is_told_by_what_is_wrong(answer: object, says: str) -> None:
    """By the name of the provider, and without a word of the secret."""
    with pytest.raises(CredentialError) as caught:
        answering(answer, "app")()

    said = str(caught.value)
    assert said.startswith("the password provider answering.<locals>.<lambda> returned")
    assert says in said
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {error.args}"
        error = error.__context__


def test_what_a_provider_raises_is_the_cause() -> None:
    """Told in one line."""

    def ask() -> str:
        raise TimeoutError("no answer\n  from vault:8200")

    with pytest.raises(CredentialError) as caught:
        as_provider(ask)()

    assert str(caught.value).endswith(
        ".ask failed: TimeoutError: no answer from vault:8200"
    )
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_an_error_that_fills_pages_is_cut() -> None:
    """Those of azure-identity tell of each way it tried."""

    def ask() -> str:
        raise ValueError("no " * 10_000)

    with pytest.raises(CredentialError) as caught:
        as_provider(ask)()

    assert len(str(caught.value)) < LONGEST_WORDS + 150


def test_an_error_without_words_is_told_by_its_class() -> None:
    """There is nothing else."""

    def ask() -> str:
        raise ZeroDivisionError

    with pytest.raises(CredentialError, match=r"failed: ZeroDivisionError$"):
        as_provider(ask)()


def test_a_credential_error_of_a_provider_passes_through() -> None:
    """It says all that there is to say."""
    own = CredentialError("the vault is sealed")

    def ask() -> str:
        raise own

    with pytest.raises(CredentialError) as caught:
        as_provider(ask)()
    assert caught.value is own


@pytest.mark.parametrize(
    ("given", "says"),
    [(7, "not int"), (None, "not NoneType"), (Vault, "Vault is a class")],
)
def test_what_is_no_provider_is_a_wrong_setting(given: object, says: str) -> None:
    """Found out when it is given, not when it is first asked."""
    with pytest.raises(SettingsError, match=f"^password: .*{says}"):
        as_provider(cast("Any", given))


# What is said of it.


def test_a_credential_does_not_show_its_secret() -> None:
    """Neither does what is made of it."""
    credential = Credential(SECRET, "app", NOW)
    assert repr(credential) == "Credential(user='app', expires_at=1000000.0)"
    assert SECRET not in f"{credential} {[credential]!r}"


def test_a_source_does_not_show_the_arguments_of_a_partial() -> None:
    """Whose own repr does."""
    partial = functools.partial("".join, (SECRET,))
    assert SECRET in repr(partial)

    source = as_provider(partial)

    assert repr(source) == "<Source partial>"
    assert source().secret == SECRET


def test_the_error_is_one_of_the_driver() -> None:
    """So that whoever handles a failed connect handles it; it is no acquire's."""
    assert issubclass(CredentialError, psycopg2.OperationalError)
    assert not issubclass(CredentialError, PoolError)

"""What a provider of credentials is, and whether its answer can be used.

What a user gives as ``password=`` is an object with a method ``credential``, or
a plain callable. Either may block and raise what it likes; what it answers is
checked here, so that a mistake in it is told by its name, and not by libpq.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pgdbpool.errors import CredentialError, SettingsError

# Of what a provider's error says; that of an SDK can fill pages.
LONGEST_WORDS: Final = 1000
# The year 5138: who is beyond that counts milliseconds.
LAST_SECOND: Final = 1e11


@dataclass(frozen=True)
class Credential:
    """What a login needs.

    Attributes:
        secret: the password or token; in no repr, message or log line.
        user: whose it is; None: whomever the DSN names.
        expires_at: when no login can be made with it any more, seconds since the
            epoch; None: it does not expire.
    """

    secret: str = field(repr=False)
    user: str | None = None
    expires_at: float | None = None

    def has_expired(self, now: float) -> bool:
        """Whether its end has come, at a time in seconds since the epoch."""
        return self.expires_at is not None and self.expires_at <= now

    def is_same_login(self, other: "Credential") -> bool:
        """Whether a server cannot tell the two apart."""
        return (self.secret, self.user) == (other.secret, other.user)


class Provider(Protocol):
    """Where credentials come from.

    It may have a second method, ``version() -> object``: cheap, and different
    whenever ``credential`` has something new. It is asked before each connect.
    """

    def credential(self) -> Credential | str:
        """Return a credential that can be used now; may block, may raise."""
        ...


class Source:
    """Asks a provider and checks the answer.

    Args:
        provider: as a user gives it.
        user: whom the DSN names.
        clock: wall clock, seconds since the epoch.

    Raises:
        SettingsError: it is no provider.
    """

    def __init__(
        self, provider: object, user: str | None, clock: Callable[[], float]
    ) -> None:
        self._ask = _asking(provider)
        version = getattr(provider, "version", None)
        self._version = version if callable(version) else None
        self._user = user
        self._clock = clock
        self.name = _name_of(provider)

    def __repr__(self) -> str:
        # Not the provider's: a functools.partial shows its arguments.
        return f"<Source {self.name}>"

    def __call__(self) -> Credential:
        """Return a credential that can be used. Blocks.

        Raises:
            CredentialError: the provider fails, or its answer is of no use.
        """
        try:
            answer = self._ask()
        except CredentialError:
            raise
        except Exception as error:
            raise self._error(f"failed: {told(error)}") from error
        fault = self._fault_of(answer)
        if fault is not None:
            raise self._error(fault)
        credential: Credential = (
            Credential(answer) if isinstance(answer, str) else answer
        )
        return credential

    def version(self) -> object:
        """Return what differs when the provider has something new.

        Raises:
            Exception: whatever the provider raises.
        """
        return None if self._version is None else self._version()

    def _error(self, what: str) -> CredentialError:
        return CredentialError(f"the password provider {self.name} {what}")

    def _fault_of(self, answer: object) -> str | None:
        """Return what is wrong with an answer, without a word of it."""
        if isinstance(answer, str):
            return _fault_of_secret(answer)
        if not isinstance(answer, Credential):
            return f"returned {_a(answer)}, not a str or a pgdbpool Credential"
        return (
            _fault_of_secret(answer.secret)
            or self._fault_of_user(answer.user)
            or self._fault_of_expiry(answer.expires_at)
        )

    def _fault_of_user(self, user: object) -> str | None:
        if user is None:
            return None
        if not isinstance(user, str) or not user:
            return f"returned a credential whose user is {user!r}, not a name or None"
        if self._user is not None and user != self._user:
            return (
                f"returned a credential of the user {user!r}, but the DSN says "
                f"{self._user!r}. Leave it out of the DSN, or have the provider "
                "return the same"
            )
        return None

    def _fault_of_expiry(self, expires_at: object) -> str | None:
        if expires_at is None:
            return None
        if isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)):
            return f"returned a credential whose expires_at is {_a(expires_at)}"
        if not 0 <= expires_at <= LAST_SECOND:  # neither is NaN
            return (
                f"returned a credential whose expires_at is {expires_at}, not seconds "
                "since the epoch, or None for one that does not expire"
            )
        late = self._clock() - expires_at
        if late >= 0:
            return (
                f"returned a credential that expired {late:.0f} s ago, by the clock "
                "of this machine"
            )
        return None


def as_provider(
    password: "Provider | Callable[[], Credential | str]",
    user: str | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> Source:
    """Return what asks a provider and checks its answers.

    Args:
        password: what a user gives as ``password=``, unless that is a string.
        user: whom the DSN names; a credential of anyone else is an error.
        clock: wall clock, seconds since the epoch.

    Raises:
        SettingsError: it is neither a provider nor a callable.
    """
    return Source(password, user, clock)


def told(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long."""
    words = " ".join(str(error).split())
    if len(words) > LONGEST_WORDS:
        words = f"{words[:LONGEST_WORDS]}…"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _asking(provider: object) -> Callable[[], Any]:
    if isinstance(provider, type):
        raise SettingsError(
            f"password: {provider.__name__} is a class; give an instance of it"
        )
    for ask in (getattr(provider, "credential", None), provider):
        if callable(ask):
            asking: Callable[[], Any] = ask
            return asking
    raise SettingsError(
        "password: must be a string, a callable that returns one, or a provider with "
        f"a method credential(), not {type(provider).__name__}"
    )


def _name_of(provider: object) -> str:
    name = getattr(provider, "__qualname__", None)
    return name if isinstance(name, str) else type(provider).__name__


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _fault_of_secret(secret: object) -> str | None:
    if not isinstance(secret, str):
        return f"returned a secret that is {_a(secret)}, not a str"
    if not secret:
        return "returned an empty secret"
    if "\0" in secret:
        return "returned a secret with a NUL character, which libpq cannot send"
    if not _is_text(secret):
        return "returned a secret that is no text: it cannot be encoded as UTF-8"
    return None


def _is_text(secret: str) -> bool:
    try:
        secret.encode()
    except UnicodeEncodeError:  # whose args hold the secret, so it ends here
        return False
    return True

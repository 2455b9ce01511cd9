"""Whether a server can be reached, what it last said, when to try it again.

Pure: time comes in as an argument, and the pool's lock guards every instance.
"""

import random
import re
from collections.abc import Callable
from typing import Final

import psycopg2

from pgdbpool.errors import (
    AuthenticationFailed,
    CredentialError,
    EndpointDown,
    TooManyConnections,
)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
PAUSE_GROWTH: Final = 1.6

# Severities of what ends a session, which quotes no statement.
ENDING: Final = ("FATAL", "PANIC")
_DRIVERS: Final = (psycopg2.OperationalError, psycopg2.InterfaceError)

# psycopg2 gives no SQLSTATE for a failed connect, only libpq's text, in the
# server's language; an unknown wording counts as unreachable. Wordings:
# PostgreSQL 10 to 18, src/backend/libpq/auth.c and utils/init/postinit.c.
LOGIN_REFUSED: Final = re.compile(
    r"authentication failed|no pg_hba\.conf entry|rejects connection"
    r"|role \".*\" does not exist|not permitted to log in|no password supplied",
    re.DOTALL,
)
TOO_MANY: Final = re.compile(
    r"too many (clients|connections)|remaining connection slots are reserved"
)
NO_DATABASE: Final = re.compile(
    r"FATAL:.*(database \".*\" does not exist|is not currently accepting connections"
    r"|permission denied for database)",
    re.DOTALL,
)


def refusal_of(error: BaseException) -> type[EndpointDown] | None:
    """Return how the server refused a login, None if it gave no such answer."""
    if isinstance(error, CredentialError):
        return None  # no login was tried
    if getattr(error, "pgcode", None) is not None:
        return None  # a statement's, in a hook: for a login psycopg2 has none
    text = str(error)
    if LOGIN_REFUSED.search(text):
        return AuthenticationFailed
    if TOO_MANY.search(text):
        return TooManyConnections
    if NO_DATABASE.search(text):
        return EndpointDown
    return None


def in_one_line(error: BaseException) -> str:
    """Return an error's text without line breaks, or its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def in_public(error: BaseException) -> str:
    """Return what an error says without what a statement or its parameters say.

    The statements of hooks are meant: what they raise is in the log, and the cause of
    what callers get.
    """
    code = getattr(error, "pgcode", None)
    diag = getattr(error, "diag", None)
    if getattr(diag, "severity_nonlocalized", None) in ENDING:
        return in_one_line(error)
    if code is None and _is_of_connects(error):
        return in_one_line(error)
    return type(error).__name__ + (f" ({code})" if isinstance(code, str) else "")


def _is_of_connects(error: BaseException) -> bool:
    """Whether it is a kind of error that comes of connects and lost sessions.

    What libpq cannot parse, and what others make of such errors, may quote secrets.
    """
    if isinstance(error, CredentialError):
        return error.__cause__ is None  # else it quotes the provider's
    is_systems = isinstance(error, OSError) and type(error).__module__ == "builtins"
    return is_systems or type(error) in _DRIVERS


def _without_frames(error: BaseException) -> BaseException:
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.with_traceback(None)
            todo += one.__cause__, one.__context__
    return error


class Health:
    """What the pool knows of one server from its connects and pings.

    Attributes:
        unreachable_since: the first failed connect or lost ping after which
            nothing has succeeded, monotonic seconds.
        refusal: how the last login was refused.
        has_answered: a connect or ping has succeeded.
        error: the last error of a connect or ping, kept after it is over.
        failures: connects that failed in a row.
        retry_at: when the next connect may be tried, after a failure.
    """

    __slots__ = (
        "error",
        "error_at",
        "failures",
        "has_answered",
        "refusal",
        "retry_at",
        "unreachable_since",
    )

    def __init__(self) -> None:
        self.unreachable_since: float | None = None
        self.refusal: type[EndpointDown] | None = None
        self.has_answered = False
        self.error: BaseException | None = None
        self.error_at = 0.0
        self.failures = 0
        self.retry_at = 0.0

    @property
    def is_down(self) -> bool:
        """Whether nothing has succeeded since the last failure."""
        return self.unreachable_since is not None or self.refusal is not None

    @property
    def needs_pause(self) -> bool:
        """Whether the last connect failed, so that the next may not be at once."""
        return self.is_down or self.failures > 0

    def succeeded(self) -> None:
        """A ping succeeded: the server lives, which says nothing of new logins."""
        self.has_answered = True
        self.unreachable_since = None
        self.refusal = None

    def connected(self) -> None:
        """A connect succeeded."""
        self.succeeded()
        self.failures = 0

    def ping_lost(self, error: BaseException, now: float) -> None:
        """A ping found its session gone; a new connect may be tried at once."""
        self.note(error, now)
        if self.unreachable_since is None:
            self.unreachable_since = now

    def connect_failed(self, error: BaseException, now: float) -> None:
        """A connect failed; the next may be tried after a jittered pause."""
        self.note(error, now)
        self.refusal = refusal_of(error)
        if self.refusal is not None:
            self.unreachable_since = None
        elif self.unreachable_since is None:
            self.unreachable_since = now
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * PAUSE_GROWTH**self.failures)
        self.failures = min(self.failures + 1, 50)
        self.retry_at = now + pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def note(self, error: BaseException, now: float) -> None:
        """Keep what was last said, for messages; it changes nothing else."""
        # Without its traceback, which would keep frames and connections alive.
        self.error = _without_frames(error)
        self.error_at = now

    def has_lasted(self, grace: float | None, now: float) -> bool:
        """Whether the server has been unreachable for longer than ``grace``."""
        since = self.unreachable_since
        return since is not None and grace is not None and now - since >= grace

    def describe(
        self, now: float, words: Callable[[BaseException], str] = in_one_line
    ) -> str:
        """Return what the server last said, when, after how many tries.

        Args:
            now: monotonic seconds.
            words: make them of an error.
        """
        if self.error is None:
            return "has not answered yet"
        said = words(self.error)
        tries = f", after {self.failures} tries" if self.failures > 1 else ""
        return f"said {now - self.error_at:.1f} s ago{tries}: {said}"

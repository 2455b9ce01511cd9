"""Whether a server can be reached, how it refuses, when it is tried again."""

import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdbpool.endpoint.health import Health, in_public, refusal_of
from pgdbpool.errors import (
    AuthenticationFailed,
    CredentialError,
    EndpointDown,
    TooManyConnections,
)

AT = 'connection to server at "db1" (10.0.0.1), port 5432 failed: '
REFUSED = OSError(f"{AT}Connection refused")
BAD_PASSWORD = OSError(f'{AT}FATAL:  password authentication failed for user "u"')

# libpq 17 and PostgreSQL 10 to 18: what was said, and what it means.
SAID = {
    'FATAL:  password authentication failed for user "u"': AuthenticationFailed,
    'FATAL:  Peer authentication failed for user "u"': AuthenticationFailed,
    'FATAL:  LDAP authentication failed for user "u"': AuthenticationFailed,
    'FATAL:  role "u" does not exist': AuthenticationFailed,
    'FATAL:  role "u" is not permitted to log in': AuthenticationFailed,
    'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "u", database "d"': (
        AuthenticationFailed
    ),
    'FATAL:  pg_hba.conf rejects connection for host "10.0.0.9"': AuthenticationFailed,
    "fe_sendauth: no password supplied": AuthenticationFailed,
    "FATAL:  sorry, too many clients already": TooManyConnections,
    'FATAL:  too many connections for role "u"': TooManyConnections,
    'FATAL:  too many connections for database "d"': TooManyConnections,
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER "
    "attribute": TooManyConnections,
    'FATAL:  database "d" does not exist': EndpointDown,
    'FATAL:  database "d" is not currently accepting connections': EndpointDown,
    'FATAL:  permission denied for database "d"': EndpointDown,
    "Connection refused\n\tIs the server running on that host?": None,
    "timeout expired": None,
    "FATAL:  the database system is starting up": None,
    "FATAL:  the database system is shutting down": None,
    "FATAL:  the database system is in recovery mode": None,
    "server closed the connection unexpectedly": None,
    "Network is unreachable": None,
    'could not translate host name "db1" to address: Name or service not known': None,
    "": None,
}


@pytest.mark.parametrize(("said", "meaning"), SAID.items())
def test_what_a_server_says_is_understood(
    said: str, meaning: type[EndpointDown] | None
) -> None:
    """Refused logins are told from servers that are down or starting."""
    assert refusal_of(OSError(AT + said)) is meaning


def test_a_missing_table_is_no_missing_database() -> None:
    """Only a FATAL of the login says that there is no such database."""
    assert refusal_of(OSError('ERROR:  database "d" does not exist')) is None


def test_a_server_is_up_until_something_fails() -> None:
    """Nothing is held against a server that was never tried."""
    health = Health()

    assert not health.is_down
    assert not health.has_lasted(0.0, 1e9)
    assert health.describe(0.0) == "has not answered yet"


def test_a_failed_connect_makes_it_down() -> None:
    """The time counts from the first failure, not the last."""
    health = Health()

    health.connect_failed(REFUSED, 10.0)
    health.connect_failed(REFUSED, 12.0)

    assert health.is_down
    assert health.unreachable_since == 10.0


def test_a_lost_ping_makes_it_down_and_may_be_followed_by_a_connect() -> None:
    """The time counts from the first lost ping; no pause is due."""
    health = Health()

    health.ping_lost(REFUSED, 10.0)
    health.ping_lost(REFUSED, 12.0)

    assert health.is_down
    assert health.unreachable_since == 10.0
    assert health.retry_at <= 10.0
    assert health.error is REFUSED


def test_a_failed_connect_after_a_lost_ping_does_not_begin_anew() -> None:
    """Lost pings and failed connects are one outage."""
    health = Health()

    health.ping_lost(REFUSED, 10.0)
    health.connect_failed(REFUSED, 12.0)

    assert health.unreachable_since == 10.0


def test_a_refused_login_is_down_but_not_unreachable() -> None:
    """A server that answers needs no grace."""
    health = Health()

    health.connect_failed(REFUSED, 10.0)
    health.connect_failed(BAD_PASSWORD, 11.0)

    assert health.is_down
    assert health.refusal is AuthenticationFailed
    assert health.unreachable_since is None
    assert not health.has_lasted(0.0, 99.0)


def test_a_refusal_that_is_over_is_forgotten() -> None:
    """A server that refused and then went away is unreachable from then on."""
    health = Health()

    health.connect_failed(BAD_PASSWORD, 10.0)
    health.connect_failed(REFUSED, 11.0)

    assert health.refusal is None
    assert health.unreachable_since == 11.0


@pytest.mark.parametrize("error", [REFUSED, BAD_PASSWORD])
def test_a_success_makes_it_up_again(error: OSError) -> None:
    """One success ends the outage; what was said stays for messages."""
    health = Health()
    health.connect_failed(error, 10.0)

    health.connected()

    assert not health.is_down
    assert not health.has_lasted(0.0, 99.0)
    assert (health.failures, health.error) == (0, error)


@pytest.mark.parametrize(
    ("grace", "later", "has_lasted"),
    [
        (5.0, 4.9, False),
        (5.0, 5.0, True),
        (0.0, 0.0, True),
        (None, 1e9, False),
        (float("inf"), 1e9, False),
    ],
)
def test_grace_is_how_long_it_may_be_unreachable(
    grace: float | None, later: float, *, has_lasted: bool
) -> None:
    """Zero is no time at all, and None is no end."""
    health = Health()
    health.connect_failed(REFUSED, 100.0)

    assert health.has_lasted(grace, 100.0 + later) is has_lasted


def pauses(fraction: float, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses after failures in a row, at one end of the jitter."""
    health = Health()
    monkeypatch.setattr(
        "pgdbpool.endpoint.health.random.uniform",
        lambda low, high: low + (high - low) * fraction,
    )
    found = []
    for _ in range(12):
        health.connect_failed(REFUSED, 0.0)
        found.append(health.retry_at)
    return found


def test_pauses_begin_at_a_tenth_of_a_second_and_grow_to_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The longest pauses: 0.1 s, 0.16 s, 0.256 s, … 2 s."""
    found = pauses(1.0, monkeypatch)

    assert found[:3] == pytest.approx([0.1, 0.16, 0.256])
    assert found == sorted(found)
    assert found[-1] == 2.0


def test_jitter_shortens_a_pause_by_half_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shortest pauses are half of the longest."""
    shortest, longest = pauses(0.0, monkeypatch), pauses(1.0, monkeypatch)

    assert shortest == pytest.approx([pause / 2 for pause in longest])


@given(failures=st.integers(1, 60), now=st.floats(0, 1e9))
def test_the_next_try_is_never_later_than_two_seconds(
    failures: int, now: float
) -> None:
    """However long an outage lasts, its end is found within two seconds."""
    health = Health()

    for _ in range(failures):
        health.connect_failed(REFUSED, now)

    assert now < health.retry_at <= now + 2.0


def test_after_a_success_pauses_are_short_again() -> None:
    """Each outage begins with the shortest pause."""
    health = Health()
    for _ in range(20):
        health.connect_failed(REFUSED, 0.0)

    health.connected()
    health.connect_failed(REFUSED, 100.0)

    assert health.retry_at <= 100.1


def test_what_was_said_is_told_with_its_age_and_the_tries() -> None:
    """A message has the last words, in one line, when, and after how many tries."""
    health = Health()
    health.connect_failed(OSError("first"), 10.0)
    assert health.describe(11.0) == "said 1.0 s ago: first"

    health.connect_failed(OSError("Connection refused\n\tIs it\nrunning?\n"), 12.0)

    assert (
        health.describe(12.5)
        == "said 0.5 s ago, after 2 tries: Connection refused Is it running?"
    )


def test_an_error_without_words_is_told_by_its_name() -> None:
    """A message never ends in nothing."""
    health = Health()
    health.connect_failed(TimeoutError(), 0.0)

    assert health.describe(0.0).endswith(": TimeoutError")


def test_a_kept_error_keeps_no_frames_alive() -> None:
    """Its traceback, which holds the locals of every frame, is dropped."""
    health = Health()
    try:
        raise REFUSED
    except OSError as error:
        health.connect_failed(error, 0.0)

    assert health.error is not None
    assert health.error.__traceback__ is None


class RequestError(OSError):
    """As libraries raise them, with all of a URL."""


def with_code(error: Exception, code: object) -> Exception:
    """Return an error as if a statement had failed with it, or somebody else's."""
    if isinstance(error, psycopg2.Error):
        error.__setstate__({"pgcode": code})  # type: ignore[attr-defined]
    else:
        error.pgcode = code  # type: ignore[attr-defined]
    return error


def caused(error: Exception) -> Exception:
    """Return an error that has a cause, which it quotes."""
    error.__cause__ = RequestError("t0ken")
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg2.OperationalError("Connection\nrefused"), "Connection refused"),
        (psycopg2.InterfaceError("already closed"), "already closed"),
        (TimeoutError("no answer within 2 s"), "no answer within 2 s"),
        (ConnectionResetError(), "ConnectionResetError"),
        (CredentialError("it answers nothing"), "it answers nothing"),
        (caused(CredentialError("failed: t0ken")), "CredentialError"),
        (psycopg2.ProgrammingError('missing "=" after "t0ken"'), "ProgrammingError"),
        (RequestError("GET /v1?token=t0ken"), "RequestError"),
        (LookupError("t0ken"), "LookupError"),
        (
            with_code(psycopg2.OperationalError("t0ken"), "58030"),
            "OperationalError (58030)",
        ),
        (with_code(OSError("t0ken"), "P0001"), "OSError (P0001)"),
        (with_code(LookupError("t0ken"), 7), "LookupError"),
    ],
)
def test_in_public_only_connects_are_quoted(error: Exception, words: str) -> None:
    """Of anything else the kind: statements, URLs and DSNs have secrets in them."""
    assert in_public(error) == words

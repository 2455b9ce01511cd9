"""Passwords that expire and change, on a server that wants them (scram-sha-256)."""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2.extensions import connection

from pgdbpool import AuthenticationFailed, ConnectionPool, EndpointDown
from pgdbpool.auth.provider import Credential
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint.state import State
from pgdbpool.errors import CredentialError
from tests.asking import ask, held, pid
from tests.soundness import assert_at_rest, assert_sound
from tests.waiting import let_pass, until

LIFE = 2.0  # seconds of a token
SOONEST = 0.6  # of which it is renewed at the soonest


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password="of the superuser") as server:
        yield server


class Vault:
    """A provider whose every token is the server's new password, and the only one.

    Attributes:
        life: how long a token says it lives, seconds; None: for ever.
        is_down: it cannot be reached.
        calls: how often it was asked.
        secret: the password now.
    """

    user = "clerk"

    def __init__(self, admin: connection) -> None:
        self.life: float | None = LIFE
        self.is_down = False
        self.calls = 0
        self.secret = ""
        self._admin = admin
        self._lock = threading.Lock()
        self.change()

    def change(self) -> None:
        """Give the server another password."""
        self.secret = secrets.token_hex(8)
        with self._lock, self._admin.cursor() as cur:
            cur.execute(f"ALTER ROLE {self.user} PASSWORD %s", (self.secret,))

    def credential(self) -> Credential:
        """Return a new token."""
        self.calls += 1
        if self.is_down:
            raise ConnectionError("the vault is down")
        self.change()
        expires_at = None if self.life is None else time.time() + self.life
        return Credential(self.secret, self.user, expires_at)


@pytest.fixture
def vault(guarded: EmbeddedPostgres) -> Iterator[Vault]:
    """Give a provider for a role of its own."""
    admin = psycopg2.connect(guarded.dsn())
    with contextlib.closing(admin):
        admin.autocommit = True
        ask(admin, f"CREATE ROLE {Vault.user} LOGIN")
        yield Vault(admin)
        ask(admin, f"DROP ROLE {Vault.user}")


def dsn_of(server: EmbeddedPostgres) -> str:
    """Return the DSN of a server without user and password."""
    return f"host=127.0.0.1 port={server.port} dbname=postgres"


class Load:
    """Threads that use a pool until told to end.

    Attributes:
        served: how many blocks ended well.
        errors: what the others raised.
    """

    def __init__(self, pool: ConnectionPool, threads: int) -> None:
        self.served = 0
        self.errors: list[BaseException] = []
        self._pool = pool
        self._over = threading.Event()
        self._executor = ThreadPoolExecutor(threads)
        self._threads = threads

    def __enter__(self) -> "Load":
        for _ in range(self._threads):
            self._executor.submit(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._executor.shutdown()

    def _work(self) -> None:
        while not self._over.wait(0.001):
            try:
                held(self._pool, lambda conn: ask(conn, "SELECT 1"))
            except Exception as error:  # noqa: BLE001 - the test looks at them
                self.errors.append(error)
            else:
                self.served += 1


def lasting(seconds: float, longer: float) -> pytest.MarkDecorator:
    """Have a test last so many seconds, and longer among the slow ones."""
    slow = [pytest.mark.slow, pytest.mark.timeout(60 + longer)]
    return pytest.mark.parametrize(
        "seconds", [seconds, pytest.param(longer, marks=slow)]
    )


@lasting(6.0, 60.0)
def test_tokens_that_expire_under_load_cost_no_request(
    guarded: EmbeddedPostgres, vault: Vault, seconds: float
) -> None:
    """Row 11: each is the server's only password; it is renewed ahead of its end."""
    dsn = dsn_of(guarded)
    with ConnectionPool(dsn, password=vault, min_size=2, max_size=8) as pool:
        pool.wait()
        began = time.monotonic()
        with Load(pool, 8) as load:
            let_pass(seconds)
            assert_sound(pool)
        took = time.monotonic() - began
        assert_at_rest(pool)
    assert load.errors == []
    assert load.served > 100
    assert seconds / LIFE - 1 <= vault.calls <= took / (LIFE * SOONEST) + 1


def test_a_crowd_at_the_cold_start_is_one_call(
    guarded: EmbeddedPostgres, vault: Vault
) -> None:
    """Row 34: two hundred threads, and what they wait for is fetched once."""
    dsn = dsn_of(guarded)
    vault.life = None
    with ConnectionPool(dsn, password=vault, max_size=8, timeout=30.0) as pool:
        with ThreadPoolExecutor(200) as executor:
            served = [executor.submit(held, pool) for _ in range(200)]
            assert all(future.result() for future in served)
        assert vault.calls == 1
        assert_at_rest(pool)


@lasting(4.0, 30.0)
def test_a_provider_that_is_down_costs_no_one_who_has_a_session(
    guarded: EmbeddedPostgres, vault: Vault, seconds: float
) -> None:
    """Row 11: living connections serve on; when it is back one call is enough."""
    dsn = dsn_of(guarded)
    with ConnectionPool(dsn, password=vault, min_size=4, max_size=4) as pool:
        pool.wait()
        vault.is_down = True
        with Load(pool, 4) as load:
            let_pass(seconds)
            assert vault.calls > 1
            vault.life = None
            vault.is_down = False
            before = vault.calls
            until(lambda: vault.calls > before, 40.0)
            until(lambda: generation(pool) == 1 and is_new(pool))
        assert load.errors == []
        assert vault.calls == before + 1
        assert_at_rest(pool)


def generation(pool: ConnectionPool) -> int:
    """Return how often everything was replaced."""
    return pool._roster.endpoints[0].generation


def is_new(pool: ConnectionPool) -> bool:
    """Return whether nothing is of an older generation."""
    (endpoint,) = pool._roster.endpoints
    with pool._lock:
        return {entry.generation for entry in endpoint.entries} == {endpoint.generation}


def test_a_password_that_was_changed_is_fetched_once(
    guarded: EmbeddedPostgres, vault: Vault
) -> None:
    """Row 11: the login that is refused with the kept one is made with a new one."""
    vault.life = None
    with ConnectionPool(dsn_of(guarded), password=vault, max_size=4) as pool:
        backend = held(pool)
        vault.change()
        calls = vault.calls
        with pool.connection() as first, pool.connection() as second:
            assert pid(first) == backend != pid(second)
            assert ask(second, "SELECT 1") == 1
        assert vault.calls == calls + 1
        assert pool.get_stats()["connections_errors"] == 0
        assert_at_rest(pool)


def test_a_fresh_password_that_is_refused_is_not_asked_for_again_and_again(
    guarded: EmbeddedPostgres, vault: Vault
) -> None:
    """Row 11: no account is locked, and who waits is told why at once."""
    calls = 0

    def wrong() -> str:
        nonlocal calls
        calls += 1
        return f"wrong {calls}"

    dsn = dsn_of(guarded) + f" user={Vault.user}"
    with ConnectionPool(dsn, password=wrong, timeout=20.0) as pool:
        for _ in range(5):
            with pytest.raises(AuthenticationFailed, match="clerk"):
                pool.getconn()
        assert calls <= 3
    assert vault.calls == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"bytes", "a secret that is a bytes|a bytes, not a str"),
        ("", "an empty secret"),
        (None, "None"),
        (Credential("secret", expires_at=1.0), "expired"),
        (Credential("secret", user="somebody"), "of the user 'somebody'"),
        (ConnectionError("no vault"), "ConnectionError: no vault"),
    ],
)
def test_a_provider_of_no_use_is_named(
    guarded: EmbeddedPostgres,
    caplog: pytest.LogCaptureFixture,
    answer: object,
    said: str,
) -> None:
    """With what is wrong; nothing half-open is left, and no secret is told."""
    caplog.set_level(logging.DEBUG)

    def provider() -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    dsn = dsn_of(guarded) + " user=postgres"
    with ConnectionPool(dsn, password=provider, timeout=0.5) as pool:  # type: ignore[arg-type]
        with pytest.raises(EndpointDown, match=said) as caught:
            pool.getconn()
        assert isinstance(caught.value.__cause__, CredentialError)
        assert "Look at what provides the password" in str(caught.value)
        assert pool._roster.count(State.IDLE, State.IN_USE) == 0
    assert "secret'" not in caplog.text


def test_rotate_replaces_all_and_cuts_nothing(
    guarded: EmbeddedPostgres, vault: Vault
) -> None:
    """By one call; who is busy goes on, and goes at the release."""
    vault.life = None
    dsn = dsn_of(guarded)
    with ConnectionPool(dsn, password=vault, min_size=3, max_size=4) as pool:
        pool.wait()
        with pool.connection() as conn:
            ask(conn, "CREATE TEMPORARY TABLE work ON COMMIT DROP AS SELECT 1 AS i")
            pool.rotate()
            assert vault.calls == 2
            until(lambda: len(pool._roster.endpoints[0].shelf) >= 2)
            assert ask(conn, "SELECT i FROM work") == 1
        until(lambda: is_new(pool))
        assert vault.calls == 2
        assert pool.get_stats()["connections_errors"] == 0
        assert_at_rest(pool)


def test_a_rotation_that_fails_changes_nothing(
    guarded: EmbeddedPostgres, vault: Vault
) -> None:
    """Who has a session keeps it."""
    vault.life = None
    with ConnectionPool(dsn_of(guarded), password=vault, max_size=2) as pool:
        backend = held(pool)
        vault.is_down = True
        with pytest.raises(CredentialError, match="the vault is down"):
            pool.rotate()
        assert held(pool) == backend
        assert_at_rest(pool)


def test_a_string_is_a_password_too(guarded: EmbeddedPostgres, vault: Vault) -> None:
    """And `rotate` replaces what was opened with it."""
    dsn = dsn_of(guarded) + f" user={Vault.user}"
    with ConnectionPool(dsn, password=vault.secret, max_size=2) as pool:
        backend = held(pool)
        pool.rotate()
        until(lambda: held(pool) != backend)
        assert_at_rest(pool)

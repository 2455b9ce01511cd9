"""A connect under a wait callback has the limit that libpq leaves to it."""

import contextlib
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import extensions as driver

from pgdbpool import watchdog as module
from pgdbpool.endpoint import connection
from pgdbpool.watchdog import advancing
from tests.unit.scripted_timer import Timer
from tests.unit.test_guarded import FakeConnection


@pytest.fixture
def conn() -> Iterator[FakeConnection]:
    """Give a connection to nowhere."""
    with contextlib.closing(FakeConnection()) as conn:
        yield conn


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    """Give the watchdog, without a thread."""
    timer = Timer()
    monkeypatch.setattr(module, "watchdog", timer)
    return timer


def test_each_address_is_given_up_in_its_turn(
    conn: FakeConnection, timer: Timer
) -> None:
    """The next one has as long as the first; at the end nothing is left of it."""
    with advancing(conn, 2.0):  # type: ignore[arg-type]
        timer.clock.now += 1.9
        timer.fire_due()
        assert not conn.is_shut_down()
        timer.clock.now += 0.1
        timer.fire_due()
        assert conn.is_shut_down()
        conn.close()
        conn.__init__()  # type: ignore[misc] # libpq goes on to the next
        timer.clock.now += 2.0
        timer.fire_due()
        assert conn.is_shut_down()
    assert not timer._deadlines


def test_the_error_says_that_nobody_answered(
    conn: FakeConnection, timer: Timer
) -> None:
    """And what libpq made of it is its cause."""
    reset = psycopg2.OperationalError("Connection reset by peer")

    def connect() -> None:
        with advancing(conn, 2.0):  # type: ignore[arg-type]
            timer.clock.now += 2.0
            timer.fire_due()
            raise reset

    with pytest.raises(psycopg2.OperationalError) as got:
        connect()
    assert str(got.value) == "no answer to a connect within 2 s"
    assert got.value.__cause__ is reset


@pytest.mark.parametrize("error", [psycopg2.OperationalError("refused"), SystemExit()])
def test_an_error_in_time_is_left_as_it_is(
    conn: FakeConnection, timer: Timer, error: BaseException
) -> None:
    """The driver's own, or one from outside."""
    with pytest.raises(type(error)) as got, advancing(conn, 2.0):  # type: ignore[arg-type]
        raise error
    assert got.value is error
    assert not timer._deadlines


def test_a_deadline_set_anew_on_another_thread_does_not_stay(
    conn: FakeConnection, timer: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be in the middle of firing when the connect ends."""
    guard = advancing(conn, 2.0)  # type: ignore[arg-type]
    cancel = timer.cancel

    def cancel_too_late(_: object) -> bool:
        monkeypatch.setattr(timer, "cancel", cancel)
        timer._deadlines.clear()
        guard._is_over = False  # when the firing, which this waits for, looked at it
        guard._fire()
        guard._is_over = True
        return False

    with guard:
        monkeypatch.setattr(timer, "cancel", cancel_too_late)
    assert not timer._deadlines


def test_what_fires_after_the_end_does_nothing(
    conn: FakeConnection, timer: Timer
) -> None:
    """The connection is somebody's by then."""
    guard = advancing(conn, 2.0)  # type: ignore[arg-type]
    with guard:
        pass
    guard._fire()
    assert not conn.is_shut_down()
    assert not timer._deadlines


@pytest.mark.parametrize(
    ("dsn", "environ", "limit"),
    [
        ("connect_timeout=5", "7", 5),
        ("connect_timeout=1", "", 2),
        ("host=db", "7", 7),
        ("host=db", "", None),
        ("connect_timeout=0", "7", None),
    ],
)
def test_the_limit_is_that_of_libpq(
    monkeypatch: pytest.MonkeyPatch, dsn: str, environ: str, limit: int | None
) -> None:
    """Whole seconds, two at least, zero for none; the DSN before the environment."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", environ)
    monkeypatch.setattr(driver, "get_wait_callback", lambda: print)
    found = connection._keeping_patience(object(), dsn)  # type: ignore[arg-type]
    assert getattr(found, "_limit", None) == limit


def test_without_a_wait_callback_libpq_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody parses anything."""
    monkeypatch.setattr(driver, "get_wait_callback", lambda: None)
    found = connection._keeping_patience(object(), "no dsn at all")  # type: ignore[arg-type]
    assert isinstance(found, contextlib.nullcontext)

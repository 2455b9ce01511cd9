"""A call that takes too long is ended, and its error says so."""

import contextlib
import socket
from collections.abc import Iterator

import psycopg2
import pytest

from pgdbpool import watchdog as module
from pgdbpool.watchdog import guarded, shut_down
from tests.unit.scripted_timer import Timer


class FakeConnection:
    """What `guarded` needs of a connection: a descriptor."""

    def __init__(self) -> None:
        self.sock, self.peer = socket.socketpair()

    def fileno(self) -> int:
        """Return the descriptor, or raise as psycopg2 does."""
        if self.sock.fileno() < 0:
            raise psycopg2.InterfaceError("connection already closed")
        return self.sock.fileno()

    def is_shut_down(self) -> bool:
        """Whether the peer sees the end."""
        self.peer.setblocking(False)
        try:
            return self.peer.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close both ends."""
        self.sock.close()
        self.peer.close()


@pytest.fixture
def conn() -> Iterator[FakeConnection]:
    """Give a connection to nowhere."""
    with contextlib.closing(FakeConnection()) as conn:
        yield conn


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Timer:
    """Give the watchdog that guards calls, without a thread."""
    timer = Timer()
    monkeypatch.setattr(module, "watchdog", timer)
    return timer


def call(
    conn: FakeConnection,
    guard: Timer,
    seconds: float,
    error: BaseException | None = None,
) -> None:
    """Make a guarded call that may take 2 s, takes so many, and ends so."""
    with guarded(conn, 2.0, "the ping"):
        guard.clock.now += seconds
        guard.fire_due()
        if error is not None:
            raise error


def test_a_call_in_time_is_left_alone(conn: FakeConnection, guard: Timer) -> None:
    """And nothing is left of its deadline."""
    call(conn, guard, 1.9)

    guard.clock.now += 10.0
    guard.fire_due()
    assert not conn.is_shut_down()


def test_a_call_that_takes_too_long_ends_with_its_socket(
    conn: FakeConnection, guard: Timer
) -> None:
    """The error says what took too long and what the limit was."""
    blocked = psycopg2.OperationalError("server closed the connection")

    with pytest.raises(psycopg2.OperationalError) as got:
        call(conn, guard, 2.0, blocked)

    assert str(got.value) == "the ping took longer than 2 s"
    assert got.value.__cause__ is blocked
    assert conn.is_shut_down()


def test_a_call_that_got_through_in_the_last_moment_is_lost_too(
    conn: FakeConnection, guard: Timer
) -> None:
    """Its socket is gone, so what follows could not work."""
    with pytest.raises(psycopg2.OperationalError, match="took longer than 2 s"):
        call(conn, guard, 2.0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("the hook's own")])
def test_an_error_of_another_kind_is_not_replaced(
    conn: FakeConnection, guard: Timer, error: BaseException
) -> None:
    """What the user's hook or the outside raised passes through."""
    with pytest.raises(type(error)) as got:
        call(conn, guard, 2.0, error)

    assert got.value is error


def test_an_error_in_time_passes_through(conn: FakeConnection, guard: Timer) -> None:
    """The driver's own, untouched."""
    error = psycopg2.ProgrammingError("no such column")

    with pytest.raises(psycopg2.ProgrammingError) as got:
        call(conn, guard, 1.9, error)

    assert got.value is error


def test_no_limit_is_no_deadline(conn: FakeConnection, guard: Timer) -> None:
    """A COMMIT has none."""
    with guarded(conn, None, "the commit"):
        guard.clock.now += 1e9
        guard.fire_due()

    assert guard.wakes == 0
    assert not conn.is_shut_down()


def test_a_connection_closed_meanwhile_is_not_blamed(
    conn: FakeConnection, guard: Timer
) -> None:
    """Without a socket nothing was ended, so nothing is said."""
    with guarded(conn, 0.5, "the ping"):
        conn.sock.close()
        guard.clock.now += 0.5
        guard.fire_due()


def test_shutting_down_leaves_the_descriptor_to_its_owner(
    conn: FakeConnection,
) -> None:
    """Closing it here would let another file take its number."""
    before = conn.fileno()

    assert shut_down(conn) is True

    assert conn.fileno() == before
    assert conn.sock.recv(1) == b""


def test_there_is_nothing_to_shut_down_without_a_socket(conn: FakeConnection) -> None:
    """It says so and raises nothing."""
    conn.sock.close()

    assert shut_down(conn) is False

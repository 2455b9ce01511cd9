"""What a pool does to find out where names lead, without a server or a thread."""

import _thread
import contextlib
import logging
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any, cast

import psycopg2
import pytest

from pgdbpool import ConnectionPool
from pgdbpool import locating as module
from pgdbpool import watchdog as watchdogs
from pgdbpool.endpoint import names
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.host import STALE, Host, Presence
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import State
from tests.unit.environments import clear
from tests.unit.scripted_cluster import primary_at
from tests.unit.scripted_name import PRIMARY, A, B
from tests.unit.scripted_timer import Timer

PING = 2.0
LOST = psycopg2.OperationalError("server closed the connection unexpectedly")


class FakeConnection:
    """A session with nobody: a socket, and what the pool asks of it."""

    def __init__(self) -> None:
        self.sock, self.peer = socket.socketpair()
        self.closed = 0
        self.address = A
        self.entry: Entry | None = None
        self.hold: object = None
        self.is_renewed = self.is_touched = False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.sock.fileno()

    def is_shut_down(self) -> bool:
        """Whether the peer sees the end."""
        self.peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return self.peer.recv(1) == b""
        return False

    def get_parameter_status(self, _name: str) -> str:
        """Return that its server is a primary."""
        return "off"

    def retire(self) -> None:
        """Close it."""
        self.closed = 1
        self.sock.close()
        self.peer.close()


@pytest.fixture
def conn() -> Iterator[Any]:
    """Give a session that any connect leads to."""
    conn = FakeConnection()
    yield conn
    conn.retire()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> ConnectionPool:
    """Give a pool of one name that comes by for no upkeep."""
    clear(monkeypatch)
    made = ConnectionPool("host=db", ping_timeout=PING)
    monkeypatch.setattr(made, "_come_by", lambda _: None)
    return made


@pytest.fixture
def endpoint(
    pool: ConnectionPool, conn: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> Endpoint:
    """Give its endpoint, whose connects succeed without a server."""
    (endpoint,) = pool._roster.endpoints

    def connect(_address: str | None = None) -> FakeConnection:
        endpoint.opening.add(cast("Any", conn))
        return conn

    monkeypatch.setattr(endpoint, "connect", connect)
    return endpoint


@pytest.fixture
def host(endpoint: Endpoint) -> Host:
    """Give where the name leads."""
    assert endpoint.host is not None
    return endpoint.host


@pytest.fixture
def _all_is_quiet(monkeypatch: pytest.MonkeyPatch, pool: ConnectionPool) -> None:
    monkeypatch.setattr(names, "address_of", lambda conn: conn.address)
    monkeypatch.setattr(pool, "_listen", lambda *_: None)
    monkeypatch.setattr(_thread, "start_new_thread", lambda *_: None)


# Visits.


def test_what_a_visit_opened_is_closed_and_no_longer_opening(
    pool: ConnectionPool,
    endpoint: Endpoint,
    conn: FakeConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is of nobody's entry, so nobody else would close it, nor a fork find it."""
    monkeypatch.setattr(module, "presence", lambda _: PRIMARY)

    assert pool._who_is_at(endpoint, A) is PRIMARY

    assert conn.closed
    assert endpoint.opening == set()


def test_what_a_visit_opened_is_closed_also_when_nobody_answers(
    pool: ConnectionPool,
    endpoint: Endpoint,
    conn: FakeConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it was that was asked for."""

    def presence(_conn: object) -> Presence:
        raise LOST

    monkeypatch.setattr(module, "presence", presence)
    with pytest.raises(psycopg2.OperationalError):
        pool._who_is_at(endpoint, A)

    assert conn.closed
    assert endpoint.opening == set()


def test_who_accepts_a_visit_and_says_nothing_is_given_up(
    pool: ConnectionPool,
    endpoint: Endpoint,
    conn: FakeConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After ``ping_timeout``, or the survey would wait for it for ever."""
    timer = Timer()
    monkeypatch.setattr(watchdogs, "watchdog", timer)

    def presence(_conn: object) -> Presence:
        timer.clock.now += PING - 0.1
        timer.fire_due()
        assert not conn.is_shut_down()
        timer.clock.now += 0.2
        timer.fire_due()
        assert conn.is_shut_down()
        raise LOST

    monkeypatch.setattr(module, "presence", presence)
    with pytest.raises(psycopg2.OperationalError, match="a visit took longer than 2 s"):
        pool._who_is_at(endpoint, A)


def test_where_a_visit_fails_is_nobody(
    pool: ConnectionPool,
    endpoint: Endpoint,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The survey goes on without it, and the log says why."""

    def refuse(_address: str) -> FakeConnection:
        raise LOST

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(endpoint, "connect", refuse)
    monkeypatch.setattr(_thread, "start_new_thread", lambda *_: None)
    pool._roster.resolved(host, frozenset({A, B}), monotonic())

    pool._visit(endpoint, A)

    assert host.pending == {B}
    assert host.presences == {A: None}
    assert f"at {A} nobody answers for db:5432: server closed" in caplog.text


# Resolving.


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")]
)
def test_a_name_that_has_no_address_is_left_to_libpq(
    pool: ConnectionPool,
    host: Host,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does one that cannot be a name end the thread that asks."""

    def addresses(_name: str) -> frozenset[str]:
        raise error

    monkeypatch.setattr(names, "addresses", addresses)

    pool._resolve(host)

    assert host.addresses == frozenset()
    assert pool._roster.monitor.is_settled


@pytest.mark.usefixtures("_all_is_quiet")
@pytest.mark.parametrize(
    ("seconds", "resolved"), [(STALE - 1.0, []), (STALE + 1.0, ["db"])]
)
def test_what_was_found_long_ago_is_resolved_before_a_connect(
    pool: ConnectionPool,
    endpoint: Endpoint,
    seconds: float,
    resolved: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An idle pool asks nobody meanwhile; one that is in use knows it already."""
    asked: list[str] = []

    def addresses(name: str) -> frozenset[str]:
        asked.append(name)
        return frozenset({A})

    def refuse() -> FakeConnection:
        assert asked == resolved
        raise LOST

    monkeypatch.setattr(names, "addresses", addresses)
    monkeypatch.setattr(endpoint, "connect", refuse)
    endpoint.addresses = frozenset({A})
    assert endpoint.host is not None
    pool._roster.resolved(endpoint.host, endpoint.addresses, monotonic() - seconds)

    pool._connect(endpoint.new_entry(monotonic()))

    assert asked == resolved
    assert endpoint.health.failures == 1


# Without threads.


@pytest.fixture
def _no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", start)


@pytest.mark.usefixtures("_no_more_threads")
def test_a_name_that_no_thread_resolves_is_asked_for_again_and_libpq_serves(
    pool: ConnectionPool, host: Host
) -> None:
    """Else nobody would be served before it is known where it leads."""
    assert not pool._roster.monitor.is_settled
    endpoint = pool._roster.endpoints[0]
    endpoint.new_entry(monotonic())
    pool._roster.resolve(monotonic())

    pool.act()

    assert host.resolve_at < monotonic() + 2 * names.INTERVAL
    assert pool._roster.monitor.is_settled


@pytest.mark.usefixtures("_no_more_threads")
def test_addresses_that_no_thread_visits_are_new_again_and_libpq_serves(
    pool: ConnectionPool, host: Host
) -> None:
    """As those where nobody answers."""
    pool._roster.resolved(host, frozenset({A, B}), monotonic())
    assert host.pending == {A, B}

    pool.act()

    assert host.pending == set()
    assert host.known == frozenset()
    assert pool._roster.monitor.is_settled


# What was opened before it was known who is where.


@pytest.mark.usefixtures("_all_is_quiet")
@pytest.mark.parametrize(("address", "is_its_own"), [(B, True), (A, False)])
def test_what_a_session_tells_is_of_its_own_server(
    pool: ConnectionPool,
    endpoint: Endpoint,
    conn: FakeConnection,
    address: str,
    *,
    is_its_own: bool,
) -> None:
    """An endpoint learns nothing from one that another of the name's answered."""
    endpoint.addresses = frozenset({B})
    entry = endpoint.new_entry(monotonic())
    conn.address = address

    pool._take_in(entry, cast("Any", conn), primary_at(100), 0.01)

    assert endpoint.standing.role is (Role.PRIMARY if is_its_own else None)
    assert entry.state is (State.IDLE if is_its_own else State.CLOSED)
    assert bool(conn.closed) is not is_its_own

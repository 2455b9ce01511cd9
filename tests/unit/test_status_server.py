"""When servers are asked for their sessions, and what of it is kept."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest

from pgdbpool import greenlets
from pgdbpool.status.server import MEMORY, PAUSE, REST, Seen, Server, Session

SESSION = Session(
    pid=7,
    state="idle",
    wait_type="",
    wait_event="",
    seconds=1.0,
    transaction_seconds=None,
    application_name="shop/web1/8",
    client="",
    is_asking=True,
)


class Endpoint:
    """One server."""

    def __init__(self, name: str) -> None:
        self.name = name


class Pool:
    """A pool whose servers answer as a test says."""

    def __init__(self, name: str = "shop") -> None:
        self.name = name
        self.endpoints = [Endpoint("db1"), Endpoint("db2")]
        self.asked: list[str] = []
        self.answers: dict[str, tuple[Session, ...] | psycopg2.Error] = {
            "db1": (SESSION,),
            "db2": (SESSION,),
        }

    def ask_idle(self, ask: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
        """Yield what the servers say that have an idle connection."""
        for name in self.answers:
            conn = SimpleNamespace(pool=self)
            conn.entry = SimpleNamespace(endpoint=Endpoint(name))
            try:
                yield name, ask(conn)
            except psycopg2.Error as error:
                yield name, error


def sessions(conn: Any) -> tuple[Session, ...]:  # noqa: ANN401 - as above
    """Return what a server has been set to say."""
    answer = conn.pool.answers[conn.entry.endpoint.name]
    conn.pool.asked.append(conn.entry.endpoint.name)
    if isinstance(answer, psycopg2.Error):
        raise answer
    return tuple(answer)


class Clock:
    """The time, for those who are asked for it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        """Return seconds since 1970."""
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock, which moves when a test moves it."""
    clock = Clock()
    monkeypatch.setattr("pgdbpool.status.server.time", clock)
    return clock


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Give a pool; what is asked of it is asked at once."""
    monkeypatch.setattr("pgdbpool.status.server._sessions", sessions)
    monkeypatch.setattr(greenlets, "start", lambda function, *args: function(*args))
    return Pool()


@pytest.fixture
def server(pool: Pool, clock: Clock) -> Server:  # noqa: ARG001 - of its time
    """Give what asks that pool."""
    pools: Any = [pool]
    return Server(lambda: pools)


def test_a_server_is_asked_at_most_every_two_seconds(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """However many look."""
    for _ in range(100):
        server.look()
        clock.now += 0.1
    for name in ("db1", "db2"):
        assert 10.0 / PAUSE - 1 <= pool.asked.count(name) <= 10.0 / PAUSE + 1
    assert [one.endpoint for one in server.seen()] == ["db1", "db2"]


def test_what_another_worker_knows_is_not_asked(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """As long as it is new; newer than that it does not become."""
    for _ in range(100):
        now = clock.now
        server.learn(Seen("shop", name, now, now, (), None) for name in ("db1", "db2"))
        server.look()
        clock.now += 0.1
    assert pool.asked == []
    before = server.seen()
    server.learn(Seen("shop", name, 1.0, 1.0, (), None) for name in ("db1", "db2"))
    assert server.seen() == before


def test_a_server_that_refuses_is_told_of_and_left_alone(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """Also at the first question; for a minute, in which the others are asked."""
    pool.answers["db1"] = psycopg2.errors.InsufficientPrivilege("hunter2")
    server.look()
    seen, _ = server.seen()
    assert (seen.sessions, seen.error) == ((), "InsufficientPrivilege")
    while clock.now < seen.asked_at + REST - PAUSE:
        clock.now += PAUSE
        server.look()
    assert pool.asked.count("db1") == 1
    assert pool.asked.count("db2") == REST / PAUSE
    clock.now += PAUSE
    pool.answers["db1"] = (SESSION,)
    server.look()
    seen, _ = server.seen()
    assert (seen.sessions, seen.error) == ((SESSION,), None)


def test_what_was_seen_before_an_error_is_kept_with_its_age(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """It is what there is."""
    pool.answers = {"db1": (SESSION,)}
    server.look()
    began = clock.now
    clock.now += PAUSE
    pool.answers = {"db1": psycopg2.OperationalError("gone")}
    server.look()
    (seen,) = server.seen()
    assert seen.sessions == (SESSION,)
    assert (seen.taken_at, seen.asked_at) == (began, clock.now)
    assert seen.error == "OperationalError"


def test_a_server_without_an_idle_connection_makes_a_worker_fall_behind(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """Another one may have one."""
    pool.answers = {}
    server.look()
    assert server.is_behind
    now = clock.now
    server.learn(Seen("shop", name, now, now, (), None) for name in ("db1", "db2"))
    assert not server.is_behind


def test_what_was_seen_of_pools_that_are_gone_is_forgotten(clock: Clock) -> None:
    """Also what others told of theirs."""
    server = Server(list)
    now = clock.now
    server.learn(Seen(f"tenant-{n}", "db1", now, now, (), None) for n in range(200))
    assert len(server.seen()) == 200
    clock.now += MEMORY
    assert server.seen() == []


def test_what_was_seen_of_servers_that_are_gone_is_forgotten(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """A name may lead to another address every day; those there are remain."""
    server.look()
    pool.endpoints = [Endpoint("db2"), Endpoint("db3")]
    assert {one.endpoint for one in server.seen()} == {"db1", "db2"}
    clock.now += MEMORY
    assert {one.endpoint for one in server.seen()} == {"db2"}


def test_a_clock_that_is_set_back_keeps_nobody_from_asking(
    server: Server, pool: Pool, clock: Clock
) -> None:
    """What was seen in the future is old, and nobody learns it."""
    server.look()
    later = clock.now
    clock.now -= 3600.0
    server.learn([Seen("shop", "db3", later, later, (), None)])
    assert {one.endpoint for one in server.seen()} == {"db1", "db2"}
    monotonic = server._tried_at
    server._tried_at = monotonic - 3600.0 - PAUSE  # that clock is never set back
    server.look()
    assert pool.asked == ["db1", "db2"] * 2
    assert {one.asked_at for one in server.seen()} == {clock.now}


def test_at_the_limit_of_threads_nobody_is_asked(
    server: Server, pool: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is tried again."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(greenlets, "start", fail)
        assert server.look() == []
    clock.now += PAUSE
    server.look()
    assert pool.asked == ["db1", "db2"]


def test_what_a_worker_tells_another_understands() -> None:
    """And what it does not is an error that says so."""
    seen = Seen("shop", "db1", time.time(), time.time(), (SESSION,), None)
    told = dataclasses.asdict(seen)
    assert Seen.of(told) == seen
    for wrong in ({}, {**told, "asked_at": "x"}, {**told, "sessions": [{}]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Seen.of(wrong)

"""How long connects take, the failed ones too, and that times are added up."""

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest

from pgdbpool import ConnectionPool, EndpointDown, greenlets
from pgdbpool.demo.postgres import HOST, free_port
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import PoolError
from tests.asking import held
from tests.soundness import assert_at_rest
from tests.waiting import let_pass, until

SLOW = 0.05
LONG_AGO = 1000.0


class Connects:
    """An observer that keeps what it is told of connects."""

    def __init__(self) -> None:
        self.told: list[tuple[float, BaseException | None]] = []

    def acquired(self, hold: Hold, waited: float, error: PoolError | None) -> None:
        """Let it pass."""

    def released(self, hold: Hold, held: float) -> None:
        """Let it pass."""

    def connected(
        self, _endpoint: Endpoint, seconds: float, error: BaseException | None
    ) -> None:
        """Keep it."""
        self.told.append((seconds, error))


def observed(dsn: str, **given: Any) -> tuple[ConnectionPool, Connects]:  # noqa: ANN401 - settings
    """Return a pool with an observer."""
    pool, connects = ConnectionPool(dsn, observe=True, **given), Connects()
    pool.observers += (connects,)
    return pool, connects


def test_a_connect_takes_as_long_as_all_of_it(dsn: str) -> None:
    """What the hook does is part of it; the times are added up."""
    pool, connects = observed(dsn, configure=lambda _: time.sleep(SLOW))
    with pool:
        held(pool)
        until(lambda: connects.told)
        measured = pool.snapshot().connects
    ((seconds, error),) = connects.told
    assert error is None
    assert seconds >= SLOW
    assert measured is not None
    assert measured.total == seconds
    assert sum(measured.counts) == 1


@pytest.mark.parametrize("threaded", [True, False])
def test_a_connect_that_fails_takes_time_too(dsn: str, *, threaded: bool) -> None:
    """All that was spent on it; but it is none of those that were made."""

    def fail(_: object) -> None:
        time.sleep(SLOW)
        raise psycopg2.OperationalError("not this one")

    pool, connects = observed(dsn, configure=fail, grace=0.0, threaded=threaded)
    with pool:
        with pytest.raises(EndpointDown):
            pool.getconn(5.0)
        until(lambda: connects.told)
        measured = pool.snapshot().connects
    seconds, error = connects.told[0]
    assert "not this one" in str(error)
    assert seconds >= SLOW
    assert measured is not None
    assert sum(measured.counts) == 0


def test_a_connect_that_fails_begins_when_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not when it was planned, as one that succeeds does not."""
    start = greenlets.start

    def late(function: Callable[..., object], *args: Any) -> None:  # noqa: ANN401 - as given
        if function == pool._connect:
            args[0].since -= LONG_AGO
        start(function, *args)

    pool, connects = observed(f"host={HOST} port={free_port()}", grace=0.0)
    monkeypatch.setattr(greenlets, "start", late)
    with pool, pytest.raises(EndpointDown):
        pool.getconn(5.0)
    until(lambda: connects.told)
    seconds, error = connects.told[0]
    assert isinstance(error, psycopg2.OperationalError)
    assert 0.0 < seconds < LONG_AGO


def test_a_connect_that_no_thread_was_to_be_had_for_took_no_time(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as failed all the same."""
    pool, connects = observed(dsn, grace=0.0)
    start = greenlets.start

    def refusing(function: Callable[..., object], *args: object) -> None:
        if function == pool._connect:
            raise RuntimeError("can't start new thread")
        start(function, *args)

    monkeypatch.setattr(greenlets, "start", refusing)
    with pool, pytest.raises(EndpointDown):
        pool.getconn(0.5)
    seconds, error = connects.told[0]
    assert isinstance(error, RuntimeError)
    assert seconds == 0.0


def test_an_observer_that_is_interrupted_costs_no_place(dsn: str) -> None:
    """Whoever asked has no connection then, and so it is not held."""

    class Interrupted(Connects):
        def acquired(self, *_: object) -> None:
            raise KeyboardInterrupt

    with ConnectionPool(dsn, max_size=1, observe=True) as pool:
        pool.observers += (Interrupted(),)
        with pytest.raises(KeyboardInterrupt) as raised:
            pool.getconn()
        assert pool.holders() == [], "not only when the collector comes"
        assert raised.tb is not None  # which would have kept it
        pool.observers = ()
        held(pool)
        assert_at_rest(pool)


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("hook", ["configure", "check"])
def test_what_comes_before_a_hold_is_its_wait(
    dsn: str, hook: str, *, threaded: bool
) -> None:
    """The connect and the ping too, in the counters as in the histograms."""
    slow = {hook: lambda _: time.sleep(SLOW)}
    with ConnectionPool(dsn, threaded=threaded, observe=True, **slow) as pool:
        began = time.monotonic()
        held(pool)
        rest = time.monotonic() - began - SLOW
        stats = pool.get_stats()
        (timings,) = pool.snapshot().routes.values()
    assert stats["requests_wait_ms"] >= SLOW * 1000
    assert timings.waits.total >= SLOW
    assert stats["usage_ms"] <= rest * 1000
    assert timings.holds.total <= rest


class Interrupted(Exception):  # noqa: N818 - no error
    """What a signal handler raises."""


def test_who_is_interrupted_in_line_waits_no_more(dsn: str) -> None:
    """It is counted among those who got none, with its wait."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def send() -> None:
        until(lambda: pool.get_stats()["requests_waiting"])
        let_pass(SLOW)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (
            ConnectionPool(dsn, max_size=1) as pool,
            ThreadPoolExecutor(1) as executor,
        ):
            conn = pool.getconn()
            executor.submit(send)
            with pytest.raises(Interrupted):
                pool.getconn(timeout=20.0)
            pool.putconn(conn)
            stats = pool.get_stats()
            assert_at_rest(pool)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stats["requests_num"] == 2
    assert (stats["requests_served"], stats["requests_errors"]) == (1, 1)
    assert stats["requests_wait_ms"] >= SLOW * 1000 - 1

"""Who keeps a connection for too long is told of, once, and its end as well."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, PoolMiddleware, greenlets, observed
from tests.asking import ask, held, pid
from tests.soundness import assert_at_rest
from tests.waiting import let_pass, until
from tests.webtesting import TestApp

KEPT = 0.05
HELD = "a connection has been held for"
BACK = "a connection came back after all, after"


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool of two that looks for leaks."""
    with ConnectionPool(dsn, name="shop", max_size=2, leak_warn_after=KEPT) as pool:
        yield pool
        assert_at_rest(pool)


def keep(pool: ConnectionPool) -> connection:
    """Acquire, and keep: the place that a warning must name."""
    return pool.getconn()


def warnings_in(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """Return the warnings so far that have a text."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and text in record.getMessage()
    ]


@pytest.mark.direct("goes by a session's number on the server")
def test_who_keeps_a_connection_is_told_of_once(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """With the place, the thread, the backend; and again when it comes back."""
    conn = keep(pool)
    ask(conn, "SELECT 1")
    until(lambda: warnings_in(caplog, HELD))
    for _ in range(5):  # more of the same does not come
        pool._keep_up()
        let_pass(KEPT)
    (warning,) = warnings_in(caplog, HELD)
    assert "pool 'shop': a connection has been held for" in warning
    assert "test_pool_leaks.py:" in warning
    assert ", in keep\n    return pool.getconn()" in warning
    assert f"backend {pid(conn)}, transaction open" in warning
    assert threading.current_thread().name in warning
    assert warnings_in(caplog, BACK) == []
    pool.putconn(conn)
    until(lambda: len(warnings_in(caplog, BACK)) == 1)


def test_the_route_that_keeps_a_connection_is_named(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Failure mode 5: exactly one such warning, with route and file:line."""

    def app(environ: Any, start: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
        ask(environ["pgdbpool.conn"], "SELECT 1")
        until(lambda: warnings_in(caplog, HELD))
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"late"]

    assert TestApp(PoolMiddleware(app, pool)).get("/report").text == "late"

    (warning,) = warnings_in(caplog, HELD)
    assert "hold by GET /report, acquired at tests/asking.py:" in warning
    assert ', in app\n    ask(environ["pgdbpool.conn"], "SELECT 1")' in warning
    until(lambda: warnings_in(caplog, BACK))


def test_who_gives_back_in_time_is_not_told_of(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """However often, and however long the pool is in use; nor that it came back."""
    caplog.set_level(logging.DEBUG, logger="pgdbpool")
    gives_up = time.monotonic() + 20.0
    longest = KEPT
    while longest >= KEPT:  # the machine was busy, and so it did not
        assert time.monotonic() < gives_up
        caplog.clear()
        longest = max(seconds_of(lambda: held(pool)) for _ in range(200))
        pool._keep_up()
    assert HELD not in caplog.text
    assert BACK not in caplog.text


def seconds_of(act: Callable[[], object]) -> float:
    """Return how long something took."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_a_second_leak_is_told_of_too(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also long after the first."""
    first = keep(pool)
    until(lambda: len(warnings_in(caplog, HELD)) == 1)
    second = keep(pool)
    until(lambda: len(warnings_in(caplog, HELD)) == 2)
    pool.putconn(first)
    pool.putconn(second)


def test_who_comes_later_is_told_of_later(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Though nobody acquires any more when it is time."""
    first = keep(pool)
    let_pass(KEPT / 2)
    second = keep(pool)
    until(lambda: len(warnings_in(caplog, HELD)) == 2)
    pool.putconn(first)
    pool.putconn(second)


def test_without_threads_a_leak_is_told_of_on_the_way(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By whoever acquires next; its end by who releases."""
    with ConnectionPool(dsn, max_size=2, threaded=False, leak_warn_after=KEPT) as pool:
        conn = keep(pool)
        let_pass(2 * KEPT)
        held(pool)
        assert len(warnings_in(caplog, HELD)) == 1
        pool.putconn(conn)
        assert len(warnings_in(caplog, BACK)) == 1


def test_without_threads_a_leak_is_told_of_at_its_end_at_the_latest(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By its own release, where nobody acquired meanwhile."""
    with ConnectionPool(dsn, max_size=2, threaded=False, leak_warn_after=KEPT) as pool:
        conn = keep(pool)
        let_pass(2 * KEPT)
        pool.putconn(conn)
        (told,) = warnings_in(caplog, HELD)
        assert "transaction open" in told
        assert len(warnings_in(caplog, BACK)) == 1


def test_without_threads_a_log_that_fails_keeps_no_connection(dsn: str) -> None:
    """The warning is written when the connection has been released."""

    class Broken(logging.Handler):
        def handle(self, _: logging.LogRecord) -> bool:
            raise LookupError("the log is broken")

    broken, logger = Broken(), logging.getLogger("pgdbpool.observed")
    logger.addHandler(broken)
    try:
        with ConnectionPool(dsn, threaded=False, leak_warn_after=KEPT) as pool:
            conn = keep(pool)
            let_pass(2 * KEPT)
            with pytest.raises(LookupError):
                pool.putconn(conn)
            assert pool.holders() == []
            assert_at_rest(pool)
    finally:
        logger.removeHandler(broken)


class Gate(logging.Handler):
    """Keeps who writes a warning of a hold until it is opened; notes what passed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reached, self.is_open = threading.Event(), threading.Event()
        self.passed: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        """Do so, without the lock of a handler, which would order all by itself."""
        text = record.getMessage()
        if HELD in text:
            self.is_reached.set()
            self.is_open.wait(10.0)
        self.passed += [one for one in (HELD, BACK) if one in text]
        return True


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Give a gate that the warnings have to pass."""
    gate, logger = Gate(), logging.getLogger(observed.__name__)
    logger.addHandler(gate)
    yield gate
    gate.is_open.set()
    logger.removeHandler(gate)


def test_the_end_of_a_hold_is_told_after_its_warning(
    pool: ConnectionPool, gate: Gate
) -> None:
    """Also of one that ends while the warning is being written."""
    conn = keep(pool)
    assert gate.is_reached.wait(10.0)
    pool.putconn(conn)
    assert gate.passed == []
    gate.is_open.set()
    until(lambda: gate.passed == [HELD, BACK])


def test_a_warning_that_no_thread_was_to_be_had_for_comes_later(
    pool: ConnectionPool, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the connection has come back by then, and first."""
    refused: list[object] = []
    start = greenlets.start

    def starting(function: Callable[..., object], *args: object) -> None:
        if function == pool._tell_of_leaks and not refused:
            refused.append(function)
            raise RuntimeError("can't start new thread")
        start(function, *args)

    monkeypatch.setattr(greenlets, "start", starting)
    monkeypatch.setattr(observed, "RETRY", 0.05)
    gate.is_open.set()
    conn = keep(pool)
    until(lambda: refused)
    pool.putconn(conn)
    until(lambda: gate.passed == [HELD, BACK])


def test_leaks_are_looked_for_although_no_thread_is_to_be_had_for_the_rest(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known when to come again."""

    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with ConnectionPool(dsn, leak_warn_after=30.0) as pool:
        conn = keep(pool)
        with monkeypatch.context() as patched:
            patched.setattr(greenlets, "start", start)
            pool._roster.jobs.append(lambda: None)
            with pytest.raises(RuntimeError):
                pool._keep_up()
        assert pool._upkeep_at <= time.monotonic() + 30.0
        pool.putconn(conn)


def test_what_was_lost_leaves_nothing_behind(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """It was warned of, and never came back."""
    conn: Any = keep(pool)
    until(lambda: warnings_in(caplog, HELD))
    until(lambda: not pool._leaks)
    del conn
    gc.collect()
    until(lambda: not pool.holders())
    assert warnings_in(caplog, BACK) == []

"""A password never appears, whatever fails: row 38."""

import contextlib
import gc
import io
import logging
import secrets
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool, PooledConnection
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.proxy import Proxy
from tests.waiting import until

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgdbpool.settings import SettingsDict

# So that a part of it is noticed as well.
PASSWORD = f"s3cr:t@{secrets.token_hex(8)}/ '\\{secrets.token_hex(8)}"
PARTS = tuple(part for part in PASSWORD.replace("@", " ").split() if len(part) > 8)


class Output:
    """All that is said in the course of a test, by whatever way."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.log = io.StringIO()

    def say(self, *things: object) -> None:
        """Take down how things present themselves."""
        self.texts += [f"{thing!r} {thing}" for thing in things]

    def failing(self, call: Callable[[], object]) -> None:
        """Make a call that fails, and take down what it says."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - any will do
            self.say(error, error.args, error.__cause__, error.__context__)
            self.texts.append("".join(traceback.format_exception(error)))
        else:
            pytest.fail(f"{call!r} did not fail")

    def assert_discreet(self) -> None:
        """Fail if the password, or a part of it, was said."""
        assert self.texts
        for text in (*self.texts, self.log.getvalue()):
            for part in (PASSWORD, *PARTS):
                assert part not in text


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> Iterator[Output]:
    """Give what takes down all; fail at the end if it heard the password."""
    caplog.set_level(logging.DEBUG)
    output = Output()
    handler = logging.StreamHandler(output.log)
    logging.getLogger().addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield output
        gc.collect()
    output.texts += [str(warning.message) for warning in caught]
    logging.getLogger().removeHandler(handler)
    output.assert_discreet()


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants the password."""
    with EmbeddedPostgres(password=PASSWORD) as server:
        yield server


def in_every_form(dsn: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the ways to give a pool its password."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    parts.pop("password", None)
    bare = make_dsn(**parts)
    yield dsn, {}
    yield bare, {"kwargs": {"password": PASSWORD}}
    yield bare, {"password": PASSWORD}
    quoted = "".join(f"%{byte:02x}" for byte in PASSWORD.encode())
    place = f"{parts['host']}:{parts['port']}/{parts['dbname']}"
    yield f"postgresql://{parts['user']}:{quoted}@{place}", {}


@contextlib.contextmanager
def pool_of(
    dsn: str, output: Output, **given: "Unpack[SettingsDict]"
) -> Iterator[ConnectionPool]:
    """Give a pool that is closed at the end, and take down what it looks like."""
    pool = ConnectionPool(dsn, timeout=0.3, **given)
    try:
        yield pool
        output.say(pool, pool.settings, pool.get_stats(), *pool._roster.endpoints)
        output.say(*(e for p in pool._roster.endpoints for e in p.entries))
    finally:
        pool.close(0.1)


def test_no_form_of_giving_it_shows_it(
    guarded_server: EmbeddedPostgres, output: Output
) -> None:
    """Row 38: pool, settings, endpoint, entry, connection, cursor, hold."""
    for dsn, given in in_every_form(guarded_server.dsn()):
        with (
            pool_of(dsn, output, **given) as pool,
            pool.connection() as conn,
            conn.cursor() as cur,
        ):
            cur.execute("SELECT 1")
            output.say(pool, pool.settings, conn, cur, conn.hold, conn.entry)
            output.say(conn.dsn, conn.info.dsn_parameters, conn.get_dsn_parameters())


def test_no_setting_that_is_wrong_shows_it(output: Output, dsn: str) -> None:
    """Row 38: neither a DSN that does not parse nor what stands beside it."""
    for broken in (
        f"host=localhost password={PASSWORD}",
        f"host=localhost password='{PASSWORD}",
        f"password={PARTS[0]} {PASSWORD}",
        f"postgresql://app:{PARTS[0]}%zz@db/shop",
        f"postgresql://app:{PARTS[0]}@db:port/shop?bad={PARTS[0]}",
        f"postgres//app:{PARTS[0]}@db/shop",
        PARTS[0],
    ):
        output.failing(lambda broken=broken: ConnectionPool(broken))
    good = make_dsn(dsn, password=PASSWORD)
    wrong: list[dict[str, Any]] = [
        {"timeout": -1},
        {"min_size": 3, "max_size": 2},
        {"unknown": 1},
        {"kwargs": {"pasword": PASSWORD}},
        {"kwargs": {"password": PASSWORD, "connection_factory": dict}},
        {"kwargs": [("password", PASSWORD)]},
    ]
    for given in wrong:
        output.failing(lambda given=given: ConnectionPool(good, **given))
    with ConnectionPool(good) as pool, pool.connection():
        pass


def test_no_failed_acquire_shows_it(
    guarded_server: EmbeddedPostgres, output: Output
) -> None:
    """Row 38: refused login, exhaustion, full line, nesting, closed pool."""
    right = guarded_server.dsn()
    with pool_of(make_dsn(right, user="nobody"), output) as pool:
        output.failing(pool.getconn)
    wrong = make_dsn(right, password=PASSWORD + "x")
    with pool_of(wrong, output) as pool:
        output.failing(pool.getconn)
        output.failing(lambda: pool.wait(0.1))
    with pool_of(right, output, max_size=1, max_waiting=1) as pool:
        with pool.connection():
            output.failing(pool.getconn)
            output.failing(pool.connection().__enter__)
            thread = threading.Thread(target=lambda: output.failing(pool.getconn))
            thread.start()
            until(lambda: pool.get_stats()["requests_waiting"] == 1)
            output.failing(pool.getconn)
            thread.join()
        pool.close()
        output.failing(pool.getconn)


def test_no_lost_session_shows_it(
    guarded_server: EmbeddedPostgres, output: Output
) -> None:
    """Row 38: killed, unreachable, lost at the COMMIT, black hole."""
    with (
        Proxy(guarded_server.port) as proxy,
        pool_of(make_dsn(guarded_server.dsn(), port=proxy.port), output) as pool,
    ):
        output.failing(lambda: commit(pool, proxy))
        conn = pool.getconn(5.0)
        proxy.cut()
        output.failing(lambda: conn.cursor().execute("SELECT 1"))
        output.say(conn)
        pool.putconn(conn)
        output.failing(lambda: pool.putconn(conn))
        output.failing(conn.cursor)
        with pool.connection(5.0):
            pass
        proxy.silence()
        output.failing(pool.getconn)
        proxy.refuse()
        proxy.cut()
        output.failing(pool.getconn)


def commit(pool: ConnectionPool, proxy: Proxy) -> None:
    """Lose a session while its COMMIT is under way."""
    with pool.connection(5.0) as conn:
        conn.cursor().execute("SELECT 1")
        proxy.cut_after(b"COMMIT")


def fail(conn: PooledConnection) -> None:
    """Fail, as a hook may; the caller's frame is nobody's business."""
    raise ValueError(f"the hook does not like {conn!r}")


@pytest.mark.parametrize("hook", ["configure", "check", "reset"])
def test_no_failing_hook_shows_it(
    guarded_server: EmbeddedPostgres, output: Output, hook: str
) -> None:
    """Row 38: what a hook raises is logged and told, with the connection's repr."""
    with pool_of(guarded_server.dsn(), output, **{hook: fail}) as pool:
        if hook == "reset":
            with pool.connection(5.0):
                pass
            until(lambda: pool.get_stats()["returns_bad"] == 1)
        else:
            output.failing(pool.getconn)


def test_no_connection_that_is_lost_or_foreign_shows_it(
    guarded_server: EmbeddedPostgres, output: Output
) -> None:
    """Row 38: neither the warning of an abandoned one nor the ValueError does."""
    dsn = guarded_server.dsn()
    with pool_of(dsn, output) as pool:
        pool.getconn(5.0)  # and dropped
        until(lambda: "was not released but lost" in output.log.getvalue())
        foreign = psycopg2.connect(dsn)
        output.failing(lambda: pool.putconn(foreign))
        foreign.close()


def test_the_passphrase_of_a_key_is_a_secret_too(
    output: Output, server: EmbeddedPostgres
) -> None:
    """Row 38: psycopg2 hides only what libpq calls password, in a repr."""
    dsn = server.dsn(sslpassword=PASSWORD)
    with pool_of(dsn, output) as pool, pool.connection(5.0) as conn:
        output.say(conn)
    with pool_of(dsn, output) as pool:
        conn = pool.getconn(5.0)
        pool.putconn(conn)
        output.failing(lambda: pool.putconn(conn))

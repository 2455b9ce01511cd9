"""What a request committed is told to its client, as long as it can be."""

import sys
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from pgdbpool.wsgi import PoolMiddleware, ReadYourWrites
from tests.unit.scripted_standbys import (
    WRITTEN,
    WRITTEN_TEXT,
    ScriptedStandbys,
    using,
)
from tests.unit.wsgi_exchange import (
    OK,
    OOPS,
    TEXT,
    App,
    Body,
    Environ,
    Exchange,
    Start,
    answering,
    down,
    framework,
    is_refused,
    raising,
    run,
    sized,
    streaming,
)
from tests.unit.wsgi_writing import (
    COMES_AS,
    HEADER,
    SECRET,
    Clock,
    cookies,
    serving,
    told,
    write,
)


@pytest.fixture
def pool() -> ScriptedStandbys:
    """Give a pool that writes down what is asked of it."""
    return ScriptedStandbys()


@pytest.fixture
def clock() -> Clock:
    """Give the clock of the cookies."""
    return Clock()


@pytest.fixture
def both(clock: Clock) -> ReadYourWrites:
    """Give a cookie and a header."""
    return ReadYourWrites(SECRET, header=HEADER, clock=clock)


def print_nothing(*_: object) -> None:
    """Be a start_response of nobody's."""


class TestWhatIsTold:
    """The response tells what was committed before its headers went out."""

    @pytest.mark.parametrize(
        "app",
        [
            using("conn: INSERT"),
            using("conn: INSERT", status="404 Not Found"),
            answering(b"ok", headers=sized(2), shape=iter),
            streaming(b"ok", headers=sized(2)),
            using("conn: INSERT", "conn.commit"),
            using("conn: INSERT", "conn.commit", status=OOPS),
            using("conn: INSERT", "conn.commit", "conn.release"),
            using("conn: INSERT", "conn.commit", "conn: SELECT"),
        ],
    )
    def test_a_commit_before_the_headers_is_told(
        self, pool: ScriptedStandbys, both: ReadYourWrites, app: App
    ) -> None:
        """The middleware's and the handler's, of bodies of every shape."""
        exchange = write(pool, both, app)
        assert told(exchange) == WRITTEN_TEXT
        assert len(cookies(exchange)) == 1
        before = pool.log[: pool.log.index(exchange.status)]
        assert before.index("written?") == before.index("COMMIT") + 1
        assert before.count("written?") == before.count("COMMIT")

    def test_a_handlers_commit_is_told_by_a_stream_that_goes_on(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Although another transaction is open when the headers go out."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            conn = environ["pgdbpool.conn"]
            conn.cursor().execute("INSERT")
            conn.commit()
            conn.cursor().execute("SELECT")
            yield b"1"
            yield b"2"

        exchange = write(pool, both, app)
        assert told(exchange) == WRITTEN_TEXT

    @pytest.mark.parametrize("commits_inside", [True, False])
    def test_a_block_is_told_when_it_is_left(
        self, pool: ScriptedStandbys, both: ReadYourWrites, *, commits_inside: bool
    ) -> None:
        """Inside psycopg2 would begin another transaction for the question."""

        def app(environ: Environ, start: Start) -> Body:
            conn = environ["pgdbpool.conn"]
            with conn:
                conn.cursor().execute("INSERT")
                if commits_inside:
                    conn.commit()
            pool.log.append("left")
            return using("conn: SELECT")(environ, start)

        assert told(write(pool, both, app)) == WRITTEN_TEXT
        assert pool.log[:5] == ["acquire", "INSERT", "COMMIT", "written?", "left"]

    def test_a_block_that_nobody_leaves_is_not_told(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Its connection is closed."""
        app = using("conn.__enter__", "conn: INSERT", "conn.commit")
        assert told(write(pool, both, app)) is None
        assert pool.kept == [False]

    def test_in_manual_it_is_the_handlers(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """What was left open was not written."""
        settings: dict[str, Any] = {"transaction": "manual"}
        for uses in [("conn: I", "conn.commit"), ("conn: I",)]:
            middleware = serving(pool, both, using(*uses), **settings)
            is_told = told(run(middleware, pool, "POST")) is not None
            assert is_told == (len(uses) == 2)

    def test_a_write_past_the_middleware_is_told(self, both: ReadYourWrites) -> None:
        """In autocommit every statement is its own."""
        for shape in (list, iter):
            pool = ScriptedStandbys(autocommit=True)
            app = answering(b"ok", shape=shape)
            assert told(write(pool, both, app)) == WRITTEN_TEXT
            assert pool.log.count("written?") == 1

    def test_a_commit_of_a_cursors_connection_is_told(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """The pool's own connection remembers it."""

        def app(environ: Environ, start: Start) -> Body:
            conn = environ["pgdbpool.conn"].dbapi_connection
            conn.cursor().execute("INSERT")
            conn.commit()
            conn.hold.has_committed = True  # as a PooledConnection says
            start(OK, TEXT)
            return []

        assert told(write(pool, both, app)) == WRITTEN_TEXT

    def test_a_write_past_the_middleware_is_not_told_in_the_middle_of_another(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """There the server cannot be asked."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            conn = environ["pgdbpool.conn"].dbapi_connection
            conn.hold.has_committed = True  # as a PooledConnection says
            conn.cursor().execute("SELECT")
            start(OK, TEXT)
            yield b"1"

        exchange = write(pool, both, app)
        assert (exchange.content, told(exchange)) == (b"1", None)

    @pytest.mark.parametrize(
        "app",
        [
            using(),
            using("conn: INSERT", "conn.rollback"),
            using("conn: INSERT", status="502 Bad Gateway"),
            using("read: SELECT", "read.commit"),
        ],
    )
    def test_without_a_commit_there_is_nothing_to_tell(
        self, pool: ScriptedStandbys, both: ReadYourWrites, app: App
    ) -> None:
        """The server is not even asked."""
        exchange = write(pool, both, app)
        assert (told(exchange), cookies(exchange)) == (None, [])
        assert "written?" not in pool.log

    def test_what_only_reads_writes_nothing(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Also by a method that is not known to be safe."""
        middleware = PoolMiddleware(
            using("conn: SELECT"),
            pool,
            read_methods=["REPORT"],
            read_your_writes=both,
        )
        run(middleware, pool, "REPORT")
        assert "COMMIT" in pool.log
        assert "written?" not in pool.log

    def test_it_outlives_an_early_release(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """What the next hold does not say, the one before has said."""

        def app(environ: Environ, start: Start) -> Body:
            using("conn: INSERT", "conn.commit", "conn.release")(environ, print_nothing)
            pool.position = None
            return using("conn: UPDATE")(environ, start)

        assert told(write(pool, both, app)) == WRITTEN_TEXT

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("mine")])
    def test_after_an_exception_nobody_is_asked(
        self, both: ReadYourWrites, error: BaseException
    ) -> None:
        """The session may be anywhere, and no response of ours is to come."""
        pool = ScriptedStandbys(autocommit=True)
        assert write(pool, both, raising(error)).error is error
        assert "written?" not in pool.log

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
    def test_safe_methods_write_nothing(
        self, pool: ScriptedStandbys, both: ReadYourWrites, method: str
    ) -> None:
        """Who only looks is not sent to the primary for it."""
        middleware = PoolMiddleware(using("conn: S"), pool, read_your_writes=both)
        run(middleware, pool, method)
        assert "COMMIT" in pool.log
        assert "written?" not in pool.log

    def test_a_stream_tells_nothing_of_its_end(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Its headers are out, so nobody is asked."""
        exchange = write(pool, both, streaming(b"1"))
        assert told(exchange) is None
        assert "written?" not in pool.log

    def test_also_when_it_acquires_after_its_headers(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """A question too late would be a round trip for nothing."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            start(OK, TEXT)
            yield b"1"
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            yield b"2"

        write(pool, both, app)
        assert "COMMIT" in pool.log
        assert "written?" not in pool.log

    def test_write_tells_what_it_committed(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """With the byte that completes the response."""

        def app(environ: Environ, start: Start) -> Body:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            start(OK, sized(2))(b"ok")
            return []

        assert told(write(pool, both, app)) == WRITTEN_TEXT

    def test_the_last_of_several_commits_is_told(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """It shows the others as well."""

        def app(environ: Environ, start: Start) -> Body:
            conn = environ["pgdbpool.conn"]
            conn.cursor().execute("first")
            conn.commit()
            pool.position = WRITTEN + 1
            return using("conn: second")(environ, start)

        assert told(write(pool, both, app)) == "0/16B3749"

    @pytest.mark.parametrize("brought", ["0/FF", "2/0"])
    def test_the_newer_of_what_came_and_what_was_written_is_kept(
        self, pool: ScriptedStandbys, both: ReadYourWrites, brought: str
    ) -> None:
        """After a failover the primary may be behind what the client once saw."""
        exchange = write(pool, both, **{COMES_AS: brought})
        assert told(exchange) == (WRITTEN_TEXT if brought == "0/FF" else "2/0")

    def test_a_position_that_did_not_move_is_not_told_again(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Nobody wrote anything, this request neither."""
        assert told(write(pool, both, **{COMES_AS: WRITTEN_TEXT})) is None

    def test_what_the_server_does_not_say_is_not_told(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Not every server knows a position."""
        pool.position = None
        assert told(write(pool, both)) is None

    def test_a_question_that_fails_fails_nothing_else(
        self,
        pool: ScriptedStandbys,
        both: ReadYourWrites,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """What was committed is a success; the log says what its client may miss."""
        pool.written_error = psycopg2.OperationalError("server\nclosed")
        exchange = write(pool, both)
        assert (exchange.status, exchange.content) == (OK, b"ok")
        assert told(exchange) is None
        assert pool.held == 0
        (record,) = caplog.records
        assert "POST /report" in record.getMessage()
        assert "server closed" in record.getMessage()

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug")])
    def test_another_exception_goes_on(
        self, pool: ScriptedStandbys, both: ReadYourWrites, error: BaseException
    ) -> None:
        """And leaves no connection held."""
        pool.written_error = error
        exchange = write(pool, both)
        assert exchange.error is error
        assert pool.held == 0

    def test_a_503_tells_nothing(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """It promises that nothing was committed."""
        pool.refusals.append(down())
        exchange = write(pool, both, framework(using("conn: INSERT")))
        assert is_refused(exchange)
        assert (told(exchange), cookies(exchange)) == (None, [])

    def test_the_apps_headers_are_left_as_they_are(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """A list that it uses for all of its responses does not grow."""
        headers = [*TEXT, ("Set-Cookie", "mine=1")]

        def app(environ: Environ, start: Start) -> Body:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            start(OK, headers)
            return []

        exchange = write(pool, both, app)
        assert len(headers) == 2
        assert cookies(exchange)[0] == "mine=1"
        assert len(cookies(exchange)) == 2

    def test_headers_that_replace_others_tell_it_too(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """An error page after an empty first block."""

        def app(environ: Environ, start: Start) -> Iterator[bytes]:
            using("conn: INSERT", "conn.commit")(environ, start)
            yield b""
            try:
                {}["mine"]
            except KeyError:
                start(OOPS, TEXT, sys.exc_info())
            yield b"oops"

        exchange = Exchange(serving(pool, both, app), pool.log, "POST").call()
        exchange.take()
        exchange.blocks.clear()  # a server sends no headers for an empty block
        exchange.take()
        exchange.close()
        assert (exchange.status, told(exchange)) == (OOPS, WRITTEN_TEXT)

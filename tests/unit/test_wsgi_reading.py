"""What reads, reads from a standby: whole requests, or `environ["pgdbpool.read"]`."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from pgdbpool.errors import ConnectionReleased
from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_standbys import READ_METHODS, ScriptedStandbys, reading, using
from tests.unit.wsgi_exchange import (
    OK,
    TEXT,
    Body,
    Environ,
    Start,
    down,
    framework,
    is_refused,
    run,
)


@pytest.fixture
def pool() -> ScriptedStandbys:
    """Give a pool that writes down what is asked of it."""
    return ScriptedStandbys()


class TestReadMethods:
    """Requests that only read are a standby's."""

    @pytest.mark.parametrize("method", READ_METHODS)
    def test_a_read_method_reads(self, pool: ScriptedStandbys, method: str) -> None:
        """Its own connection is acquired to read."""
        run(reading(pool, "conn: SELECT"), pool, method)
        assert pool.log[:2] == ["acquire to read", "SELECT"]
        assert pool.held == 0

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "get"])
    def test_any_other_method_writes(self, pool: ScriptedStandbys, method: str) -> None:
        """Also one that is spelled like no other."""
        run(reading(pool, "conn: INSERT"), pool, method)
        assert pool.log[0] == "acquire"

    def test_by_default_all_requests_write(self, pool: ScriptedStandbys) -> None:
        """Which GETs of an application write, the application must say."""
        run(PoolMiddleware(using("conn: SELECT"), pool), pool)
        assert pool.log[0] == "acquire"

    def test_reading_beside_it_is_the_same_connection(
        self, pool: ScriptedStandbys
    ) -> None:
        """Two would be one too many."""
        run(reading(pool, "read: first", "conn: second", "read: third"), pool)
        assert pool.log[:5] == [
            *("acquire to read", "first", "second", "third", "COMMIT"),
        ]

    def test_eager_acquires_to_read(self, pool: ScriptedStandbys) -> None:
        """What is acquired ahead is what the method needs."""
        run(reading(pool, eager=True), pool)
        assert pool.log[0] == "acquire to read"

    def test_its_own_commit_commits_nothing(self, pool: ScriptedStandbys) -> None:
        """So a loss after it can still be a 503."""
        exchange = run(reading(pool, "conn: SELECT", "conn.commit", "conn: lost"), pool)
        assert is_refused(exchange)

    @pytest.mark.parametrize("outcome", ["unknown", "lost"])
    @pytest.mark.parametrize("method", ["GET", "REPORT"])
    @pytest.mark.parametrize("wrap", [lambda app: app, framework])
    def test_a_commit_that_is_cut_off_loses_nothing(
        self,
        pool: ScriptedStandbys,
        outcome: str,
        method: str,
        wrap: Callable[[Any], Any],
    ) -> None:
        """Nothing was written, so trying again does nothing twice."""
        pool.commit_error = outcome
        app = wrap(using("conn: SELECT", "conn.commit"))
        middleware = PoolMiddleware(app, pool, read_methods=[method])
        assert is_refused(run(middleware, pool, method))

    @pytest.mark.parametrize("method", ["GET", "REPORT"])
    def test_also_in_manual(self, pool: ScriptedStandbys, method: str) -> None:
        """Where else only the handler knows what it had committed."""
        pool.commit_error = "unknown"
        app = using("conn: SELECT", "conn.commit")
        settings: dict[str, Any] = {"transaction": "manual"}
        middleware = PoolMiddleware(app, pool, read_methods=[method], **settings)
        assert is_refused(run(middleware, pool, method))

    def test_autocommit_commits_nothing_either(self) -> None:
        """Each of its statements is READ ONLY."""
        pool = ScriptedStandbys(autocommit=True)
        exchange = run(reading(pool, "conn: SELECT"), pool)
        assert "pgdbpool.committed" not in exchange.environ

    def test_manual_has_nothing_to_warn_of(
        self, pool: ScriptedStandbys, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What only read can be left open."""
        run(reading(pool, "conn: SELECT", transaction="manual"), pool)
        assert pool.log[2:4] == ["ROLLBACK", "release"]
        assert not caplog.records


class TestRead:
    """`environ["pgdbpool.read"]` asks for a standby, in any request."""

    def test_it_has_a_hold_of_its_own(self, pool: ScriptedStandbys) -> None:
        """Rolled back and released when the request ends, after its commit."""
        run(PoolMiddleware(using("read: SELECT", "conn: INSERT"), pool), pool, "POST")
        assert pool.log == [
            *("acquire to read", "SELECT", "acquire", "INSERT"),
            *("COMMIT", "release", "ROLLBACK", "release", OK, "send ok"),
        ]

    def test_alone_it_is_never_committed(self, pool: ScriptedStandbys) -> None:
        """And no veto is asked."""
        app = using("read: SELECT")
        run(PoolMiddleware(app, pool, commit_veto=pytest.fail), pool, "POST")
        assert pool.log[:4] == ["acquire to read", "SELECT", "ROLLBACK", "release"]

    @pytest.mark.parametrize(
        "uses", [("conn: INSERT",), ("conn: INSERT", "conn.commit")]
    )
    def test_who_has_written_reads_from_its_own(
        self, pool: ScriptedStandbys, uses: tuple[str, ...]
    ) -> None:
        """A standby would not show it yet."""
        run(PoolMiddleware(using(*uses, "read: SELECT"), pool), pool, "POST")
        assert sum(entry.startswith("acquire") for entry in pool.log) == 1

    def test_also_after_it_gave_its_connection_back(
        self, pool: ScriptedStandbys
    ) -> None:
        """Reading then acquires the primary's anew."""
        uses = ("conn: INSERT", "conn.commit", "conn.release", "read: SELECT")
        run(PoolMiddleware(using(*uses), pool), pool, "POST")
        assert pool.log[3:6] == ["release", "acquire", "SELECT"]

    def test_who_reads_first_and_writes_then_reads_what_it_wrote(
        self, pool: ScriptedStandbys
    ) -> None:
        """The standby's connection is kept for the cursors that are open on it."""

        def app(environ: Environ, start: Start) -> Body:
            cur = environ["pgdbpool.read"].cursor()
            conn = environ["pgdbpool.conn"].dbapi_connection
            assert environ["pgdbpool.read"].dbapi_connection is conn
            cur.execute("still open")
            start(OK, TEXT)
            return []

        assert run(PoolMiddleware(app, pool), pool).error is None

    def test_a_primary_that_is_away_leaves_reading(
        self, pool: ScriptedStandbys
    ) -> None:
        """A failed acquire has written nothing."""
        pool.refusals.append(down())

        def app(environ: Environ, start: Start) -> Body:
            with pytest.raises(psycopg2.OperationalError):
                environ["pgdbpool.conn"].cursor()
            return using("read: SELECT")(environ, start)

        assert run(PoolMiddleware(app, pool), pool).status == OK
        assert pool.log[:2] == ["refused", "acquire to read"]

    @pytest.mark.parametrize(
        "ending", ["read.commit", "read.rollback", "read.close", "read.release"]
    )
    def test_it_ends_no_transaction_that_writes(
        self, pool: ScriptedStandbys, ending: str
    ) -> None:
        """Who only reads cannot commit or undo half of a request."""
        app = using("conn: INSERT", "read: SELECT", ending)
        run(PoolMiddleware(app, pool), pool, "POST")
        assert pool.log[:5] == ["acquire", "INSERT", "SELECT", "COMMIT", "release"]

    @pytest.mark.parametrize("is_own", [True, False])
    def test_its_block_ends_its_own_transaction_alone(
        self, pool: ScriptedStandbys, *, is_own: bool
    ) -> None:
        """Also when the request begins to write in the middle of it."""

        def app(environ: Environ, start: Start) -> Body:
            conn, read = environ["pgdbpool.conn"], environ["pgdbpool.read"]
            if not is_own:
                conn.cursor().execute("INSERT")
            with read:
                assert pool.conn.is_entered == is_own
                read.cursor().execute("SELECT")
                conn.cursor().execute("UPDATE")
            pool.log.append("after")
            start(OK, TEXT)
            return []

        assert run(PoolMiddleware(app, pool), pool, "POST").error is None
        assert pool.log.count("COMMIT") == 1 + is_own
        assert pool.log.index("after") < pool.log.index("COMMIT", -5)
        assert pool.kept == [True] * (1 + is_own)

    def test_a_block_that_is_not_its_own_ends_nothing(
        self, pool: ScriptedStandbys
    ) -> None:
        """Neither what it read before goes, nor what the request writes."""

        def app(environ: Environ, start: Start) -> Body:
            using("read: SELECT", "conn: INSERT")(environ, lambda *_: None)
            with environ["pgdbpool.read"]:
                pool.log.append("inside")
            pool.log.append("after")
            start(OK, TEXT)
            return []

        run(PoolMiddleware(app, pool), pool, "POST")
        assert pool.log[4:7] == ["inside", "after", "COMMIT"]

    def test_a_block_that_raises_leaves_what_was_written(
        self, pool: ScriptedStandbys
    ) -> None:
        """The exception goes on, and the request decides."""

        def app(environ: Environ, start: Start) -> Body:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            with pytest.raises(KeyError), environ["pgdbpool.read"]:
                raise KeyError("mine")
            start(OK, TEXT)
            return []

        run(PoolMiddleware(app, pool), pool, "POST")
        assert pool.log[:3] == ["acquire", "INSERT", "COMMIT"]

    @pytest.mark.parametrize("has_written", [True, False])
    def test_autocommit_set_on_it_counts_where_it_can_write(
        self, pool: ScriptedStandbys, *, has_written: bool
    ) -> None:
        """On the request's own connection a later 503 would not be true."""

        def app(environ: Environ, start: Start) -> Body:
            if has_written:
                environ["pgdbpool.conn"].cursor()
            environ["pgdbpool.read"].autocommit = True
            start(OK, TEXT)
            return []

        exchange = run(PoolMiddleware(app, pool), pool, "POST")
        assert ("pgdbpool.committed" in exchange.environ) == has_written

    def test_it_can_be_given_back_early(self, pool: ScriptedStandbys) -> None:
        """As the request's own can."""
        app = using("read: SELECT", "read.commit", "read.release", "read: SELECT")
        run(PoolMiddleware(app, pool), pool, "POST")
        assert pool.log[2:5] == ["COMMIT", "release", "acquire to read"]
        assert pool.held == 0

    def test_what_needs_no_connection_acquires_none(
        self, pool: ScriptedStandbys
    ) -> None:
        """A request that never reads takes none to read."""
        app = using("read.commit", "read.rollback", "read.release", "read.__repr__")
        run(PoolMiddleware(app, pool), pool)
        assert pool.log == [OK, "send ok"]

    def test_the_place_that_reads_is_the_holds(self, pool: ScriptedStandbys) -> None:
        """Reports name the application, not the middleware."""
        run(PoolMiddleware(using("read: SELECT"), pool), pool)
        assert pool.callers == ["app"]
        assert pool.requests == ["GET /report"]

    def test_it_stands_beside_the_connection(self, pool: ScriptedStandbys) -> None:
        """Under a key that follows from the connection's."""
        exchange = run(PoolMiddleware(using(), pool, key="orders.conn"), pool)
        assert "orders.read" in exchange.environ

    def test_threads_of_one_request_share_it(self, pool: ScriptedStandbys) -> None:
        """The second thread waits for the first one's acquire and takes no other."""
        both = threading.Barrier(2)

        def app(environ: Environ, start: Start) -> Body:
            def use() -> None:
                both.wait(5)
                environ["pgdbpool.read"].cursor()

            threads = [threading.Thread(target=use) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
            start(OK, TEXT)
            return []

        run(PoolMiddleware(app, pool), pool)
        assert pool.log.count("acquire to read") == pool.log.count("release") == 1

    def test_after_the_request_it_is_over(self, pool: ScriptedStandbys) -> None:
        """Whoever keeps it cannot touch another request's connection."""
        exchange = run(PoolMiddleware(using("read: SELECT"), pool), pool)
        with pytest.raises(ConnectionReleased, match="GET /report is over"):
            exchange.environ["pgdbpool.read"].cursor()
        assert "over" in repr(exchange.environ["pgdbpool.read"])

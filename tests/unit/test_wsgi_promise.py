"""When 503 would not be true, it is not said."""

import psycopg2
import pytest

from pgdbpool.errors import CommitUnknown
from pgdbpool.wsgi import PoolMiddleware
from tests.unit.scripted_pool import ScriptedPool
from tests.unit.wsgi_exchange import (
    OK,
    OOPS,
    TEXT,
    App,
    Environ,
    Start,
    answering,
    down,
    framework,
    is_refused,
    run,
)


@pytest.fixture
def pool() -> ScriptedPool:
    """Give a pool that writes down what is asked of it."""
    return ScriptedPool()


class TestOutcomeUnknown:
    """A COMMIT that was cut off is never "try again later", but for safe methods."""

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_unsafe_methods_get_the_error(
        self, pool: ScriptedPool, method: str
    ) -> None:
        """Trying again could do it twice."""
        pool.commit_error = "unknown"
        exchange = run(PoolMiddleware(answering(b"ok"), pool), pool, method)
        assert isinstance(exchange.error, CommitUnknown)
        assert exchange.status == ""

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
    def test_safe_methods_get_503(self, pool: ScriptedPool, method: str) -> None:
        """They lose nothing."""
        pool.commit_error = "unknown"
        assert is_refused(run(PoolMiddleware(answering(), pool), pool, method))

    @pytest.mark.parametrize("transaction", ["request", "manual"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_it_is_the_same_for_a_handlers_own_commit(
        self, pool: ScriptedPool, method: str, transaction: str
    ) -> None:
        """Also where a framework made a 500 of it."""
        pool.commit_error = "unknown"

        def app(environ: Environ, _start: Start) -> list[bytes]:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            environ["pgdbpool.conn"].commit()
            return []

        middleware = PoolMiddleware(framework(app), pool, transaction=transaction)
        exchange = run(middleware, pool, method)
        assert is_refused(exchange) == (method == "GET")

    def test_a_swallowed_one_cannot_be_a_success(self, pool: ScriptedPool) -> None:
        """Neither 200 nor 503 would be true."""
        pool.commit_error = "unknown"

        def app(environ: Environ, start: Start) -> list[bytes]:
            environ["pgdbpool.conn"].cursor().execute("INSERT")
            with pytest.raises(CommitUnknown):
                environ["pgdbpool.conn"].commit()
            start(OK, TEXT)
            return []

        exchange = run(PoolMiddleware(app, pool), pool, "POST")
        assert isinstance(exchange.error, psycopg2.OperationalError)
        assert exchange.status == ""


class TestSomethingWasCommitted:
    """Then "nothing was committed" is not true, and there is no 503."""

    @pytest.fixture(params=["lost", "down"])
    def app(self, pool: ScriptedPool, request: pytest.FixtureRequest) -> App:
        """Return an app that commits and then meets trouble."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            conn = environ["pgdbpool.conn"]
            with conn:
                conn.cursor().execute("INSERT")
            if request.param == "down":
                conn.release()
                pool.refusals.append(down())
            return answering(statement="lost")(environ, start)

        return app

    def test_the_error_stays_the_apps(self, pool: ScriptedPool, app: App) -> None:
        """The server gets the exception."""
        exchange = run(PoolMiddleware(app, pool), pool)
        assert isinstance(exchange.error, psycopg2.OperationalError)

    def test_the_frameworks_500_stays(self, pool: ScriptedPool, app: App) -> None:
        """The client gets the app's page."""
        exchange = run(PoolMiddleware(framework(app), pool), pool)
        assert (exchange.status, exchange.content) == (OOPS, b"Oops")

    def test_it_counts_for_every_pool_of_the_request(self, pool: ScriptedPool) -> None:
        """What the inner pool committed would be done twice."""
        inner = ScriptedPool()

        def app(environ: Environ, start: Start) -> list[bytes]:
            environ["orders.conn"].cursor().execute("INSERT")
            return answering()(environ, start)

        pool.commit_error = "lost"
        stack = PoolMiddleware(PoolMiddleware(app, inner, key="orders.conn"), pool)
        exchange = run(stack, pool)
        assert "COMMIT" in inner.log
        assert isinstance(exchange.error, psycopg2.OperationalError)


class TestAutocommit:
    """In autocommit each statement may be committed: a loss is the app's error."""

    def test_of_the_pool(self) -> None:
        """Set for the pool as a whole."""
        pool = ScriptedPool(autocommit=True)
        exchange = run(PoolMiddleware(answering(statement="lost"), pool), pool)
        assert isinstance(exchange.error, psycopg2.OperationalError)

    def test_of_the_request(self, pool: ScriptedPool) -> None:
        """Set by the handler, even when it is off again."""

        def app(environ: Environ, start: Start) -> list[bytes]:
            conn = environ["pgdbpool.conn"]
            conn.autocommit = True
            conn.cursor().execute("INSERT")
            conn.autocommit = False
            return answering(statement="lost")(environ, start)

        exchange = run(PoolMiddleware(app, pool), pool)
        assert isinstance(exchange.error, psycopg2.OperationalError)

    def test_a_swallowed_loss_leaves_the_response_alone(self) -> None:
        """There was nothing to commit."""
        pool = ScriptedPool(autocommit=True)

        def app(environ: Environ, start: Start) -> list[bytes]:
            with pytest.raises(psycopg2.Error):
                environ["pgdbpool.conn"].cursor().execute("lost")
            start(OK, TEXT)
            return [b"ok"]

        assert run(PoolMiddleware(app, pool), pool).content == b"ok"

    def test_a_failed_acquire_is_still_503(self) -> None:
        """Nothing was done at all."""
        pool = ScriptedPool(autocommit=True)
        pool.refusals.append(down())
        assert is_refused(run(PoolMiddleware(answering(), pool), pool))


class TestManual:
    """With ``transaction="manual"`` only a failed acquire is known to be harmless."""

    def test_a_lost_connection_is_the_apps_error(self, pool: ScriptedPool) -> None:
        """The handler alone knows what it had committed."""
        app = PoolMiddleware(answering(statement="lost"), pool, transaction="manual")
        assert isinstance(run(app, pool).error, psycopg2.OperationalError)

    def test_a_failed_acquire_is_503(self, pool: ScriptedPool) -> None:
        """Nothing was done at all."""
        pool.refusals.append(down())
        app = PoolMiddleware(answering(), pool, transaction="manual")
        assert is_refused(run(app, pool))

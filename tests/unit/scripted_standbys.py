"""A scripted pool that also gives connections to read from."""

from types import FrameType

from pgdbpool.wsgi import PoolMiddleware
from pgdbpool.wsgi.rules import Environ
from tests.unit.scripted_pool import ScriptedConnection, ScriptedPool
from tests.unit.wsgi_exchange import App, Body, Start, answering

READ_METHODS = ("GET", "HEAD", "OPTIONS")
WRITTEN = 0x16B3748
WRITTEN_TEXT = "0/16B3748"


class ScriptedStandbys(ScriptedPool):
    """What the middleware needs of a `ConnectionPool` of several endpoints.

    Attributes:
        position: where the primary's WAL is; None if it does not say.
        written_error: what the next question for it raises.
    """

    def __init__(self, *, autocommit: bool = False) -> None:
        super().__init__(autocommit=autocommit)
        self.position: int | None = WRITTEN
        self.written_error: BaseException | None = None

    def acquire_at(
        self,
        frame: FrameType,
        timeout: float | None,
        request: str | None,
        read_only: bool = False,  # noqa: FBT001, FBT002 - as in ConnectionPool
        after: int | None = None,
    ) -> ScriptedConnection:
        """Give a new connection; the log says what for."""
        try:
            return super().acquire_at(frame, timeout, request)
        finally:
            if read_only:
                self.log[-1] += " to read"
            if after is not None:
                self.log[-1] += f" after {after:X}"

    acquire = acquire_at

    def commit(self, conn: ScriptedConnection) -> None:
        """Commit what is open, and remember it as a `PooledConnection` does."""
        is_open, hold = conn.in_transaction, conn.hold
        super().commit(conn)
        if is_open:
            hold.has_committed = True  # type: ignore[attr-defined]

    def written(self, conn: ScriptedConnection) -> int | None:
        """Tell the position, as `ConnectionPool.written` does."""
        assert conn in self._held
        assert not conn.in_transaction
        assert not conn.is_entered
        self.log.append("written?")
        error, self.written_error = self.written_error, None
        if error is not None:
            conn.lose()
            raise error
        return self.position


def using(*uses: str, status: str = "200 OK") -> App:
    """Return an app that makes its uses one after the other.

    Each is ``key.method`` for a method without arguments, or ``key: statement``.
    """

    def app(environ: Environ, start: Start) -> Body:
        for use in uses:
            key, _, statement = use.partition(": ")
            if statement:
                environ[f"pgdbpool.{key}"].cursor().execute(statement)
            else:
                name, _, method = use.partition(".")
                getattr(environ[f"pgdbpool.{name}"], method)()
        return answering(b"ok", status=status, statement=None)(environ, start)

    return app


def reading(pool: ScriptedStandbys, *uses: str, **settings: object) -> PoolMiddleware:
    """Return a middleware whose safe methods only read."""
    return PoolMiddleware(using(*uses), pool, read_methods=READ_METHODS, **settings)

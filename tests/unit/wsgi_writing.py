"""A client that writes and reads, and what it gets to keep and brings along."""

from pgdbpool.wsgi import PoolMiddleware, ReadYourWrites
from tests.unit.scripted_standbys import ScriptedStandbys, using
from tests.unit.wsgi_exchange import App, Exchange, run

SECRET = "correct horse battery staple"
HEADER = "X-Written"
COMES_AS = "HTTP_X_WRITTEN"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def serving(
    pool: ScriptedStandbys, marks: ReadYourWrites, app: App, **settings: object
) -> PoolMiddleware:
    """Return a middleware whose GETs read, and which keeps read-your-writes."""
    return PoolMiddleware(
        app, pool, read_methods=("GET",), read_your_writes=marks, **settings
    )


def write(
    pool: ScriptedStandbys,
    marks: ReadYourWrites,
    app: App | None = None,
    **environ: object,
) -> Exchange:
    """Let a client write."""
    middleware = serving(pool, marks, app or using("conn: INSERT"))
    return run(middleware, pool, "POST", **environ)


def position_read(
    pool: ScriptedStandbys, marks: ReadYourWrites, **environ: object
) -> str:
    """Let a client read; return what the pool was asked for."""
    pool.log.clear()
    run(serving(pool, marks, using("conn: SELECT")), pool, **environ)
    return pool.log[0]


def cookies(exchange: Exchange) -> list[str]:
    """Return the cookies that a response sets, with their attributes."""
    return [value for name, value in exchange.headers if name == "Set-Cookie"]


def cookie(exchange: Exchange) -> str:
    """Return the one cookie that a response sets, as a browser sends it back."""
    (said,) = cookies(exchange)
    return said.partition(";")[0]


def told(exchange: Exchange) -> str | None:
    """Return what the response tells in its header."""
    return dict(exchange.headers).get(HEADER)

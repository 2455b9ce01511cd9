"""One request to a WSGI application, step by step, as PEP 3333 has it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

from pgdbpool.errors import EndpointDown, PoolError
from pgdbpool.wsgi.rules import ExcInfo
from tests.unit.scripted_pool import ScriptedPool

Environ = dict[str, Any]
Start = Callable[..., Any]
Body = Iterable[bytes]
App = Callable[..., Body]

OK = "200 OK"
TEXT = [("Content-Type", "text/plain")]
UNAVAILABLE = "503 SERVICE UNAVAILABLE"
OOPS = "500 Internal Server Error"


def make_environ(method: str = "GET", path: str = "/report", **more: object) -> Environ:
    """Return the environ of a request."""
    environ: Environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        **more,
    }
    setup_testing_defaults(environ)
    return environ


class Exchange:
    """A server's side of one request; writes into ``log`` what goes out and when.

    Attributes:
        environ: the request.
        body: what the application returned.
        status, headers: what start_response got last.
        blocks: what would have been sent.
        error: what the application raised.
    """

    def __init__(
        self, app: App, log: list[str], method: str = "GET", **environ: object
    ) -> None:
        self.environ = make_environ(method, **environ)
        self.blocks: list[bytes] = []
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.error: BaseException | None = None
        self.body: Any = None
        self._app = app
        self._log = log
        self._iterator: Iterator[bytes] | None = None

    @property
    def content(self) -> bytes:
        """What the client got."""
        return b"".join(self.blocks)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None
    ) -> Callable[[bytes], object]:
        """Be the server's start_response."""
        if exc_info is not None and self.blocks:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.status and exc_info is None:
            raise AssertionError("headers already set")
        self._log.append(status)
        self.status, self.headers = status, headers
        return self.send

    def send(self, block: bytes) -> None:
        """Be the server's write()."""
        assert self.status, "start_response was called before the first block"
        self._log.append(f"send {block.decode('latin-1')}")
        self.blocks.append(block)

    def call(self) -> "Exchange":
        """Call the application."""
        self.body = self._app(self.environ, self.start_response)
        return self

    def take(self) -> bytes:
        """Pass one block on."""
        if self._iterator is None:
            self._iterator = iter(self.body)
        block = next(self._iterator)
        self.send(block)
        return block

    def close(self) -> None:
        """Close the body, if it can be."""
        if hasattr(self.body, "close"):
            self.body.close()

    def run(self) -> "Exchange":
        """Do all of it; an exception ends the response and stands in ``error``."""
        try:
            self.call()
            try:
                while True:
                    self.take()
            except StopIteration:
                pass
            finally:
                self.close()
        except BaseException as error:  # noqa: BLE001 - servers catch them all
            self.error = error
        return self


def run(
    app: App, pool: ScriptedPool, method: str = "GET", **environ: object
) -> Exchange:
    """Let one request happen from beginning to end."""
    return Exchange(app, pool.log, method, **environ).run()


def answering(
    *blocks: bytes,
    status: str = OK,
    headers: Iterable[tuple[str, str]] = TEXT,
    statement: str | None = "INSERT",
    shape: Callable[[list[bytes]], Body] = list,
) -> App:
    """Return an app that runs one statement and answers in a body of that shape."""

    def app(environ: Environ, start: Start) -> Body:
        if statement is not None:
            environ["pgdbpool.conn"].cursor().execute(statement)
        start(status, list(headers))
        return shape(list(blocks))

    return app


def raising(error: BaseException, statement: str | None = "INSERT") -> App:
    """Return an app that runs one statement and raises."""

    def app(environ: Environ, _start: Start) -> Body:
        if statement is not None:
            environ["pgdbpool.conn"].cursor().execute(statement)
        raise error

    return app


def sized(length: int) -> list[tuple[str, str]]:
    """Return headers that announce the length."""
    return [*TEXT, ("CONTENT-length", str(length))]


def streaming(
    *blocks: bytes, headers: list[tuple[str, str]] = TEXT, status: str = OK
) -> App:
    """Return a generator app with a statement before each block and one after."""

    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start(status, list(headers))
        for block in blocks:
            environ["pgdbpool.conn"].cursor().execute("SELECT")
            yield block
        environ["pgdbpool.conn"].cursor().execute("last")

    return app


class Closing:
    """A body that counts how often it is closed."""

    def __init__(self, *blocks: bytes, error: BaseException | None = None) -> None:
        self.closed = 0
        self.on_close: Callable[[], object] = lambda: None
        self._blocks = iter(blocks)
        self._error = error

    def __iter__(self) -> "Closing":
        return self

    def __next__(self) -> bytes:
        if self._error is not None:
            raise self._error
        return next(self._blocks)

    def close(self) -> None:
        """Count, and do what the test wants done."""
        self.closed += 1
        self.on_close()


def down() -> PoolError:
    """Return what an acquire raises while the server is away."""
    return EndpointDown("pool 'orders': db1 refuses connections for 7 s")


def is_refused(exchange: Exchange) -> bool:
    """Whether the response is our 503, whole and well."""
    return exchange.error is None and exchange.status.upper() == UNAVAILABLE


def framework(app: App, shape: Callable[[list[bytes]], Body] = list) -> App:
    """Return an app that makes a 500 of every exception, as Flask and Django do."""

    def outer(environ: Environ, start: Start) -> Body:
        try:
            return app(environ, start)
        except Exception:  # noqa: BLE001 - as they do
            start(OOPS, TEXT)
            return shape([b"Oops"])

    return outer

"""The shop as a WSGI application behind `PoolMiddleware`.

No handler commits, rolls back or releases anything: the request is the
transaction, and the middleware ends it.
"""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from werkzeug.exceptions import BadRequest, HTTPException, NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from pgdbpool.demo.signals import FREEZE, RESTART
from pgdbpool.errors import CommitUnknown
from pgdbpool.metrics.prometheus import PrometheusMetrics
from pgdbpool.pool import ConnectionPool
from pgdbpool.status import HealthApp, StatusApp
from pgdbpool.wsgi import PoolMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from psycopg2.extensions import connection

    Headers = list[tuple[str, str]]

DSN_VARIABLE = "PGDBPOOL_CONNINFO"
# The process id of the demo, whose database may be disturbed; empty: it may not.
OWNER_VARIABLE = "PGDBPOOL_DEMO_OWNER"
STATUS = "/_pgdbpool"
# To a standby where there is one; no POST of the shop would be a good one.
READ_METHODS = ("GET", "HEAD")
LONGEST_SLEEP = 10.0
# Seconds after which a connection is taken for one that is kept.
LONG_HOLD = 5.0
# More of anything would not be an order.
LARGEST_NUMBER = 1_000_000

COLUMNS = ("id", "customer", "article", "quantity", "key", "placed_at")

ONE_ORDER = """
    SELECT id, customer, article, quantity, key, placed_at FROM orders WHERE id = %s
"""
LATEST_ORDERS = """
    SELECT id, customer, article, quantity, key, placed_at FROM orders
    WHERE customer = %s ORDER BY id DESC LIMIT 10
"""
ORDERS_BY_KEY = """
    SELECT id, customer, article, quantity, key, placed_at FROM orders
    WHERE key = %s ORDER BY id
"""
REVENUE = """
    SELECT count(*), sum(quantity), sum(quantity * price_cents)
    FROM orders JOIN articles ON articles.id = orders.article
"""
SELL = "UPDATE articles SET sold = sold + %s WHERE id = %s RETURNING price_cents"
PLACE_ORDER = """
    INSERT INTO orders (customer, article, quantity, key) VALUES (%s, %s, %s, %s)
    RETURNING id
"""
ALL_ORDERS = """
    SELECT id, customer, article, quantity FROM orders ORDER BY id
"""
INDEX = {
    "GET /orders/<number>": "one order",
    "GET /orders?customer=<number>": "the latest ten of a customer",
    "GET /orders?key=<key>": "what was ordered under an idempotency key",
    "POST /orders": "order something: customer, article, quantity",
    "GET /orders.csv": "all of them, streamed out of a server-side cursor",
    "GET /revenue": "the sum over all orders",
    "GET /slow?seconds=<number>": "a query that takes its time (10 s at most); the "
    "log and the status page name it from 5 s on",
    "GET /pool": "what the pool of the worker that answers is doing",
    "GET /livez, /readyz": "probes",
    "GET /metrics": "what Prometheus is told, of all workers",
    f"GET {STATUS}/": "the status page",
}

URLS = Map(
    [
        Rule("/", endpoint="index", methods=["GET"]),
        Rule("/orders", endpoint="find", methods=["GET"]),
        Rule("/orders", endpoint="place", methods=["POST"]),
        Rule("/orders/<int:number>", endpoint="order", methods=["GET"]),
        Rule("/orders.csv", endpoint="stream", methods=["GET"]),
        Rule("/revenue", endpoint="revenue", methods=["GET"]),
        Rule("/slow", endpoint="slow", methods=["GET"]),
        Rule("/pool", endpoint="pool", methods=["GET"]),
    ]
)


def make_application() -> WSGIApplication:
    """Return the shop on a pool of its own; what gunicorn calls in each worker.

    The pool's size is left to `pgdbpool.gunicorn`.
    """
    pool = ConnectionPool(
        os.environ[DSN_VARIABLE],
        name="shop",
        observe=True,
        leak_warn_after=LONG_HOLD,
        sql_comments=True,
    )
    read_methods = READ_METHODS if pool.endpoints[1:] else ()
    wrapped = PoolMiddleware(shop, pool, read_methods=read_methods)
    metrics = PrometheusMetrics(pool, registry=CollectorRegistry())
    health = HealthApp(pool)
    beside: dict[str, WSGIApplication] = {
        STATUS: StatusApp(pool, actions=_actions(pool)),
        "/livez": health,
        "/readyz": health,
        "/metrics": metrics.app(),
    }
    return DispatcherMiddleware(tell_unknown_outcome(wrapped), beside)


def _actions(pool: ConnectionPool) -> dict[str, Callable[[], object]]:
    """Return the buttons of the page: signals to the demo, if the database is its."""
    owner = os.environ.get(OWNER_VARIABLE, "")
    if not owner:
        return {}
    words = "switch over" if pool.endpoints[1:] else "restart the database"
    return {
        words: functools.partial(os.kill, int(owner), RESTART),
        "freeze the database": functools.partial(os.kill, int(owner), FREEZE),
    }


def tell_unknown_outcome(app: WSGIApplication) -> WSGIApplication:
    """Return ``app`` with a 500 that admits it when a COMMIT was cut off.

    The middleware lets `CommitUnknown` through: nobody here knows whether the
    order stands. The client is told so, and can look its key up.
    """

    def outer(environ: WSGIEnvironment, start: StartResponse) -> Iterator[bytes]:
        body: Iterable[bytes] = ()
        has_begun = False

        def begin(
            status: str, headers: Headers, exc_info: OptExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal has_begun
            has_begun = True
            return start(status, headers, exc_info)

        try:
            body = app(environ, begin)
            yield from body
        except CommitUnknown:
            if has_begun:
                raise  # the server cuts short what has begun
            yield from UNKNOWN(environ, start)
        finally:
            if hasattr(body, "close"):
                body.close()

    return outer


def shop(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """Answer one request."""
    request = Request(environ)
    try:
        endpoint, arguments = URLS.bind_to_environ(environ).match()
        answer = HANDLERS[endpoint](request, **arguments)
    except HTTPException as error:
        return error(environ, start)
    return answer(environ, start)


def show_index(_request: Request) -> Response:
    """Say what there is; needs no database, so it takes no connection."""
    return _json(INDEX)


def show_order(request: Request, number: int) -> Response:
    """Show one order."""
    with request.environ["pgdbpool.conn"].cursor() as cur:
        cur.execute(ONE_ORDER, (number,))
        row = cur.fetchone()
    if row is None:
        raise NotFound("there is no such order")
    return _json(_as_dict(row))


def find_orders(request: Request) -> Response:
    """Show the orders of a customer, or those under a key."""
    key = request.args.get("key")
    customer = request.args.get("customer", type=int)
    if (key is None and customer is None) or (key is not None and "\0" in key):
        raise BadRequest("say ?customer=<number> or ?key=<key>")
    with request.environ["pgdbpool.conn"].cursor() as cur:
        if key is None:
            cur.execute(LATEST_ORDERS, (customer,))
        else:
            cur.execute(ORDERS_BY_KEY, (key,))
        return _json([_as_dict(row) for row in cur.fetchall()])


def place_order(request: Request) -> Response:
    """Sell and place the order: two statements, one transaction."""
    customer, article, quantity = _wanted(request)
    key = request.headers.get("Idempotency-Key")
    with request.environ["pgdbpool.conn"].cursor() as cur:
        cur.execute(SELL, (quantity, article))
        price = cur.fetchone()
        if price is None:
            raise NotFound("there is no such article")
        cur.execute(PLACE_ORDER, (customer, article, quantity, key))
        number = cur.fetchone()[0]
    placed = {"id": number, "key": key, "price_cents": price[0] * quantity}
    return _json(placed, status=201)


def stream_orders(request: Request) -> Response:
    """Stream all orders; the connection is held until the last one was sent."""
    lines = _csv_lines(request.environ["pgdbpool.conn"])
    return Response(lines, content_type="text/csv; charset=utf-8")


def show_revenue(request: Request) -> Response:
    """Add all orders up."""
    with request.environ["pgdbpool.conn"].cursor() as cur:
        cur.execute(REVENUE)
        orders, pieces, cents = cur.fetchone()
    return _json({"orders": orders, "pieces": int(pieces), "revenue_cents": int(cents)})


def sleep(request: Request) -> Response:
    """Hold a connection for a while."""
    seconds = request.args.get("seconds", default=1.0, type=float)
    seconds = max(0.0, min(seconds, LONGEST_SLEEP))
    with request.environ["pgdbpool.conn"].cursor() as cur:
        cur.execute("SELECT pg_sleep(%s)", (seconds,))
    return _json({"slept": seconds})


def show_pool(request: Request) -> Response:
    """Show the figures of the pool that serves this worker, and who is what."""
    pool = request.environ["pgdbpool.pool"]
    endpoints = {
        endpoint.name: endpoint.role.value if endpoint.role else "unknown"
        for endpoint in pool.endpoints
    }
    figures = {"worker": os.getpid(), **pool.get_stats(), "endpoints": endpoints}
    return _json(figures)


def _json(content: object, status: int = 200) -> Response:
    body = json.dumps(content) + "\n"
    return Response(body, status=status, content_type="application/json")


HANDLERS: dict[str, Callable[..., Response]] = {
    "index": show_index,
    "order": show_order,
    "find": find_orders,
    "place": place_order,
    "stream": stream_orders,
    "revenue": show_revenue,
    "slow": sleep,
    "pool": show_pool,
}


UNKNOWN = _json({"error": "the order may or may not stand: look its key up"}, 500)
UNKNOWN.headers["X-Outcome"] = "unknown"


def _wanted(request: Request) -> tuple[int, int, int]:
    """Return customer, article and quantity out of a JSON body or a form."""
    given: Any = request.get_json(silent=True) if request.is_json else request.form
    try:
        numbers = int(given["customer"]), int(given["article"]), int(given["quantity"])
    except (KeyError, TypeError, ValueError):
        numbers = 0, 0, 0
    if not all(1 <= number <= LARGEST_NUMBER for number in numbers):
        raise BadRequest(
            "an order needs customer, article and quantity, numbers from 1 to "
            f"{LARGEST_NUMBER:,}"
        )
    return numbers


def _csv_lines(conn: connection) -> Iterator[str]:
    with conn.cursor("orders") as cur:
        cur.itersize = 1_000
        cur.execute(ALL_ORDERS)
        yield "id,customer,article,quantity\n"
        for row in cur:
            yield ",".join(map(str, row)) + "\n"


def _as_dict(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True)) | {"placed_at": row[-1].isoformat()}

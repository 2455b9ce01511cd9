"""What a status page tells, made up, and how a terminal of some size shows it."""

import io
from typing import Any

from rich.console import Console

from pgdbpool.top.figures import figures_of
from pgdbpool.top.screen import Screen

COLUMNS = [
    "second",
    "acquires",
    "waited_ms",
    "held_ms",
    "errors",
    "lost",
    "served",
    "released",
]
NOW = 1_767_225_600
ENDLESS = 10_000
# As libpq says it.
REFUSED = (
    'connection to server at "db2.example.org" (10.11.12.13), port 5432 failed: '
    "Connection refused Is the server running on that host and accepting TCP/IP "
    "connections?"
)
WELL = {"write_ready": True, "read_ready": True, "saturated": False, "reasons": []}


def endpoint(name: str, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what a worker tells of a server."""
    told = {
        "name": name,
        "role": "primary",
        "state": "up",
        "lag": None,
        "round_trip": None,
        "in_use": 0,
        "idle": 0,
        "connecting": 0,
        "max_size": 4,
        "last_error": None,
    }
    return {**told, **given}


def held(seconds: float, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return a connection that somebody holds."""
    holder = {
        "request": "GET /report",
        "place": "shop/report.py:41",
        "seconds": seconds,
        "transaction": "open",
        "backend_pid": 20817,
        "endpoint": "db1:5432",
    }
    return {"holder": {**holder, **given}}


def waits(seconds: float, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return somebody who waits."""
    told = {"request": "POST /orders", "place": "shop/cart.py:7", "seconds": seconds}
    return {**told, **given}


def pool(**given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what a worker tells of a pool."""
    told = {
        "name": "shop",
        "long_hold": 5.0,
        "endpoints": [endpoint("db1:5432")],
        "sessions": [{"holder": None}],
        "waiting": [],
        "health": WELL,
        "routes": {},
    }
    told = {**told, **given}
    return {"counts": {"requests_waiting": len(told["waiting"])}, **told}


def route(waited: float, held: float, counts: list[int]) -> dict[str, Any]:
    """Return what was measured of a route, with bounds of 10 ms, 100 ms and 1 s."""
    bounds = [0.01, 0.1, 1.0]
    waits = {"bounds": bounds, "counts": counts, "total": waited}
    return {"waits": waits, "holds": {**waits, "total": held}}


def worker(pid: int, *pools: dict[str, Any], **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what is known of a worker: these pools, or one that is like this."""
    pools = pools or (pool(**given),)
    return {"age": pid % 10, "pid": pid, "answers": True, "pools": [*pools]}


def session(pid: int, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return a session as its server sees it."""
    told = {
        "pid": pid,
        "state": "idle",
        "wait_type": "",
        "wait_event": "",
        "seconds": 1.5,
        "transaction_seconds": None,
        "application_name": "shop/web1/4711:abc.7",
        "client": "10.0.0.7",
        "is_asking": False,
    }
    return {**told, **given}


def seen(*sessions: dict[str, Any], **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON
    """Return what a server said last."""
    told = {
        "pool": "shop",
        "endpoint": "db1:5432",
        "taken_at": NOW - 1.75,
        "sessions": list(sessions),
        "error": None,
    }
    return {**told, **given}


def state_of(
    *workers: dict[str, Any],
    rows: Any = (),  # noqa: ANN401 - as JSON
    server: Any = (),  # noqa: ANN401 - as JSON
) -> dict[str, Any]:
    """Return what a status page tells; of the history rows of the pool shop.

    Args:
        *workers: of the service.
        rows: acquires, waited_ms, held_ms, errors and lost of the last seconds.
        server: what the servers said last.
    """
    first = NOW - len(rows)
    numbered = [[first + at, *row, row[0], row[0]] for at, row in enumerate(rows)]
    return {
        "service": {"id": "abc", "host": "web1", "version": "2.0", "length": 300},
        "taken_at": NOW + 0.25,
        "workers": list(workers),
        "history": {"columns": COLUMNS, "pools": {"shop": numbered}},
        "server": list(server),
    }


def shown(state: dict[str, Any], width: int = 110, height: int = ENDLESS) -> str:
    """Return it as a terminal of that size has it."""
    output = io.StringIO()
    console = Console(file=output, width=width, height=height)
    console.print(Screen(figures_of(state)))
    return output.getvalue()


def lines_of(
    state: dict[str, Any], width: int = 110, height: int = ENDLESS
) -> list[str]:
    """Return the lines of it."""
    return shown(state, width, height).splitlines()


def troubled(pools: int = 1) -> dict[str, Any]:
    """Return a service with all kinds of trouble: a server down, leaks, a line."""
    each = [
        pool(
            name=name,
            endpoints=[
                endpoint("db1:5432", in_use=6, max_size=6),
                endpoint("db2:5432", role="standby", state="down", last_error=REFUSED),
            ],
            sessions=[held(700.0 / n, backend_pid=20817 + n) for n in range(1, 7)],
            waiting=[waits(2.5 - n / 5) for n in range(6)],
            health={**WELL, "saturated": True, "reasons": [f"db2:5432: {REFUSED}"]},
        )
        for name in ("shop", "blog", "archive")[:pools]
    ]
    rows = [[n % 7, 10 * n, 100 * n, n == 270, 0] for n in range(300)]
    told = [session(20817 + n, transaction_seconds=9.0) for n in range(30)]
    return state_of(worker(4711, *each), rows=rows, server=[seen(*told)])

"""The whole service, as any of its workers sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import pgdbpool
from pgdbpool import peers
from pgdbpool.endpoint import identity
from pgdbpool.status.history import LENGTH, History, Row, merged
from pgdbpool.status.server import Seen, Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgdbpool.peers import Reply
    from pgdbpool.pool import ConnectionPool
    from pgdbpool.status.shown import Pools

# How long the other workers have to answer.
TIMEOUT: Final = 0.3
# Holds that last longer are shown as long ones, where the pool does not say when.
LONG_HOLD: Final = 10.0
# What comes of reading an answer of another form.
MISSHAPEN: Final = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
)


class Service:
    """Tells how all workers of a service are doing, from inside one of them.

    Args:
        pools: of this process.
        mark: what the pages of one token have in common in all workers.
    """

    def __init__(self, pools: Pools, mark: str = "") -> None:
        self._pools = pools
        self._page = page_of(pools.names, mark)
        self._turns = itertools.count()
        # Which other worker is to ask the servers, as this one cannot.
        self._asks = ""
        self.history = History(self._pools.shared)
        self.server = Server(self._pools.shared)

    def answer(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the same page wants to know in another worker; None: another."""
        if question.get("page") != self._page:
            return None
        if question.get("asks") == peers.my_name():
            self.server.look()
        return self._own(int(question["since"]), self._pools.shared())

    def look(self, since: int = 0) -> dict[str, Any]:
        """Return how the service is doing; of its history what is after ``since``.

        Blocks for `TIMEOUT` at most, as long as a worker does not answer.
        """
        question = {"page": self._page, "since": since, "asks": self._asks}
        replies = peers.ask(question, TIMEOUT)
        others = [_worker_of(reply) for reply in replies]
        for other in others:
            self.server.learn(other.pop("server"))
        self.server.look()
        self._asks = self._next_to_ask(others)
        own = self._own(since, self._pools.all())
        seen, own["serves"] = own.pop("server"), True
        workers = sorted([own, *others], key=lambda worker: int(worker["age"]))
        now = time.time()
        # Of the last second some may know already, and others not yet.
        histories = _merged([w.pop("history") for w in workers], int(now) - 1)
        return {
            "service": {
                "id": identity.token().partition(".")[0],
                "host": socket.gethostname(),
                "version": pgdbpool.__version__,
                "length": LENGTH,
            },
            "taken_at": now,
            "workers": workers,
            "history": {"columns": Row._fields, "pools": histories},
            "server": seen,
        }

    def _next_to_ask(self, others: list[dict[str, Any]]) -> str:
        """Return the worker whose turn it is, if this one gets no answer."""
        names = [peers.name_of(o["age"], o["pid"]) for o in others if o["answers"]]
        if not names or not self.server.is_behind:
            return ""
        return names[next(self._turns) % len(names)]

    def _own(self, since: int, pools: Iterable[ConnectionPool]) -> dict[str, Any]:
        age, _, pid = peers.my_name().partition(".")
        return {
            "age": int(age),
            "pid": int(pid),
            "answers": True,
            "serves": False,
            "pools": [state_of(pool) for pool in pools],
            "history": self.history.rows(since),
            "server": [dataclasses.asdict(seen) for seen in self.server.seen()],
        }


def page_of(names: list[str] | None, mark: str) -> str:
    """Return what tells a page from the others of a process, alike in all workers."""
    told = json.dumps([names, mark]).encode()
    return hashlib.sha256(told).hexdigest()[:32]


def state_of(pool: ConnectionPool) -> dict[str, Any]:
    """Return all there is to see of a pool; of requests no more than the route."""
    state = dataclasses.asdict(pool.snapshot())
    holders = [session["holder"] for session in state["sessions"] if session["holder"]]
    for one in [*holders, *state["waiting"]]:
        one["request"] = one.pop("route")
    for endpoint in state["endpoints"]:
        endpoint["role"] = endpoint["role"] and endpoint["role"].value
    leak = pool.settings.leak_warn_after
    is_measure = leak is not None and math.isfinite(leak)
    state["long_hold"] = leak if is_measure else LONG_HOLD
    health = pool.health(connect=pool.settings.threaded)
    state["health"] = dataclasses.asdict(health)
    return state


def _worker_of(reply: Reply) -> dict[str, Any]:
    """Return a worker; one whose answer makes no sense is silent."""
    age, _, pid = reply.name.partition(".")
    worker = {"age": int(age), "pid": int(pid), "answers": True, "serves": False}
    if reply.content is not None:
        with contextlib.suppress(*MISSHAPEN):
            return {**worker, **_told(reply.content)}
    return {**worker, "answers": False, "pools": [], "history": {}, "server": []}


def _told(content: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever came
    """Return what a worker told, if it has the right form.

    Raises:
        Exception: it has another, one of `MISSHAPEN`.
    """
    return {
        "pools": [{**pool, "name": str(pool["name"])} for pool in content["pools"]],
        "history": {
            name: [Row(*map(int, row)) for row in rows]
            for name, rows in content["history"].items()
        },
        "server": [Seen.of(one) for one in content["server"]],
    }


def _merged(histories: list[dict[str, list[Row]]], until: int) -> dict[str, list[Row]]:
    names = sorted({name for history in histories for name in history})
    return {
        name: [
            row
            for row in merged(history.get(name, ()) for history in histories)
            if row.second <= until
        ]
        for name in names
    }

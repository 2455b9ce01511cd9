"""The whole service, as any of its workers sees it."""

from __future__ import annotations

import dataclasses
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import pgdbpool
from pgdbpool import peers
from pgdbpool.endpoint import identity
from pgdbpool.pool import ConnectionPool, all_pools
from pgdbpool.status.history import LENGTH, History, Row, merged
from pgdbpool.status.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgdbpool.peers import Reply

# How long the other workers have to answer.
TIMEOUT: Final = 0.3
# Holds that last longer are shown as long ones, where the pool does not say when.
LONG_HOLD: Final = 10.0


class Pools:
    """The pools of this process that are shown.

    Args:
        given: these; none: all it has at that moment.
    """

    def __init__(self, given: tuple[ConnectionPool, ...]) -> None:
        self._given = given

    def all(self) -> list[ConnectionPool]:
        """Return those that the thread of a request may look at."""
        return list(self._given) or all_pools()

    def shared(self) -> list[ConnectionPool]:
        """Return those that any thread may look at."""
        return [pool for pool in self.all() if pool.settings.threaded]


class Service:
    """Tells how all workers of a service are doing, from inside one of them.

    Args:
        pools: of this process; none: all it has at that moment.
    """

    def __init__(self, pools: tuple[ConnectionPool, ...]) -> None:
        self._pools = Pools(pools)
        self.history = History(self._pools.shared)
        self.server = Server(self._pools.shared)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return what another worker wants to know of this one."""
        return self._own(question, self._pools.shared())

    def look(self, since: int = 0) -> dict[str, Any]:
        """Return how the service is doing; of its history what is after ``since``.

        Blocks for `TIMEOUT` at most, as long as a worker does not answer.
        """
        question = {"since": since}
        own = self._own(question, self._pools.all())
        own["serves"] = True
        replies = peers.ask(question, TIMEOUT)
        workers = [own, *(_worker_of(reply) for reply in replies)]
        workers.sort(key=lambda worker: worker["age"])
        now = time.time()
        # Of the last second some may know already, and others not yet.
        histories = _merged([w.pop("history", {}) for w in workers], int(now) - 1)
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
            "server": _newest([seen for w in workers for seen in w.pop("server", [])]),
        }

    def _own(
        self, question: dict[str, Any], pools: Iterable[ConnectionPool]
    ) -> dict[str, Any]:
        age, _, pid = peers.my_name().partition(".")
        return {
            "age": int(age),
            "pid": int(pid),
            "answers": True,
            "serves": False,
            "pools": [state_of(pool) for pool in pools],
            "history": self.history.rows(int(question.get("since", 0))),
            "server": [dataclasses.asdict(seen) for seen in self.server.look()],
        }


def state_of(pool: ConnectionPool) -> dict[str, Any]:
    """Return all there is to see of a pool; of requests no more than the route."""
    state = dataclasses.asdict(pool.snapshot())
    holders = [session["holder"] for session in state["sessions"] if session["holder"]]
    for one in [*holders, *state["waiting"]]:
        one["request"] = one.pop("route")
    for endpoint in state["endpoints"]:
        endpoint["role"] = endpoint["role"] and endpoint["role"].value
    leak = pool.settings.leak_warn_after
    state["long_hold"] = LONG_HOLD if leak is None else leak
    state["health"] = dataclasses.asdict(pool.health())
    return state


def _worker_of(reply: Reply) -> dict[str, Any]:
    if reply.content is not None:
        return dict(reply.content)
    age, _, pid = reply.name.partition(".")
    return {
        "age": int(age),
        "pid": int(pid),
        "answers": False,
        "serves": False,
        "pools": [],
    }


def _merged(histories: list[dict[str, list[Any]]], until: int) -> dict[str, list[Row]]:
    names = sorted({name for history in histories for name in history})
    return {
        name: [
            row
            for row in merged(
                [Row(*row) for row in history.get(name, ())] for history in histories
            )
            if row.second <= until
        ]
        for name in names
    }


def _newest(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was seen last of each server, whoever asked it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in sorted(seen, key=lambda one: float(one["taken_at"])):
        found[one["pool"], one["endpoint"]] = one
    return [found[key] for key in sorted(found)]

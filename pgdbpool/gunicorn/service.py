"""A service, which is all workers of one arbiter, and one worker's part in it."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import cursor

from pgdbpool.gunicorn import budget
from pgdbpool.gunicorn.budget import Capacity, Demand, Wish
from pgdbpool.gunicorn.introduction import Introduction
from pgdbpool.gunicorn.pipe import (
    ReaperPipe,
    place_of,
    settings_of_environ,
    targets_of,
)
from pgdbpool.gunicorn.reaper import read_capacity
from pgdbpool.limit import SharedLimit
from pgdbpool.pool import ConnectionPool, all_pools
from pgdbpool.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgdbpool.gunicorn.reaper import Target
    from pgdbpool.gunicorn.server import Arbiter, Log, Worker

# How long the first worker may take to ask the server how much it has free.
CHECK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """What bounds the pools of each worker.

    Attributes:
        workers: how many share the budget.
        threads: requests one serves at once, None if that says nothing.
        total: the budget, None without one.
        has_greenlets: of which many may wait for few connections.
    """

    workers: int
    threads: int | None
    total: int | None
    has_greenlets: bool = False

    @classmethod
    def of(cls, server: Arbiter) -> Limits:
        """Return the limits in force for workers started now.

        Raises:
            SettingsError: the budget is no number, or too small.
        """
        workers = max(server.num_workers, 1)
        total = budget.read_total(os.environ, workers)
        threads = budget.concurrency(server.worker_class, server.cfg, total)
        has_greenlets = budget.has_greenlets(server.worker_class)
        return cls(workers, threads, total, has_greenlets)

    @property
    def share(self) -> int | None:
        """One worker's part of the budget."""
        return None if self.total is None else self.total // self.workers

    def max_sizes(self, wishes: Sequence[Wish]) -> list[int]:
        """Return the ``max_size`` of each pool of a worker."""
        return budget.max_sizes(wishes, self.threads, self.share)

    def demand(self, size: int) -> Demand:
        """Return what all workers want of a server where each wants ``size``."""
        threads = None if self.has_greenlets else self.threads
        return Demand(self.workers, size, threads, self.total)


def wish_of(settings: Settings) -> Wish:
    """Return what a pool with these settings was constructed with."""
    return Wish(
        settings.max_size,
        settings.min_size,
        is_fixed="max_size" in settings.explicit,
        needs_min="min_size" in settings.explicit,
    )


class Service:
    """What the arbiter and its workers have in common; made before the first fork.

    Attributes:
        id: random; the first half of each worker's token.
        pipe: to the reaper.
        checked: servers and sizes that were found to fit, or not to.
    """

    def __init__(self) -> None:
        self.id = secrets.token_hex(6)
        self.pipe = ReaperPipe()
        self.checked: list[tuple[object, int]] = []

    def token(self, worker: Worker) -> str:
        """Return what marks the sessions of a worker, here and in the worker."""
        return f"{self.id}.{worker.age}"

    def check(self, log: Log, limits: Limits, deadline: float) -> None:
        """Say in the log whether the connections of all workers fit their servers.

        For the arbiter. Blocks until ``deadline`` (monotonic) at most.
        """
        demands = demands_of_pools(all_pools(), limits)
        if not demands:
            settings = settings_of_environ(os.environ)
            if settings is None:
                log.debug("pgdbpool: no DSN in the environment, worker 1 will check")
                return
            size = sum(limits.max_sizes([wish_of(settings)]))
            demands = [(one, size) for one in targets_of(settings, os.environ)]
        unknown = [place_of(target) for target in _of_providers(all_pools())]
        for target, size in demands:
            if place_of(target) in unknown:
                log.debug("pgdbpool: a provider has the password, worker 1 will check")
                continue
            left = max(0.0, deadline - time.monotonic())
            answer = self.pipe.ask(target, self.id, left)
            if answer is not None and "capacity" in answer:
                self.checked.append((place_of(target), size))
            announce(log, limits.demand(size), answer)


def sizes_of(
    pools: Sequence[ConnectionPool], limits: Limits
) -> dict[ConnectionPool | SharedLimit, int]:
    """Return the ``max_size`` of each pool, or of the limit that it shares."""
    wishes: dict[ConnectionPool | SharedLimit, Wish] = {}
    for pool in pools:
        limit = pool.settings.shared_limit
        if limit is None:
            wishes[pool] = wish_of(pool.settings)
        else:
            wishes[limit] = Wish(limit.max_size, is_fixed=True)
    sizes = limits.max_sizes(list(wishes.values()))
    return dict(zip(wishes, sizes, strict=True))


def demands_of_pools(
    pools: Sequence[ConnectionPool], limits: Limits
) -> list[tuple[Target, int]]:
    """Return the servers of the pools, with the connections a worker wants there."""
    sizes = sizes_of(pools, limits)
    demands: dict[object, tuple[Target, dict[object, int]]] = {}
    for pool in pools:
        bound = pool.settings.shared_limit or pool
        for one in targets_of(pool.settings, os.environ):
            _, parts = demands.setdefault(place_of(one), (one, {}))
            parts[bound] = sizes[bound]
    return [(target, sum(parts.values())) for target, parts in demands.values()]


def _of_providers(pools: Sequence[ConnectionPool]) -> Iterator[Target]:
    """Yield the servers that nobody logs in to who has not asked a provider."""
    for pool in pools:
        if not isinstance(pool.settings.password, str | None):
            yield from targets_of(pool.settings, os.environ)


def announce(log: Log, demand: Demand, answer: dict[str, Any] | None) -> None:
    """Log in one line what a server answered, and what follows from it."""
    capacity, trouble = None, ""
    if answer is None:
        trouble = "; could not check: the server gave no answer in time"
    elif "capacity" in answer:
        capacity = Capacity(*answer["capacity"])
    else:
        trouble = f"; could not check: {answer['error']}"
    is_fine, text = budget.verdict(demand, capacity)
    say = log.info if is_fine and not trouble else log.warning
    say("pgdbpool: %s%s", text, trouble)


class Member:
    """One worker's part in a service; lives in the worker.

    Args:
        service: the worker's.
        worker: gunicorn's object.
        limits: what bounds its pools, None if that could not be told.
    """

    def __init__(self, service: Service, worker: Worker, limits: Limits | None) -> None:
        self._service = service
        self._worker = worker
        self._limits = limits
        self.token = service.token(worker)
        self._introduction = Introduction(service.pipe, self.token, worker.log)

    def adopt(self, new: ConnectionPool | None = None) -> None:
        """Give all pools of this process their size, and tell the reaper of them.

        To be called again whenever there is another pool: they share the share.

        Args:
            new: that one; None: all may be.
        """
        pools = all_pools()
        if self._limits is not None:
            for pool, size in sizes_of(pools, self._limits).items():
                if isinstance(pool, ConnectionPool) and pool.max_size != size:
                    pool.resize(min(pool.settings.min_size, size), size)
        self._introduction.tell_of(pools if new is None else [new])

    def warm(self, deadline: float) -> None:
        """Fill the pools up to their ``min_size``; log those that stay empty.

        Blocks until ``deadline`` (monotonic) at most, and no longer than a caller
        of the pool would wait.
        """
        pools = [pool for pool in all_pools() if not pool.closed]
        for pool in pools:
            pool.open()
        for pool in pools:
            left = max(0.0, deadline - time.monotonic())
            try:
                pool.wait(left if pool.timeout is None else min(left, pool.timeout))
            except psycopg2.Error as error:
                self._worker.log.warning(
                    "pgdbpool: pool %r starts without its connections: %s",
                    pool.name,
                    error,
                )
        self._introduction.tell_of(pools)  # names have been resolved

    def check(self) -> None:
        """Say what the arbiter could not, for want of a pool: whether all fits.

        For the first worker. Blocks for a second or so at most.
        """
        if self._limits is None:
            return
        pools = [pool for pool in all_pools() if not pool.closed]
        for target, size in demands_of_pools(pools, self._limits):
            if (place_of(target), size) in self._service.checked:
                continue
            # Of several endpoints the pool can be asked for its primary's.
            mine = [targets_of(pool.settings, os.environ)[0] for pool in pools]
            if target not in mine:
                continue
            pool = pools[mine.index(target)]
            try:
                capacity = self._capacity(pool)
            except psycopg2.Error:
                # Warming has told it already.
                continue
            demand = self._limits.demand(size)
            announce(self._worker.log, demand, {"capacity": capacity})

    def _capacity(self, pool: ConnectionPool) -> list[int]:
        # The user's own cursors may give rows of another kind.
        with (
            pool.connection(CHECK_SECONDS) as conn,
            conn.cursor(cursor_factory=cursor) as cur,
        ):
            return read_capacity(cur, self._service.id)

    def close(self, deadline: float) -> None:
        """Close the pools; what is still held then is left to the reaper.

        Blocks until ``deadline`` (monotonic) at most.
        """
        for pool in all_pools():
            pool.close(timeout=max(0.0, deadline - time.monotonic()))
        if time.monotonic() < deadline:
            # Nothing had to be cut off.
            self._service.pipe.tell(bye=self.token)

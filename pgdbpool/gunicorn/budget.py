"""How many connections each worker may have, and whether the server has them.

Only arithmetic and words: no process, no server, no clock. A service has a
budget (``PGDBPOOL_TOTAL``), each worker an equal share of it, and the pools of
a worker divide that among them. A ``max_size`` that the user gave stands.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pgdbpool.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgdbpool.gunicorn.server import Config

TOTAL_VARIABLE = "PGDBPOOL_TOTAL"


def read_total(environ: Mapping[str, str], workers: int) -> int | None:
    """Return the budget of the whole service, or None when there is none.

    Raises:
        SettingsError: it is no whole number, or too small for one connection
            a worker.
    """
    text = environ.get(TOTAL_VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise SettingsError(f"{TOTAL_VARIABLE}: must be a whole number, not {text!r}")
    total = int(text)
    if total < max(workers, 1):
        raise SettingsError(
            f"{TOTAL_VARIABLE}: {total} is too little for {_count(workers, 'worker')}, "
            "each needs a connection; raise it or run fewer workers"
        )
    return total


def concurrency(
    worker_class: type[Any], cfg: Config, total: int | None = None
) -> int | None:
    """Return how many requests a worker serves at once.

    None where that number is no measure for a pool: greenlets without a budget,
    of which a thousand may wait for twenty connections, and foreign workers.
    """
    names = {base.__name__ for base in worker_class.__mro__}
    if "ThreadWorker" in names:
        return cfg.threads
    if "SyncWorker" in names:
        return 1
    if has_greenlets(worker_class) and total is not None:
        return cfg.worker_connections
    return None


def has_greenlets(worker_class: type[Any]) -> bool:
    """Whether a worker serves each request in a greenlet."""
    return any(base.__name__ == "AsyncWorker" for base in worker_class.__mro__)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What one pool was constructed with.

    Attributes:
        max_size: the user's, or the default.
        min_size: likewise; at most ``max_size``.
        is_fixed: whether the user gave ``max_size``.
        needs_min: whether the user gave ``min_size``.
    """

    max_size: int
    min_size: int = 1
    is_fixed: bool = False
    needs_min: bool = False


def max_sizes(
    wishes: Sequence[Wish], threads: int | None, share: int | None
) -> list[int]:
    """Return the ``max_size`` of each pool of one worker, in the same order.

    Args:
        wishes: the pools.
        threads: requests the worker serves at once; None if that says nothing.
        share: what the worker may have of the budget; None without a budget.
    """
    wanted = [_wanted(wish, threads) for wish in wishes]
    if share is None:
        return wanted
    free = [i for i, wish in enumerate(wishes) if not wish.is_fixed]
    left = share - sum(wish.max_size for wish in wishes if wish.is_fixed)
    for n, i in enumerate(free):
        part = left // (len(free) - n)
        wanted[i] = max(1, min(wanted[i], part))
        left -= wanted[i]
    return wanted


def _wanted(wish: Wish, threads: int | None) -> int:
    if wish.is_fixed or threads is None:
        return wish.max_size
    return max(threads, wish.min_size) if wish.needs_min else threads


@dataclasses.dataclass(frozen=True)
class Capacity:
    """What a server can give.

    Attributes:
        limit: its ``max_connections``.
        reserved: ``superuser_reserved_connections``, and from PostgreSQL 16 on
            ``reserved_connections``.
        in_use: client connections that are not this service's.
    """

    limit: int
    reserved: int
    in_use: int

    @property
    def free(self) -> int:
        """What is left for this service."""
        return max(0, self.limit - self.reserved - self.in_use)

    def __str__(self) -> str:
        """Return it in words for the log."""
        return (
            f"the server has {self.free} free (max_connections {self.limit}, "
            f"{self.reserved} reserved, {self.in_use} in use by others)"
        )


@dataclasses.dataclass(frozen=True)
class Demand:
    """What a service may ask of one server.

    Attributes:
        workers: how many.
        size: connections each of them may have.
        threads: requests each serves at once, if that is known.
        total: the budget of the whole service, if there is one.
    """

    workers: int
    size: int
    threads: int | None = None
    total: int | None = None

    @property
    def needed(self) -> int:
        """Connections of all workers together."""
        return self.workers * self.size


def verdict(demand: Demand, capacity: Capacity | None) -> tuple[bool, str]:
    """Say whether everything fits, and the one line for the log about it."""
    workers = _count(demand.workers, "worker")
    facts = [f"{workers} x {_count(demand.size, 'connection')} = {demand.needed}"]
    if demand.total is not None:
        facts.append(f"{TOTAL_VARIABLE}={demand.total}")
    if capacity is not None:
        facts.append(str(capacity))
    problems = list(_problems(demand, capacity))
    if problems:
        return False, "; ".join(facts) + ": " + "; ".join(problems)
    if capacity is None:
        return True, "; ".join(facts)
    also = "also" if demand.needed * 2 <= capacity.free else "but not"
    return True, f"{'; '.join(facts)}: fits, {also} twice as a rolling restart needs"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _problems(demand: Demand, capacity: Capacity | None) -> list[str]:
    """Return each thing that does not fit, with what to change."""
    problems = []
    free = None if capacity is None else capacity.free
    if free is not None and demand.needed > free:
        problems.append(
            "DOES NOT FIT, the server will refuse connections; lower max_size, "
            f"the workers or {TOTAL_VARIABLE}, or raise max_connections"
        )
    if demand.total is not None and demand.needed > demand.total:
        problems.append(
            "EXCEEDS THE BUDGET; give a smaller max_size or none, or use fewer pools"
        )
    if free is not None and demand.total is not None and demand.total > free:
        problems.append(f"{TOTAL_VARIABLE} is more than the server has free")
    if demand.threads is not None and demand.size < demand.threads:
        problems.append(
            f"fewer connections than the {demand.threads} threads of a worker, "
            "which will wait for each other"
        )
    return problems

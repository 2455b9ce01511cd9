"""What all requests of one middleware have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.pool import ConnectionPool
    from pgdbpool.wsgi.read_your_writes import ReadYourWrites
    from pgdbpool.wsgi.refusal import Refusal

TRANSACTIONS = ("request", "manual")

# PEP 3333's, in a form that resolves at run time from Python 3.10 on.
Environ = dict[str, Any]
Headers = list[tuple[str, str]]
ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType]
    | tuple[None, None, None]
    | None
)
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
CommitVeto = Callable[[Environ, str, Headers], object]


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a middleware, checked, in the form its requests need.

    Attributes:
        pool: where connections come from.
        tells_routes: it matters which route a request is of.
        is_automatic: the request is the transaction.
        commit_veto: may decide against a commit; None if nobody does.
        refusal: the 503.
        read_methods: requests of these only read.
        read_your_writes: how a write travels with its client; None if it does not.
        streaming: the connections of bodies that are still to be closed. So they
            are not collected with a body that nobody closes, before it could give
            its connection back: the collector clears weak references first, and
            the pool would take it for lost.
    """

    pool: ConnectionPool
    tells_routes: bool
    is_automatic: bool
    commit_veto: CommitVeto | None
    refusal: Refusal
    read_methods: frozenset[str]
    read_your_writes: ReadYourWrites | None
    streaming: set[PooledConnection] = dataclasses.field(default_factory=set)

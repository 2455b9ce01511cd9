"""A function that reads, run again when its server could not let it finish.

A standby cancels whoever is in the way of replaying (manual, "Handling Query
Conflicts"), and any server can be lost. What only reads can begin anew.
"""

import logging
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, TypeVar

import psycopg2

from pgdbpool.block import Block, Kind
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold, ReadingElsewhere
from pgdbpool.endpoint.health import in_one_line
from pgdbpool.endpoint.need import Need
from pgdbpool.errors import CommitUnknown, PoolError
from pgdbpool.holding import Holding

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How a standby cancels: serialization_failure, deadlock_detected.
CONFLICTS: Final = ("40001", "40P01")

ATTEMPTS: Final = 3


def read(
    pool: Holding,
    frame: FrameType,
    function: Callable[[PooledConnection], T],
    timeout: float | None,
    *,
    strict: bool,
) -> T:
    """Run a function that reads, at most three times; see `ConnectionPool.read`.

    Args:
        pool: the pool.
        frame: who asks.
        function: what to run.
        timeout: seconds for each acquire; None for the pool's.
        strict: never on the primary.
    """
    need = Need.STANDBY if strict else Need.PREFER_STANDBY
    kind = _at(frame, need, None)
    failure: psycopg2.Error | None = None
    for left in reversed(range(ATTEMPTS)):
        attempt = Attempt(pool, timeout, kind)
        try:
            with attempt as conn:
                return function(conn)
        except PoolError as refusal:
            raise refusal from (refusal.__cause__ or failure)
        except psycopg2.Error as error:
            if not (left and attempt.can_begin_anew(error)):
                raise
            failure = error
            logger.info("pool %r: reads once more: %s", pool.name, in_one_line(error))
        kind = _at(frame, *pool.elsewhere(need, attempt.endpoint, is_last=left == 1))
    raise AssertionError("the last attempt returns or raises")


class Attempt(Block):
    """One run of a function that reads.

    Attributes:
        endpoint: where; None: nobody served it.
    """

    __slots__ = ("_is_lost", "endpoint")

    endpoint: Endpoint | None

    def __enter__(self) -> PooledConnection:
        """Acquire."""
        self.endpoint = None
        conn = super().__enter__()
        self.endpoint = conn.entry.endpoint
        return conn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release, which closes what was lost."""
        conn = self._conn
        before = conn.closed
        self._is_lost = before > 1
        try:
            super().__exit__(kind, error, trace)
        except psycopg2.Error:
            # Found out only now; and not what the function left in a failed state.
            self._is_lost = self._is_lost or (not before and conn.closed > 0)
            raise

    def can_begin_anew(self, error: psycopg2.Error) -> bool:
        """Whether an error is the server's failure, and not the function's."""
        if self.endpoint is None:
            return False
        is_server = self._is_lost or isinstance(error, CommitUnknown)
        return is_server or error.pgcode in CONFLICTS


def _at(frame: FrameType, need: Need, avoided: Endpoint | None) -> Kind:
    """Return what makes holds of the same caller, but not at one endpoint."""

    def hold(
        since: float,
        _: FrameType,
        request: str | None,
        is_block: bool,  # noqa: FBT001 - as `Hold`
    ) -> Hold:
        return ReadingElsewhere(
            since, frame, request, is_block, need=need, avoided=avoided
        )

    return hold

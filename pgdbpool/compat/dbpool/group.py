"""A connection group: its pool, and who holds which connection by which number.

1.x gave a number to each place in the pool, and whoever knew it could use what was
there. Here a number is given to each hold and to no other ever after: so an old one
leads to nothing, and never to a connection that somebody else has by now.
"""

import itertools
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, Final

import psycopg2
from psycopg2 import extensions as driver
from psycopg2.extras import DictCursor

from pgdbpool.block import Block
from pgdbpool.compat.dbpool import prepared
from pgdbpool.compat.dbpool.config import GroupPlan
from pgdbpool.compat.dbpool.errors import (
    DBConnectionError,
    DBOfflineError,
    acquire_error,
    query_error,
)
from pgdbpool.endpoint import session
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.entry import Hold
from pgdbpool.errors import PoolError, SettingsError
from pgdbpool.pool import ConnectionPool

FAILED: Final = driver.TRANSACTION_STATUS_INERROR
caller = sys._getframe  # noqa: SLF001 - the one way to learn who acquires


class Group:
    """One group of the configuration.

    Args:
        name: its name.
        plan: what its pool is made with.

    Attributes:
        name: its name.
        connection_count: how many connections it may have to a server.
        pool: its pool.

    Raises:
        SettingsError: together its settings are wrong; nothing is left open.
    """

    def __init__(self, name: str, plan: GroupPlan) -> None:
        self.name = name
        self.connection_count = plan.connection_count
        dsns = plan.conninfo
        try:
            self.pool = ConnectionPool(
                dsns[0] if len(dsns) == 1 else list(dsns), **plan.given
            )
        except SettingsError as error:
            raise SettingsError(f"groups.{name}: {error}") from error
        self._numbers = itertools.count()
        # A handler owns what it holds: if it is lost, so is this, and the pool's
        # connection comes back. What nobody owns is kept until it is set free.
        self._held: weakref.WeakValueDictionary[int, Held]
        self._held = weakref.WeakValueDictionary()
        self._kept: dict[int, Held] = {}

    def __len__(self) -> int:
        """Return how many connections are held."""
        return len(self._held)

    def acquire(self, frame: FrameType, *, is_block: bool = False) -> "Held":
        """Acquire a connection. Blocks, at most for the pool's timeout.

        Args:
            frame: who acquires, for messages.
            is_block: it is held for a block of this thread.

        Raises:
            DBConnectionError: there is none; also a `PoolError` that says why.
        """
        try:
            held = Held(self, next(self._numbers), frame, is_block=is_block)
        except PoolError as error:
            raise acquire_error(error) from error.__cause__
        self._held[held.number] = held
        return held

    def keep(self, held: "Held") -> None:
        """Own what is held, until it is over."""
        self._kept[held.number] = held

    def find(self, number: int) -> "Held | None":
        """Return what is held by a number."""
        return self._held.get(number)

    def get(self, number: int) -> "Held":
        """Return what is held by a number.

        Raises:
            DBConnectionError: nothing is.
        """
        held = self.find(number)
        if held is None:
            raise DBConnectionError(
                f"group {self.name!r}: nothing is held by the number {number!r}: take "
                "one that Handler or get_next_connection gave, while it is held"
            )
        return held

    def forget(self, number: int) -> bool:
        """Take note that a hold is over; whether it was not before."""
        self._kept.pop(number, None)
        return self._held.pop(number, None) is not None


class Held:
    """One connection of a group, while it is held.

    Args:
        group: the group.
        number: of this hold.
        frame: who acquires.
        is_block: it is held for a block of this thread.

    Attributes:
        group: the group.
        number: of this hold.
        conn: the connection.
        is_over: it was released.
    """

    def __init__(
        self, group: Group, number: int, frame: FrameType, *, is_block: bool
    ) -> None:
        # Which keeps no frame: that would keep its variables, and so this, alive.
        hold = Hold(monotonic(), frame, None, is_block)
        self.group = group
        self.number = number
        self.is_over = False
        self._is_block = is_block
        self._block = Block(group.pool, None, lambda *_: hold)
        self.conn: PooledConnection = self._block.__enter__()

    def execute(self, statement: Any, parameters: Any = None) -> DictCursor:  # noqa: ANN401 - psycopg2's
        """Execute a statement. Blocks.

        Raises:
            DBQueryError: it fails.
        """
        with self._told():
            cur: Any = self.conn.cursor(cursor_factory=DictCursor)
            cur.execute(statement, parameters)
            found: DictCursor = cur
        return found

    def execute_prepared(self, parameters: Any) -> Any:  # noqa: ANN401 - what JSON has
        """Execute a prepared query. Blocks.

        Raises:
            DBQueryError: it fails.
        """
        with self._told(), self.conn.cursor(cursor_factory=DictCursor) as cur:
            return prepared.execute(cur, parameters)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have an error be one of 1.x, and the pool hear of it."""
        try:
            yield
        except psycopg2.Error as error:
            self.group.pool.blame(self.conn, error)
            if self.conn.autocommit:
                self._leave_if_lost(error)
            raise query_error(error) from error

    def _leave_if_lost(self, error: psycopg2.Error) -> None:
        """Release a lost connection that no block and no transaction is about."""
        if self.conn.closed and not self._is_block:
            self.end(type(error), error, None)

    def commit(self) -> None:
        """Commit. Blocks.

        Raises:
            psycopg2.Error: nothing is committed; but `CommitUnknown`: perhaps.
        """
        try:
            self.group.pool.commit(self.conn)
        except psycopg2.Error as error:
            self._leave_if_lost(error)
            raise

    def rollback(self) -> None:
        """Roll back. Blocks."""
        try:
            session.roll_back(self.conn)
        except psycopg2.Error as error:
            if not self.conn.closed:
                raise
            # Its server has done it.
            self._leave_if_lost(error)

    def check(self) -> None:
        """Prove that the session lives. Blocks for a round trip.

        Raises:
            DBOfflineError: it does not.
        """
        try:
            if self.conn.get_transaction_status() != FAILED:
                session.execute(self.conn, "SELECT 1")
            elif session.is_lost(self.conn):  # it takes no statement before a rollback
                raise psycopg2.OperationalError("the session was lost")
        except psycopg2.Error as error:
            raise DBOfflineError(str(error).strip()) from error

    def end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit or roll back, and release; once. Blocks.

        Raises:
            psycopg2.Error: it could not be committed.
        """
        self.is_over = True
        if self.group.forget(self.number):
            self._block.__exit__(kind, error, trace)

    def drop(self) -> None:
        """Roll back what is open, and release. Blocks."""
        self.end(GeneratorExit, GeneratorExit(), None)

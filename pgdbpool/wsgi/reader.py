"""What a request reads with beside its own connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgdbpool.wsgi.holder import Holder

if TYPE_CHECKING:
    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.wsgi.request import Request


class Reader(Holder):
    """The holder of a standby's connection, until the request has its own.

    From then on the request's own connection serves, which alone sees what the
    request wrote. A ``commit()`` or ``rollback()`` of the reader never reaches it,
    nor does the end of a ``with`` block: who only reads ends no transaction of
    somebody else's.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request.rules, request.environ)
        self._request = request
        self.is_streaming = request.is_streaming

    @property
    def is_read_only(self) -> bool:
        """Whether it holds for reading: always."""
        return True

    def connection(self) -> PooledConnection:
        """Return the request's own connection if it had one, else a standby's.

        May block. The primary's, where no standby is fit.
        """
        request = self._request
        if not request.has_held:
            return super().connection()
        conn = request.connection()
        self.failure = None
        return conn

    def _from_pool(self) -> PooledConnection:
        self._request.is_used = True
        conn = super()._from_pool()
        self._end_if_over()
        return conn

    def refuse_if_over(self) -> None:
        """Raise ConnectionReleased when the request has ended."""
        self._end_if_over()
        super().refuse_if_over()

    def _end_if_over(self) -> None:
        # The request may have ended on another thread, and not have seen the reader.
        if self._request.is_over:
            self.is_over = True

    def change_autocommit(self, value: object) -> None:
        """Set ``autocommit`` where statements run."""
        request = self._request
        if request.has_held:
            request.change_autocommit(value)
        else:
            super().change_autocommit(value)

    def enter(self) -> None:
        """Begin a ``with`` block, of psycopg2's if the connection is the reader's."""
        if self._request.has_held:
            self._request.connection()
        else:
            super().enter()

    def leave(self, error: BaseException | None) -> None:
        """End it. Blocks for the end of the reader's own transaction."""
        if self._is_entered:
            super().leave(error)


def reader_of(request: Request) -> Holder:
    """Return who holds what ``environ["pgdbpool.read"]`` stands for."""
    if request.reads_itself:
        return request
    reader = request.reader
    if reader is None:
        # Atomic: two threads of a request get the same.
        reader = vars(request).setdefault("reader", Reader(request))
    return reader

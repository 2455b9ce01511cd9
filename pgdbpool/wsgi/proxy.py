"""What stands in environ for the request's connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from psycopg2 import extensions as driver

from pgdbpool.wsgi.reader import reader_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.wsgi.holder import Holder
    from pgdbpool.wsgi.request import Request


class ConnectionProxy:
    """The request's connection, acquired when it is first needed.

    It offers what a psycopg2 connection offers, attributes to read and to set
    included, and is the same connection all through the request, until
    `release()` or the request's end. ``commit()``, ``rollback()`` and ``close()``
    acquire nothing: without a connection there is nothing for them to do.

    A ``commit()`` of a transaction that has failed raises, where psycopg2's rolls
    back without a word.

    C functions that insist on a psycopg2 connection (``sql.SQL.as_string``,
    ``register_type``, ``quote_ident``) take `dbapi_connection`. Cursors are real.

    After the request every use raises `ConnectionReleased`.
    """

    __slots__ = ("_holder",)

    _holder: Holder

    def __init__(self, holder: Holder) -> None:
        _set_holder(self, holder)

    @property
    def dbapi_connection(self) -> PooledConnection:
        """The real connection. Not to be kept: after the request it is another's."""
        return self._holder.connection()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as psycopg2
        """Return a new cursor, as psycopg2 does. Closed when the request ends."""
        return self._holder.connection().cursor(*args, **kwargs)

    def commit(self) -> None:
        """Commit now. What follows is another transaction. Blocks."""
        self._holder.commit()

    def rollback(self) -> None:
        """Roll back now. What follows is another transaction. Blocks."""
        self._holder.rollback()

    def release(self) -> None:
        """Give the connection back before the request ends. Blocks for a reset.

        For the time of a slow call to another service, say. The next use acquires
        anew, and is another transaction on perhaps another session; so is the
        next use after a session was lost. Without a connection it does nothing.

        Raises:
            psycopg2.ProgrammingError: a transaction is open that was used; say
                with commit() or rollback() what shall become of it.
            ConnectionReleased: the request is over.
        """
        self._holder.release()

    def close(self) -> None:
        """Close the connection, as psycopg2 does; the pool opens another.

        What was not committed is gone. Use `release()` to give it back.
        """
        self._holder.close()

    def __enter__(self) -> Self:
        """Begin a block that commits, or rolls back after an exception."""
        self._holder.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit or roll back; the connection stays the request's. Blocks."""
        self._holder.leave(error)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as psycopg2
        """Return what the connection has, but no protocol that psycopg2 has not."""
        if name.startswith("__"):
            # inspect and others probe for these; that is no use of it.
            raise AttributeError(name)
        return getattr(self._holder.connection(), name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set it on the connection; the release undoes it."""
        if name == "autocommit":
            self._holder.change_autocommit(value)
        else:
            setattr(self._holder.connection(), name, value)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled, as psycopg2 does, and acquire nothing."""
        raise TypeError(f"cannot copy or pickle {self!r}")

    def __dir__(self) -> list[str]:
        """Return the names without acquiring."""
        return sorted({*object.__dir__(self), *dir(driver.connection)})

    def __repr__(self) -> str:
        """Return whose it is and what it stands for, without acquiring."""
        holder = self._holder
        state = "over" if holder.is_over else repr(holder.conn or "not acquired")
        return f"<connection of {holder.name!r}: {state}>"


# Past __setattr__, and quicker than object's: every request makes two.
_set_holder = vars(ConnectionProxy)["_holder"].__set__


class ReadingProxy(ConnectionProxy):
    """A connection to read from, acquired when it is first needed.

    A standby's, if one is fit, else the primary's; its transactions are READ ONLY.
    It stands for the request's own connection where that only reads as well, and
    from the first use of that on where it may write: then only that one sees what
    the request wrote. Then ``commit()``, ``rollback()``, ``close()``, ``release()``
    and the end of a ``with`` block leave it alone.

    Otherwise it is a `ConnectionProxy`. The request never commits it.
    """

    __slots__ = ("_request",)

    _request: Request

    def __init__(self, request: Request) -> None:
        _set_request(self, request)

    # There it is a slot.
    @property
    def _holder(self) -> Holder:  # type: ignore[override]
        return reader_of(self._request)


_set_request = vars(ReadingProxy)["_request"].__set__

"""The exceptions of pgdbpool 1.x, and how they go with those of today."""

from typing import TYPE_CHECKING

import psycopg2

from pgdbpool.errors import EndpointDown, NoPrimary, NoStandby, PoolError

if TYPE_CHECKING:
    from psycopg2.extensions import Diagnostics


class DBConnectionError(Exception):
    """No connection can be had, or the one that is held is of no use any more.

    What an acquire raises is a `pgdbpool.PoolError` too, which says why.
    """


class DBOfflineError(Exception):
    """The server cannot be reached.

    When an acquire raises it, it is a `DBConnectionError` too.
    """


class UnconfiguredGroupError(Exception):
    """The configuration has no such group, or there is none yet."""


class DBQueryError(Exception):
    """A statement failed. Its ``__cause__`` is the error of psycopg2."""

    @property
    def pgcode(self) -> str | None:
        """The SQLSTATE, if the server gave one."""
        return getattr(self.__cause__, "pgcode", None)

    @property
    def pgerror(self) -> str | None:
        """What the server said."""
        return getattr(self.__cause__, "pgerror", None)

    @property
    def diag(self) -> "Diagnostics | None":
        """What the server said, in its parts."""
        return getattr(self.__cause__, "diag", None)


def query_error(error: psycopg2.Error) -> DBQueryError:
    """Return what to raise from an error of psycopg2."""
    return DBQueryError(f"{type(error).__name__}: {str(error).strip()}")


def acquire_error(error: PoolError) -> PoolError:
    """Return an error that is of its own kind, and one of 1.x too."""
    twin = _twin(type(error))(*error.args)
    twin.__cause__ = error.__cause__
    twin.__suppress_context__ = True
    return twin.with_traceback(error.__traceback__)


_twins: dict[type, type[PoolError]] = {}


def _twin(kind: type[PoolError]) -> type[PoolError]:
    if kind in _twins:
        return _twins[kind]
    ours: tuple[type[Exception], ...] = (DBConnectionError,)
    if issubclass(kind, (EndpointDown, NoPrimary, NoStandby)):
        ours = (DBConnectionError, DBOfflineError)
    made: type[PoolError] = type(
        kind.__name__, (*ours, kind), {"__doc__": kind.__doc__}
    )
    return made

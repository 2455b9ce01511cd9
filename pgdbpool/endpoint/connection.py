"""The connection that users hold: psycopg2's own, with a memory.

It remembers whose it is, which cursors a hold opened and whether the holder
changed a setting of the driver, so that release can undo just that. And it is
*pristine* while the only thing sent in its transaction is the ping's BEGIN: a
handler whose first act needs a session outside any transaction finds one.
"""

import contextlib
import functools
import os
import sys
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from psycopg2 import extensions as driver

from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.look import looker
from pgdbpool.errors import ConnectionReleased, SettingsError
from pgdbpool.watchdog import advancing

if TYPE_CHECKING:
    from pgdbpool.endpoint.entry import Entry
    from pgdbpool.endpoint.session import Baseline


# psycopg2's own attributes, for setting them past this class.
READONLY: Any = driver.connection.readonly
AUTOCOMMIT: Any = driver.connection.autocommit
DSN: Any = driver.connection.dsn

READ_ONLY = "default_transaction_read_only"

SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret"})


def _changing(name: str) -> property:
    """Return psycopg2's attribute, whose setter ends a pristine transaction."""
    inherited = getattr(driver.connection, name)

    def change(self: "PooledConnection", value: object) -> None:
        self.about_to_change()
        inherited.__set__(self, value)
        self.note_autocommit()

    return property(inherited.__get__, change, doc=inherited.__doc__)


class PooledConnection(driver.connection):
    """A psycopg2 connection that belongs to a pool.

    Everything psycopg2 documents for connections works on it. It is never made
    by hand: `ConnectionPool` makes it, of this class and of the user's
    ``connection_factory``, if there is one.

    Attributes:
        entry: its place in the pool.
        hold: the hold it is in; None while it is nobody's.
        is_pristine: the open transaction is the ping's and nobody used it.
        is_touched: its holder did something that release may have to undo.
        is_cancelled: a cancel request is under way and could hit anyone.
        is_changed: a setting of the driver was changed.
        is_write_ping: the ping's BEGIN says READ WRITE, so that it also proves
            the role.
        is_read_ping: it says READ ONLY, because the hold is for reading.
        is_renewed: the COMMIT that ended its hold began the next transaction.
        pinged_for: the hold that this transaction is the ping of.
        polls: no thread keeps the deadlines of its calls.
        baseline: what release restores.
        cursors: weak references to the cursors the hold opened.
        news: whether the socket has something to read; a system call.
    """

    # Slots, so that what a handler pins on it is refused, as psycopg2 does, and
    # does not reach the next holder.
    __slots__ = (
        "baseline",
        "cursors",
        "entry",
        "hold",
        "is_cancelled",
        "is_changed",
        "is_pristine",
        "is_read_ping",
        "is_renewed",
        "is_touched",
        "is_write_ping",
        "news",
        "pinged_for",
        "polls",
    )

    baseline: "Baseline"
    entry: "Entry"
    hold: "Hold | None"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The pool's own until it is prepared: a user's class may use it at once.
        self.hold = Hold(monotonic(), sys._getframe(), None, False)  # noqa: SLF001
        self.cursors: set[weakref.ref[driver.cursor]] = set()
        self.is_pristine = self.is_write_ping = self.is_read_ping = False
        self.is_touched = self.is_cancelled = False
        self.is_changed = self.is_renewed = False
        self.pinged_for: Hold | None = None
        self.polls = False
        with _keeping_patience(self, *args):
            super().__init__(*args, **kwargs)
        self.news = looker(self.fileno())

    def __repr__(self) -> str:
        """Return the class, where it leads, and whether it is closed."""
        return f"<{type(self).__name__} {self.dsn!r}, closed: {self.closed}>"

    __str__ = __repr__  # psycopg2 has one of its own

    @property
    def dsn(self) -> str:
        """What it was opened with, without secrets: psycopg2 hides but one."""
        params = driver.parse_dsn(DSN.__get__(self))
        told: str = driver.make_dsn(
            **{key: value for key, value in params.items() if key not in SECRETS}
        )
        return told

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open that the holder may have used."""
        idle = driver.TRANSACTION_STATUS_IDLE
        return self.get_transaction_status() != idle and not self.is_pristine

    def about_to_change(self) -> None:
        """Make way for a change that no transaction may be open for.

        May block for a round trip.

        Raises:
            ConnectionReleased: the connection is nobody's.
        """
        self._refuse_if_released()
        self.is_touched = self.is_changed = True
        if self.is_pristine:
            self.is_pristine = False
            driver.connection.rollback(self)
        if self.is_write_ping:
            # Else psycopg2 would undo our READ WRITE with a SET of its own.
            READONLY.__set__(self, None)
            self.is_write_ping = False

    def note_autocommit(self) -> None:
        """Tell the hold when statements commit by themselves from now on."""
        if self.hold is not None and self.autocommit:
            self.hold.has_committed = True

    def _refuse_if_released(self) -> None:
        if self.hold is None:
            raise ConnectionReleased(
                "this connection was released to its pool: acquire one anew"
            )

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new cursor, which is closed when the connection is released.

        Raises:
            ConnectionReleased: the connection is nobody's.
        """
        if self.hold is None:
            self._refuse_if_released()
        self.is_pristine = False
        self.is_touched = True
        cur = super().cursor(*args, **kwargs)
        cursors = self.cursors
        cursors.add(weakref.ref(cur, cursors.discard))
        return cur

    def lobject(self, *args: Any, **kwargs: Any) -> Any:
        """Return a large object, as psycopg2 does."""
        self._refuse_if_released()
        self.is_pristine = False
        return super().lobject(*args, **kwargs)

    def commit(self) -> None:
        """Commit, as psycopg2 does, and tell the hold."""
        if self.hold is None:
            self._refuse_if_released()
        elif self.get_transaction_status() and not self.is_pristine:
            self.hold.has_committed = True
        super().commit()
        self.heed_read_only()

    def rollback(self) -> None:
        """Roll back, as psycopg2 does."""
        self._refuse_if_released()
        super().rollback()
        self.heed_read_only()

    def heed_read_only(self) -> None:
        """Let BEGIN say nothing any more where the session became read only. No I/O."""
        if self.is_write_ping and self.get_parameter_status(READ_ONLY) == "on":
            READONLY.__set__(self, None)
            self.is_write_ping = False

    def close(self) -> None:
        """Close, as psycopg2 does; the pool opens another."""
        self._refuse_if_released()
        super().close()

    def restore(self, before: "Baseline") -> None:
        """Give the driver's settings the values they had before any hold.

        May block: in autocommit psycopg2 sends SET.
        """
        self.autocommit = before.autocommit
        self.isolation_level = before.isolation_level
        self.readonly = before.readonly
        self.deferrable = before.deferrable
        if self.encoding != before.encoding:
            self.set_client_encoding(before.encoding)

    def retire(self) -> None:
        """Close for the pool, when nobody holds it."""
        super().close()

    def cancel(self) -> None:
        """Cancel the current command; the connection is closed at its release."""
        self._refuse_if_released()
        self.is_touched = self.is_cancelled = True
        super().cancel()

    def set_session(self, *args: Any, **kwargs: Any) -> None:
        """Set transaction characteristics, as psycopg2 does."""
        self.about_to_change()
        super().set_session(*args, **kwargs)
        self.note_autocommit()

    def set_isolation_level(self, level: int | None) -> None:
        """Set the isolation level, as psycopg2 does."""
        self.about_to_change()
        super().set_isolation_level(level)
        self.note_autocommit()

    def set_client_encoding(self, encoding: str) -> None:
        """Set the client encoding, as psycopg2 does."""
        self.about_to_change()
        super().set_client_encoding(encoding)

    def reset(self) -> None:
        """Return the session to its defaults, as psycopg2 does."""
        self.about_to_change()
        super().reset()

    def tpc_begin(self, xid: Any) -> None:
        """Begin a two-phase transaction, as psycopg2 does."""
        self.about_to_change()
        super().tpc_begin(xid)

    def tpc_commit(self, *args: Any) -> None:
        """Commit a two-phase transaction, as psycopg2 does."""
        self._make_way_for_xid(args)
        super().tpc_commit(*args)

    def tpc_rollback(self, *args: Any) -> None:
        """Roll a two-phase transaction back, as psycopg2 does."""
        self._make_way_for_xid(args)
        super().tpc_rollback(*args)

    def tpc_recover(self) -> Any:
        """Return the pending two-phase transactions, as psycopg2 does."""
        self._make_way_for_xid((None,))
        return super().tpc_recover()

    def _make_way_for_xid(self, args: tuple[Any, ...]) -> None:
        if args:
            self.about_to_change()
        else:
            self._refuse_if_released()

    autocommit = _changing("autocommit")
    isolation_level = _changing("isolation_level")
    deferrable = _changing("deferrable")

    @property
    def readonly(self) -> bool | None:
        """The access mode the user chose; None for the session's default."""
        chosen: bool | None = READONLY.__get__(self)
        return None if self.is_write_ping else chosen

    @readonly.setter
    def readonly(self, value: Any) -> None:
        self.about_to_change()
        READONLY.__set__(self, value)


def _keeping_patience(
    conn: PooledConnection, dsn: str = "", *_: object
) -> contextlib.AbstractContextManager[None]:
    """Return what keeps the ``connect_timeout`` that libpq leaves to a callback."""
    if driver.get_wait_callback() is None:
        return contextlib.nullcontext()
    given = driver.parse_dsn(dsn).get("connect_timeout")
    seconds = int(given or os.environ.get("PGCONNECT_TIMEOUT") or 0)
    # As libpq takes it: two seconds at least, and zero for no limit.
    return advancing(conn, max(seconds, 2)) if seconds > 0 else contextlib.nullcontext()


@functools.cache
def pooled(
    factory: type[driver.connection] | None,
    base: type[PooledConnection] = PooledConnection,
    *below: type[driver.connection],
) -> type[PooledConnection]:
    """Return the class of a pool's connections, given the user's own class.

    Args:
        factory: the user's class, if there is one.
        base: ours.
        *below: what the user's class is to call in the place of psycopg2's.

    Raises:
        SettingsError: the two cannot be combined.
    """
    if factory is None or factory is driver.connection:
        factory, name = base, base.__name__
    else:
        name = f"Pooled{factory.__name__}"
    bases = (factory,) if issubclass(factory, base) else (base, factory)
    if len(bases) == 1 and not below:
        return bases[0]
    try:
        return type(
            name, (*bases, *below), {"__slots__": ()} if factory is base else {}
        )
    except TypeError as error:  # as when both have slots
        raise SettingsError(
            f"kwargs: connection_factory: {factory!r} cannot be a base of the pool's "
            f"connections: {error}"
        ) from error

"""The connection to a pooler that may choose another server for each transaction.

PgBouncer in transaction mode, RDS Proxy. What SET leaves behind outside of a
transaction stays on some server and meets some other client, so this connection
refuses what psycopg2 would do by SET or RESET. In autocommit that is the choice
of an isolation level or access mode: else they are words of BEGIN.
"""

from typing import TYPE_CHECKING, Any

from psycopg2 import NotSupportedError
from psycopg2 import extensions as driver

from pgdbpool.endpoint.connection import PooledConnection

if TYPE_CHECKING:
    from pgdbpool.endpoint.session import Baseline

CHARACTERISTICS = ("isolation_level", "readonly", "deferrable")

# PgBouncer hands on what the server said of these when PgBouncer logged in first.
OUTDATED = frozenset({"in_hot_standby", "default_transaction_read_only"})


def _setting(name: str) -> property:
    """Return the attribute, whose setter goes through `set_session`."""
    inherited = getattr(PooledConnection, name)

    def change(self: "MultiplexedConnection", value: Any) -> None:
        if name == "autocommit":
            value = bool(value)
        # None means the default here, and no change there.
        self.set_session(**{name: "default" if value is None else value})

    return property(inherited.__get__, change, doc=inherited.__doc__)


def _is_default(value: object) -> bool:
    return value is None or str(value).lower() == "default"


class MultiplexedConnection(PooledConnection):
    """A pooled connection that sends nothing that outlives its transaction."""

    __slots__ = ()

    autocommit = _setting("autocommit")
    isolation_level = _setting("isolation_level")
    readonly = _setting("readonly")
    deferrable = _setting("deferrable")

    def set_session(
        self,
        isolation_level: Any = None,
        readonly: Any = None,
        deferrable: Any = None,
        autocommit: Any = None,
    ) -> None:
        """Set transaction characteristics, as psycopg2 does, but not in autocommit.

        Raises:
            psycopg2.NotSupportedError: psycopg2 would SET them for the session.
        """
        given = dict(
            zip(CHARACTERISTICS, (isolation_level, readonly, deferrable), strict=True)
        )
        given = {name: value for name, value in given.items() if value is not None}
        if autocommit if autocommit is not None else self.autocommit:
            self._refuse_in_autocommit(given)
            if self.autocommit:
                return
            # Apart, because together psycopg2 would SET what is the default.
            super().set_session(**given)
            given = {}
        super().set_session(autocommit=autocommit, **given)

    def set_isolation_level(self, level: int | None) -> None:
        """Set the isolation level, as psycopg2 does."""
        if level == driver.ISOLATION_LEVEL_AUTOCOMMIT:
            self._refuse_in_autocommit({})
        super().set_isolation_level(level)

    def _refuse_in_autocommit(self, given: dict[str, Any]) -> None:
        for name in CHARACTERISTICS:
            if not _is_default(given.get(name, getattr(self, name))):
                self._refuse(f"{name} in autocommit", "name it in a BEGIN of your own")

    def set_client_encoding(self, encoding: str) -> None:
        """Accept the encoding that there is.

        Raises:
            psycopg2.NotSupportedError: it is another one.
        """
        if "".join(filter(str.isalnum, encoding)).upper() != self.encoding:
            instead = "give client_encoding in the DSN or in kwargs"
            self._refuse("set_client_encoding()", instead)

    def reset(self) -> None:
        """Raise NotSupportedError: it would reset a session that others share."""
        self._refuse("reset()", "use rollback()")

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new cursor.

        Raises:
            psycopg2.NotSupportedError: it is to outlive its transaction.
        """
        if kwargs.get("withhold") or any(args[2:3]):
            self._refuse("a cursor WITH HOLD", "read it within its transaction")
        return super().cursor(*args, **kwargs)

    def get_parameter_status(self, parameter: str) -> str | None:
        """Return what the server reported; None for its role, which can be outdated."""
        return (
            None if parameter in OUTDATED else super().get_parameter_status(parameter)
        )

    def _refuse(self, what: str, instead: str) -> None:
        self._refuse_if_released()
        raise NotSupportedError(
            f"via='transaction-pooler': {what} would change a session that belongs "
            f"to the pooler's other clients, too; {instead}"
        )

    def restore(self, before: "Baseline") -> None:
        """Give the driver's settings the values they had before any hold. No I/O."""
        # Out of autocommit first: there they are words of BEGIN and nothing is sent.
        self.autocommit = False
        self.isolation_level = before.isolation_level
        self.readonly = before.readonly
        self.deferrable = before.deferrable
        self.autocommit = before.autocommit

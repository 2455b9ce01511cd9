"""The errors of pgdbpool, each of which says why.

The driver's own exceptions are never among them: they pass through untouched.
Every message is a status report: which pool, how long, how full, the last
cause, what to change; never a secret.
"""

try:
    import psycopg2
    import psycopg2.pool
except ImportError:
    raise ImportError(
        "pgdbpool needs the driver psycopg2: pip install 'pgdbpool[binary]' "
        "(ready-made) or 'pgdbpool[c]' (compiled against your libpq)"
    ) from None


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, out of range or contradictory."""


class ConnectionReleased(psycopg2.InterfaceError):
    """A connection was used after its hold had ended."""


class CommitUnknown(psycopg2.OperationalError, psycopg2.pool.PoolError):
    """The session was lost or cancelled during COMMIT: committed or not.

    Its ``__cause__`` is the driver's error.
    """


class CredentialError(psycopg2.OperationalError):
    """A provider of the password fails, or what it answers is of no use.

    No login was tried. It is the ``__cause__`` of an `EndpointDown`; its own is
    what the provider raised.
    """


class PoolError(psycopg2.OperationalError, psycopg2.pool.PoolError):
    """No connection can be had; the base of what an acquire raises."""


class PoolClosed(PoolError):
    """The pool is closed, or not open yet."""


class TooManyRequests(PoolError):
    """The line already holds ``max_waiting`` waiters."""


class NestedCheckout(PoolError):
    """Every holder is itself waiting for a connection of the same pool."""


class PoolTimeout(PoolError):
    """No connection could be had within the timeout."""


class PoolExhausted(PoolTimeout):
    """All connections are in use; the message names the oldest hold."""


class EndpointDown(PoolTimeout):
    """The server cannot be reached; the message has what it last said.

    Its ``__cause__`` is the last error of the driver.
    """


class AuthenticationFailed(EndpointDown):
    """The server refuses the login (SQLSTATE class 28)."""


class TooManyConnections(EndpointDown):
    """The server has no connection to spare (SQLSTATE 53300)."""


class NoPrimary(PoolTimeout):
    """No endpoint is a primary; the message has what each is, and since when."""


class NoStandby(PoolTimeout):
    """No standby may serve, and ``strict=True`` leaves the primary out."""

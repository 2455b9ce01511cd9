"""pgdbpool: the connection pool that makes PostgreSQL effortless behind WSGI."""

import pgdbpool.errors  # noqa: F401 - first: it says how to install the driver
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.errors import (
    AuthenticationFailed,
    CommitUnknown,
    ConnectionReleased,
    EndpointDown,
    NestedCheckout,
    NoPrimary,
    PoolClosed,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    SettingsError,
    TooManyConnections,
    TooManyRequests,
)
from pgdbpool.pool import ConnectionPool
from pgdbpool.settings import Settings
from pgdbpool.wsgi import PoolMiddleware

__version__ = "2.0.0a1"

__all__ = [
    "AuthenticationFailed",
    "CommitUnknown",
    "ConnectionPool",
    "ConnectionReleased",
    "EndpointDown",
    "NestedCheckout",
    "NoPrimary",
    "PoolClosed",
    "PoolError",
    "PoolExhausted",
    "PoolMiddleware",
    "PoolTimeout",
    "PooledConnection",
    "Settings",
    "SettingsError",
    "TooManyConnections",
    "TooManyRequests",
]

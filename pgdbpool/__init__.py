"""pgdbpool: the connection pool that makes PostgreSQL effortless behind WSGI."""

import pgdbpool.errors  # first: it says how to install the driver
import pgdbpool.uwsgi  # noqa: F401 - hears of its forks
from pgdbpool.auth.provider import Credential
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.snapshot import EndpointState
from pgdbpool.endpoint.standing import Role
from pgdbpool.errors import (
    AuthenticationFailed,
    CommitUnknown,
    ConnectionReleased,
    CredentialError,
    EndpointDown,
    NestedCheckout,
    NoPrimary,
    NoStandby,
    PoolClosed,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    SettingsError,
    TooManyConnections,
    TooManyRequests,
)
from pgdbpool.limit import SharedLimit
from pgdbpool.pool import ConnectionPool
from pgdbpool.settings import Settings
from pgdbpool.snapshot import Holder, PoolHealth, PoolState
from pgdbpool.wsgi import PoolMiddleware, ReadYourWrites

__version__ = "2.0.0a1"

__all__ = [
    "AuthenticationFailed",
    "CommitUnknown",
    "ConnectionPool",
    "ConnectionReleased",
    "Credential",
    "CredentialError",
    "EndpointDown",
    "EndpointState",
    "Holder",
    "NestedCheckout",
    "NoPrimary",
    "NoStandby",
    "PoolClosed",
    "PoolError",
    "PoolExhausted",
    "PoolHealth",
    "PoolMiddleware",
    "PoolState",
    "PoolTimeout",
    "PooledConnection",
    "ReadYourWrites",
    "Role",
    "Settings",
    "SettingsError",
    "SharedLimit",
    "TooManyConnections",
    "TooManyRequests",
]

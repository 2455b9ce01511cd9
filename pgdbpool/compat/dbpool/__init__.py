"""The API of pgdbpool 1.x: ``from pgdbpool.compat import dbpool as pool``."""

import threading

from pgdbpool.compat.dbpool.connection import Connection, conn_iter
from pgdbpool.compat.dbpool.errors import (
    DBConnectionError,
    DBOfflineError,
    DBQueryError,
    UnconfiguredGroupError,
)
from pgdbpool.compat.dbpool.handler import Handler
from pgdbpool.compat.dbpool.query import Query

# 1.x locked it; here it is for code that uses it as a lock of its own.
global_lock = threading.Lock()

__all__ = [
    "Connection",
    "DBConnectionError",
    "DBOfflineError",
    "DBQueryError",
    "Handler",
    "Query",
    "UnconfiguredGroupError",
    "conn_iter",
    "global_lock",
]

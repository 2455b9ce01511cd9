"""The configuration of 1.x's first example: one database, two groups."""

import os

config = {
    "type": "threaded",
    "db": {
        "host": os.environ.get("SHOP_HOST", "localhost"),
        "name": os.environ.get("SHOP_NAME", "myapp_db"),
        "user": os.environ.get("SHOP_USER", "myapp_user"),
        "pass": os.environ["PSQL_PASSWORD"],
        "ssl": "prefer",
        "connect_timeout": 30,
        "connection_retry_sleep": 1,
        "query_timeout": 30000,
        "session_tmp_buffer": 128,
    },
    "groups": {
        "default": {"connection_count": 10, "autocommit": True},
        "transactions": {"connection_count": 5, "autocommit": False},
    },
}

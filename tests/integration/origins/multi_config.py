"""The configuration of 1.x for several servers: a primary and a replica."""

import os

_SERVER = {
    "name": os.environ["SHOP_NAME"],
    "user": os.environ["SHOP_USER"],
    "pass": os.environ["PSQL_PASSWORD"],
    "ssl": "prefer",
    "connect_timeout": 30,
    "query_timeout": 12000,
    "session_tmp_buffer": 256,
}

config = {
    "type": "threaded",
    "db": [
        {"host": os.environ["SHOP_PRIMARY"], **_SERVER},
        {"host": os.environ["SHOP_REPLICA"], **_SERVER},
    ],
    "groups": {
        "read_pool": {"connection_count": 15, "autocommit": True},
        "write_pool": {"connection_count": 10, "autocommit": False},
    },
}

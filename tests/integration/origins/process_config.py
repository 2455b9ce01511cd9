"""The configuration of 1.x for servers whose processes have one thread."""

import os

config = {
    "type": "non-threaded",
    "db": {
        "host": os.environ["SHOP_HOST"],
        "name": os.environ["SHOP_NAME"],
        "user": os.environ["SHOP_USER"],
        "pass": os.environ["PSQL_PASSWORD"],
        "ssl": "prefer",
    },
    "groups": {"worker_pool": {"connection_count": 5, "autocommit": True}},
}

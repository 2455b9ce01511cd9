"""What `test_herd` runs in each of its processes: a full pool, through a restart.

`python -m tests.chaos.crowd DSN SIZE` says on its standard output, one line each, that
its pool is full, and after the line that it then reads, how it became full again.
"""

import json
import sys
import time

from pgdbpool import ConnectionPool
from tests.waiting import until

LONGEST = 40.0


def main(dsn: str, size: int) -> None:
    """Fill a pool, wait for a line, and fill it again with other sessions."""
    with ConnectionPool(dsn, min_size=size, max_size=size, grace=None) as pool:
        pool.wait(LONGEST)
        say({"opened": pool.get_stats()["connections_num"]})
        sys.stdin.readline()
        began = time.monotonic()
        until(lambda: is_full(pool, size), LONGEST)
        stats = pool.pop_stats()
        say(
            {
                "tried": stats["connections_num"] - size,
                "failed": stats["connections_errors"],
                "seconds": time.monotonic() - began,
            }
        )
        sys.stdin.readline()


def is_full(pool: ConnectionPool, size: int) -> bool:
    """Return whether all of a pool is idle again, and was opened since."""
    stats = pool.get_stats()
    opened = stats["connections_num"] - stats["connections_errors"]
    return stats["pool_available"] == size and opened >= 2 * size


def say(findings: dict[str, float]) -> None:
    """Write one line, at once."""
    sys.stdout.write(f"{json.dumps(findings)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

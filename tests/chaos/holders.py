"""Holders that notice when something is wrong with what they get."""

import gc
from weakref import WeakKeyDictionary

from pgdbpool import ConnectionPool, PooledConnection

_owners: WeakKeyDictionary[PooledConnection, object] = WeakKeyDictionary()


def in_a_block(pool: ConnectionPool) -> None:
    """Make one transaction."""
    with pool.connection() as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")


def hold_alone(pool: ConnectionPool, errors: list[str]) -> None:
    """Make a transaction; complain if the connection is somebody else's as well."""
    with pool.connection() as conn, conn.cursor() as cur:
        me = object()
        if _owners.setdefault(conn, me) is not me:
            errors.append("two holders")
        cur.execute("SELECT pg_backend_pid()")
        if cur.fetchone() != (conn.info.backend_pid,):
            errors.append("the answer of another query")
        if _owners.pop(conn, None) is not me:
            errors.append("two holders")


def fails_to_serve(pool: ConnectionPool) -> str:
    """Return the error that the next holder gets, empty if none."""
    try:
        in_a_block(pool)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__name__}: {error}"
    return ""


def is_whole(pool: ConnectionPool) -> bool:
    """Return whether all connections can be held, after upkeep; else collect."""
    pool._keep_up()
    if can_be_held(pool):
        return True
    gc.collect()
    return False


def can_be_held(pool: ConnectionPool) -> bool:
    """Return whether all connections can be held."""
    if pool.get_stats()["requests_waiting"]:
        return False
    held: list[PooledConnection] = []
    try:
        held.extend(pool.getconn(0.5) for _ in range(pool.max_size))
    except Exception:  # noqa: BLE001 - it is not, for whatever reason
        return False
    finally:
        for conn in held:
            pool.putconn(conn)
    return True

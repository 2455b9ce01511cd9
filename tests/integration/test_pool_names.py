"""A failover by DNS: the name of the server leads to another address."""

import socket
from typing import Any

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint import names
from tests.asking import ask, held, pid
from tests.soundness import assert_at_rest
from tests.waiting import until


def test_connections_follow_the_name(
    dsn: str, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions at the old address are replaced, the one in use at its release."""

    def elsewhere(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(names, "INTERVAL", 0.05)
    monkeypatch.setattr("pgdbpool.upkeep.INTERVAL", 0.05)
    by_name = make_dsn(dsn, host="localhost", port=server.port)
    with ConnectionPool(by_name, min_size=2, max_size=2) as pool:
        pool.wait()
        first = held(pool)
        assert held(pool) == first
        with pool.connection() as conn:
            busy = pid(conn)
            monkeypatch.setattr(names.socket, "getaddrinfo", elsewhere)
            until(lambda: pool._keep_up() or pool.get_stats()["connections_num"] > 2)
            assert ask(conn, "SELECT 1") == 1
            monkeypatch.undo()
        until(lambda: held(pool) != busy)
        assert_at_rest(pool)

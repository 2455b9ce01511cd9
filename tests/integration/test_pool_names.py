"""Names that lead to several servers, or from one moment on to another."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import EmbeddedPostgres, free_port
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.endpoint import names
from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.host import ANSWERS
from pgdbpool.endpoint.standing import Role
from tests.asking import ask, held, pid
from tests.proxy import Proxy
from tests.soundness import assert_at_rest
from tests.waiting import until


def test_connections_follow_the_name(
    dsn: str, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions at the old address are replaced, the one in use at its release."""

    def elsewhere(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr("pgdbpool.whereabouts.INTERVAL", 0.05)
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


class Name:
    """The name `localhost`, and where it leads.

    Attributes:
        port: the one port of all its addresses.
        asked: how often it was resolved.
        addresses: what it is resolved to; None: no resolver answers.
        proxies: who listens at which address, and leads to a server.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.port = free_port()
        self.asked = 0
        self.addresses: frozenset[str] | None = frozenset()
        self.proxies: dict[str, Proxy] = {}
        self._stack = stack

    def add(self, address: str, server: EmbeddedPostgres) -> None:
        """Let it lead to a server by one more address."""
        proxy = Proxy(server.port, at=(address, self.port))
        self.proxies[address] = self._stack.enter_context(proxy)
        self.addresses = (self.addresses or frozenset()) | {address}

    def resolve(self, name: str) -> frozenset[str]:
        """Do what the resolver does."""
        assert name == "localhost"
        self.asked += 1
        if self.addresses is None:
            raise socket.gaierror("the resolver is down")
        return self.addresses

    def dsn(self, **more: object) -> str:
        """Return the DSN of a pool on it."""
        return make_dsn(
            None,
            host="localhost",
            port=self.port,
            dbname="postgres",
            user="postgres",
            connect_timeout=2,
            **more,
        )


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Iterator[Name]:
    """Give a name that leads nowhere yet; libpq finds 127.0.0.1 by it."""
    monkeypatch.setattr("pgdbpool.whereabouts.INTERVAL", 0.05)
    with contextlib.ExitStack() as stack:
        name = Name(stack)
        monkeypatch.setattr(names, "addresses", name.resolve)
        yield name


@pytest.fixture
def cluster(breakable: Cluster) -> Cluster:
    """Give a primary and two standbys to one test."""
    ask_server(breakable.primary, "CREATE TABLE IF NOT EXISTS written (id int)")
    return breakable


def tended(pool: ConnectionPool, number: int) -> None:
    """Let time's work be done until a pool has so many endpoints, all known."""

    def is_so() -> bool:
        pool._keep_up()
        known = [e for e in pool.endpoints if e.role is not None and e.lag is not None]
        return len(known) == len(pool.endpoints) == number

    until(is_so, message=f"there are {number} endpoints: {pool!r}")


def serving(pool: ConnectionPool, statement: str = "SELECT 1", **how: bool) -> str:
    """Have a block say something; return at which address it was heard."""
    with pool.connection(**how) as conn:
        ask(conn, statement)
        address = names.address_of(conn)
        assert address is not None
        return address


def until_at(pool: ConnectionPool, address: str) -> PooledConnection:
    """Acquire until it is at an address."""
    while True:
        conn = pool.getconn()
        if names.address_of(conn) == address:
            return conn
        pool.putconn(conn)


def test_a_name_of_three_servers_finds_the_primary_and_spreads_reads(
    name: Name, cluster: Cluster
) -> None:
    """Also where libpq, which takes the first address, finds a standby."""
    primary, first, second = cluster.primary, *cluster.standbys
    for address, server in (
        ("127.0.0.1", first),
        ("127.0.0.2", primary),
        ("127.0.0.3", second),
    ):
        name.add(address, server)
    with ConnectionPool(name.dsn(), min_size=1, max_size=2) as pool:
        pool.wait()
        tended(pool, 3)
        assert {e.name: e.role for e in pool.endpoints} == {
            f"localhost(127.0.0.1):{name.port}": Role.STANDBY,
            f"localhost(127.0.0.2):{name.port}": Role.PRIMARY,
            f"localhost(127.0.0.3):{name.port}": Role.STANDBY,
        }
        assert {serving(pool) for _ in range(5)} == {"127.0.0.2"}
        until(
            lambda: (
                {serving(pool, read_only=True) for _ in range(40)}
                == {"127.0.0.1", "127.0.0.3"}
            )
        )
        assert_at_rest(pool)


def test_the_first_who_write_find_the_primary(name: Name, cluster: Cluster) -> None:
    """Though libpq finds a standby first: nobody is served before it is known."""
    name.add("127.0.0.1", cluster.standbys[0])
    name.add("127.0.0.2", cluster.primary)
    name.add("127.0.0.3", cluster.standbys[1])
    for _ in range(3):
        with (
            ConnectionPool(name.dsn(), max_size=4) as pool,
            ThreadPoolExecutor(8) as executor,
        ):
            told = "INSERT INTO written VALUES (1)"
            found = [executor.submit(serving, pool, told) for _ in range(8)]
            assert {future.result() for future in found} == {"127.0.0.2"}


def test_two_addresses_of_one_server_remain_one(
    name: Name, server: EmbeddedPostgres
) -> None:
    """The limit is for the server, and no connection is given up."""
    name.add("127.0.0.1", server)
    name.add("127.0.0.2", server)
    with ConnectionPool(name.dsn(), min_size=1, max_size=2) as pool:
        pool.wait()
        backend = held(pool)
        (endpoint,) = pool._roster.endpoints
        both = {"127.0.0.1", "127.0.0.2"}
        until(lambda: pool._keep_up() or endpoint.addresses == both)
        assert held(pool) == backend
        (state,) = pool.endpoints
        assert (state.name, state.max_size) == (f"localhost:{name.port}", 2)
        assert_at_rest(pool)


def test_the_resolver_flips_to_the_new_primary(name: Name, cluster: Cluster) -> None:
    """Row 35: writers are there at the first answer, long before the old is let go."""
    name.add("127.0.0.1", cluster.primary)
    with ConnectionPool(name.dsn(), min_size=1, max_size=2) as pool:
        pool.wait()
        assert serving(pool, "INSERT INTO written VALUES (1)") == "127.0.0.1"
        cluster.switch_over()
        name.addresses = frozenset()
        name.add("127.0.0.2", cluster.primary)
        until(lambda: pool._keep_up() or serving(pool) == "127.0.0.2")
        assert serving(pool, "INSERT INTO written VALUES (2)") == "127.0.0.2"
        tended(pool, 1)
        assert serving(pool, "INSERT INTO written VALUES (3)") == "127.0.0.2"
        assert pool.get_stats()["requests_errors"] == 0
        assert_at_rest(pool)


def test_who_left_the_name_is_left_when_its_holder_is_done(
    name: Name, cluster: Cluster
) -> None:
    """The statement under way at it goes on, and its connection can be put back."""
    name.add("127.0.0.1", cluster.standbys[0])
    name.add("127.0.0.2", cluster.standbys[1])
    with ConnectionPool(name.dsn(), min_size=1, max_size=2) as pool:
        pool.wait()
        tended(pool, 2)
        conn = until_at(pool, "127.0.0.2")
        name.addresses = frozenset({"127.0.0.1"})
        until(lambda: pool._keep_up() or not pool._roster.monitor.endpoints[1:])
        assert ask(conn, "SELECT 1") == 1
        pool.putconn(conn)
        tended(pool, 1)
        assert conn.closed
        assert serving(pool) == "127.0.0.1"
        assert_at_rest(pool)


def test_a_resolver_that_is_down_costs_nothing(
    name: Name, server: EmbeddedPostgres
) -> None:
    """Where the servers were, they are."""
    name.add("127.0.0.1", server)
    with ConnectionPool(name.dsn(), min_size=1, max_size=2) as pool:
        pool.wait()
        backend = held(pool)
        name.addresses = None
        asked = name.asked
        until(lambda: pool._keep_up() or name.asked > asked + 2 * ANSWERS)
        assert held(pool) == backend
        assert_at_rest(pool)


def test_one_address_of_several_is_silent(name: Name, cluster: Cluster) -> None:
    """It costs nobody a wait once the others have answered; it joins when it speaks."""
    name.add("127.0.0.1", cluster.standbys[0])
    name.add("127.0.0.2", cluster.primary)
    name.proxies["127.0.0.1"].silence()
    with ConnectionPool(name.dsn(), min_size=1, max_size=2) as pool:
        pool.wait()
        (endpoint,) = pool._roster.endpoints
        until(lambda: pool._keep_up() or endpoint.addresses == {"127.0.0.2"})
        name.proxies["127.0.0.1"].pass_through()
        name.proxies["127.0.0.1"].cut()
        tended(pool, 2)
        assert serving(pool, read_only=True, strict=True) == "127.0.0.1"
        assert_at_rest(pool)

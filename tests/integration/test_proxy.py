"""The breakable network: what the chaos tests stand on."""

import time
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.proxy import Proxy
from tests.tls import server_context
from tests.waiting import until

pytestmark = pytest.mark.direct("is about the proxy of the tests itself")


@pytest.fixture
def proxy(server: EmbeddedPostgres) -> Iterator[Proxy]:
    """Give a proxy in front of the embedded server."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def proxy_dsn(server: EmbeddedPostgres, proxy: Proxy) -> str:
    """Give the way through the proxy to the embedded server."""
    return make_dsn(server.dsn(), port=proxy.port, connect_timeout=2)


def run(conn: connection, query: str) -> object:
    """Return the first value of a query's first row."""
    with conn.cursor() as cur:
        cur.execute(query)
        return cur.fetchone()[0]


def count(admin: connection, table: str) -> object:
    """Return how many rows a table has."""
    return run(admin, f"SELECT count(*) FROM {table}")


def test_passes_small_and_large(proxy_dsn: str, proxy: Proxy) -> None:
    """What goes in comes out, and a closed connection leaves no link."""
    conn = psycopg2.connect(proxy_dsn)
    assert run(conn, "SELECT repeat('x', 1000000)") == "x" * 1_000_000
    assert proxy.links == 1
    conn.close()
    until(lambda: proxy.links == 0, message="the link has ended")


def test_cut_resets_both_sides(proxy_dsn: str, proxy: Proxy, admin: connection) -> None:
    """A cut ends the client's session and the server's."""
    conn = psycopg2.connect(proxy_dsn)
    pid = conn.info.backend_pid
    proxy.cut()
    with pytest.raises(psycopg2.OperationalError):
        run(conn, "SELECT 1")
    assert conn.closed
    look = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
    until(lambda: run(admin, look) == 0, message="the backend has ended")
    psycopg2.connect(proxy_dsn).close()


def test_silent_network_answers_nobody(proxy_dsn: str, proxy: Proxy) -> None:
    """While it is silent, connections are accepted and nothing is ever said."""
    conn = psycopg2.connect(proxy_dsn)
    proxy.silence()
    with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
        psycopg2.connect(proxy_dsn)
    assert proxy.accepted == 2
    proxy.pass_through()
    assert run(conn, "SELECT 1") == 1
    conn.close()


def test_slow_network_delays_every_packet(proxy_dsn: str, proxy: Proxy) -> None:
    """A round trip takes the latency twice."""
    conn = psycopg2.connect(proxy_dsn)
    conn.autocommit = True
    proxy.slow(0.1)
    begin = time.monotonic()
    run(conn, "SELECT 1")
    assert time.monotonic() - begin >= 0.2
    conn.close()


def test_refusing_network_keeps_what_it_has(proxy_dsn: str, proxy: Proxy) -> None:
    """New connections are refused at once, the others live, and it can end."""
    conn = psycopg2.connect(proxy_dsn)
    proxy.refuse()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(proxy_dsn)
    assert run(conn, "SELECT 1") == 1
    proxy.pass_through()
    psycopg2.connect(proxy_dsn).close()
    conn.close()


@pytest.mark.parametrize("is_committed", [False, True])
def test_cut_around_commit_decides_what_the_server_did(
    proxy_dsn: str, proxy: Proxy, admin: connection, table: str, *, is_committed: bool
) -> None:
    """Cut before COMMIT the row is not there, cut after it the row is."""
    conn = psycopg2.connect(proxy_dsn)
    (proxy.cut_after if is_committed else proxy.cut_before)(b"COMMIT")
    with conn.cursor() as cur:
        cur.execute(f"INSERT INTO {table} (note) VALUES ('kept?')")
    with pytest.raises(psycopg2.OperationalError):
        conn.commit()
    assert conn.closed
    assert proxy.cuts == 1
    assert count(admin, table) == int(is_committed)


def test_tls_ends_at_the_proxy(server: EmbeddedPostgres) -> None:
    """A client that insists on TLS gets it, for large answers too."""
    with Proxy(server.port, tls=server_context()) as proxy:
        dsn = make_dsn(server.dsn(), port=proxy.port, sslmode="require")
        conn = psycopg2.connect(dsn)
        assert conn.info.ssl_in_use
        assert run(conn, "SELECT repeat('x', 1000000)") == "x" * 1_000_000
        conn.close()

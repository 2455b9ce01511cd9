"""Two servers that both accept writes, and neither has what the other has."""

import logging
from collections.abc import Iterator

import pytest

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.endpoint.standing import Role
from tests.asking import ask
from tests.endpoints import dsn_of, name
from tests.soundness import assert_at_rest
from tests.waiting import until

Mesh = tuple[EmbeddedPostgres, EmbeddedPostgres]


@pytest.fixture
def mesh(
    embedded: EmbeddedPostgres, private_server: EmbeddedPostgres
) -> Iterator[Mesh]:
    """Give two independent servers, each with an empty table."""
    servers = embedded, private_server
    for server in servers:
        ask_server(server, "CREATE TABLE meshed (port int)")
    yield servers
    for server in servers:
        ask_server(server, "DROP TABLE meshed")


def write(pool: ConnectionPool) -> int:
    """Write to whoever serves, and return who did."""
    with pool.connection() as conn:
        found: int = conn.info.port
        ask(conn, "INSERT INTO meshed VALUES (%s)", found)
        return found


def has_met_both(pool: ConnectionPool) -> bool:
    """Return whether both have said that they are primaries."""
    return all(
        one.role is Role.PRIMARY and one.timeline is not None for one in pool.endpoints
    )


def written(server: EmbeddedPostgres) -> list[int]:
    """Return what a server has."""
    return list(ask_server(server, "SELECT array_agg(port) FROM meshed") or ())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what an operator was told."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def test_any_writes_to_each_of_two_primaries_and_nobody_is_warned(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """As a group of pgdbpool 1.x does: in turns, and what is written stays there."""
    dsn = dsn_of(*mesh, target_session_attrs="any")
    with ConnectionPool(dsn, balance="round_robin") as pool:
        write(pool)
        until(lambda: has_met_both(pool), message="both said that they are primaries")
        served = [write(pool) for _ in range(10)]
        assert_at_rest(pool)
    for server in mesh:
        assert served.count(server.port) == 5
        assert set(written(server)) == {server.port}
    assert warnings(caplog) == []


def test_without_any_one_of_two_primaries_is_written_to_and_the_other_told_of(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """And the warning is true: the other has nothing."""
    with ConnectionPool(dsn_of(*mesh)) as pool:
        write(pool)
        until(lambda: has_met_both(pool), message="both said that they are primaries")
        before = {server.port: written(server) for server in mesh}
        served = {write(pool) for _ in range(10)}
        assert_at_rest(pool)
    (warning,) = warnings(caplog)
    (other,) = (server for server in mesh if server.port not in served)
    assert warning.startswith(f"pool {pool.name!r}: {name(other)} says it is the prim")
    assert "nothing is written to it" in warning
    assert written(other) == before[other.port]

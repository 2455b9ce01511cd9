"""The sessions of a service, as its servers show them to whoever may ask."""

import dataclasses
import itertools
import json
import os
import socket
from collections.abc import Iterator
from decimal import Decimal

import psycopg2
import pytest
from psycopg2 import extensions as driver

from pgdbpool import ConnectionPool
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.endpoint import identity
from pgdbpool.status.server import Server, _sessions
from tests.asking import ask
from tests.waiting import let_pass, until

pytestmark = pytest.mark.direct("goes by names and roles of the server's own")

ROLES = ("app", "reader")
HOSTS = ("web-1", "web-long-host-name-01")
PIDS = (99, 4194000)
TOKENS = ("045483723152.9", "045483723152.10", "")
FLOAT8 = (701,)
TEXT = (25, 1043)
LONG = "customer-portal-backend-api-production-service"


@pytest.fixture
def server(private_server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """Give a server with two roles that are nobody's superuser."""
    admin = psycopg2.connect(private_server.dsn())
    admin.autocommit = True
    for role in ROLES:
        ask(admin, f"CREATE ROLE {role} LOGIN")
    yield private_server
    ask(admin, "GRANT SELECT ON pg_stat_activity TO PUBLIC")
    for role in ROLES:
        ask(admin, f"DROP ROLE {role}")
    admin.close()


def named(server: EmbeddedPostgres, name: str, role: str = "app") -> ConnectionPool:
    """Return a pool of one connection, which goes by a name."""
    dsn = server.dsn(user=role, application_name=name)
    return ConnectionPool(dsn, max_size=1)


def names_seen(pool: ConnectionPool) -> set[str]:
    """Return by which names the sessions go that are shown."""
    with pool.connection() as conn:
        return {session.application_name for session in _sessions(conn)}


def test_the_sessions_of_another_role_are_shown(server: EmbeddedPostgres) -> None:
    """The server tells their names and no more."""
    with (
        named(server, "shop", "reader") as reader,
        named(server, "shop") as app,
        named(server, "other") as other,
    ):
        for pool in (reader, app, other):
            pool.wait()
        with app.connection() as conn:
            found = {one.is_asking: one for one in _sessions(conn)}
        assert found[True].state == "active"
        assert found[False].pid == reader.snapshot().sessions[0].backend_pid
        assert found[False].state == ""


def names_of(monkeypatch: pytest.MonkeyPatch, service: str) -> set[str]:
    """Return what the workers of a service go by, with hosts and ids of all lengths."""
    monkeypatch.delenv("PGAPPNAME", raising=False)
    names = set()
    for host, number, token in itertools.product(HOSTS, PIDS, TOKENS):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda name=host: name)
            patch.setattr(os, "getpid", lambda number=number: number)
            patch.setattr(identity, "_token", token)
            names.add(identity.application_name({}, service))
    return names


@pytest.mark.parametrize("service", ["shop", LONG, f"{LONG}-of-many-words"])
def test_workers_find_each_other_however_long_their_names(
    server: EmbeddedPostgres, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too long is cut at different places; a shorter service is another one."""
    names = names_of(monkeypatch, service)
    assert len(names) == 12
    others = {"sho/web-1/99", "shop2/web-1/99", "customer/web-1/99", "shop"} - {service}
    conns = [
        psycopg2.connect(server.dsn(application_name=name))
        for name in sorted(names | others)
    ]
    for name in names:
        with named(server, name) as pool:
            pool.wait()
            seen = names_seen(pool)
            assert seen >= names
            assert seen - names <= {"shop"}
    for conn in conns:
        conn.close()


def test_a_server_that_refuses_is_asked_once_a_minute(
    server: EmbeddedPostgres,
) -> None:
    """And the page says why nothing is shown."""
    with psycopg2.connect(server.dsn()) as admin:
        ask(admin, "REVOKE SELECT ON pg_stat_activity FROM PUBLIC")
    admin.close()
    with named(server, "shop") as pool:
        pool.wait()
        asker = Server(lambda: [pool])
        (seen,) = until(asker.look)
        assert seen.error == "InsufficientPrivilege"
        assert seen.sessions == ()
        asker._tried_at = 0.0
        assert asker.look() == [seen]
        let_pass(0.2)
        assert asker.look() == [seen]
        pool.wait()
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1


def test_whatever_the_application_makes_of_types_is_shown(
    server: EmbeddedPostgres,
) -> None:
    """A cast that it has registered for all connections is for its own queries."""
    number = driver.new_type(FLOAT8, "NUMBER", lambda text, _: text and Decimal(text))
    words = driver.new_type(TEXT, "WORDS", lambda text, _: text and text.encode())
    before = {one: driver.string_types[one] for one in (*FLOAT8, *TEXT)}
    driver.register_type(number)
    driver.register_type(words)
    try:
        with named(server, "shop") as pool, pool.connection() as conn:
            assert isinstance(ask(conn, "SELECT 1.5::float8"), Decimal)
            (session,) = _sessions(conn)
    finally:
        driver.string_types.update(before)
    assert json.loads(json.dumps(dataclasses.asdict(session)))["state"] == "active"
    assert type(session.seconds) is float

"""``pgdbpool check`` on one real server: what it finds, and what it says of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner
from psycopg2.extensions import connection, make_dsn
from psycopg2.extras import LogicalReplicationConnection

from pgdbpool import ConnectionPool
from pgdbpool.commands.group import command
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.doctor.asking import NAME
from tests.asking import ask
from tests.integration.checking import (  # noqa: F401 - fixtures
    Told,
    given_admin,
    given_shop,
    nothing_is_set,
    port_of,
)
from tests.proxy import Proxy
from tests.tls import server_context
from tests.waiting import until

pytestmark = pytest.mark.direct("the doctor asks who is behind each address")


def test_a_sound_server_is_fine(shop: str, private_server: EmbeddedPostgres) -> None:
    """Each rule has looked, and the facts are the server's."""
    told = Told(shop, "--max-size", "10")

    assert (told.status, told.troubles) == (0, {})
    (facts,) = told.endpoints
    assert facts["name"] == f"{HOST}:{private_server.port}"
    assert facts["trouble"] is facts["error"] is facts["pooler"] is None
    assert (facts["role"], facts["user"], facts["tls"]) == ("primary", "shop", "")
    assert facts["version"] // 10000 == private_server.version
    assert 0 < facts["round_trip"] < facts["connect"] < 5.0
    assert facts["max_connections"] == int(
        ask_server(private_server, "SHOW max_connections")
    )
    assert facts["client"]["connect_timeout"] == "5"
    assert facts["client"]["tcp_user_timeout"] == "20000"
    assert facts["limits"]["statement_timeout"] == 30.0
    assert len(facts["findings"]) == 13


def test_it_is_printed_for_people(shop: str) -> None:
    """One line for each server, one for the sum, one for the end."""
    result = CliRunner().invoke(command, ["check", shop])
    assert result.exit_code == 0
    assert "primary" in result.output
    assert "1 host x 1 worker x 20 connections = 20" in result.output
    assert result.output.endswith("0 wrong, 0 warnings, 14 fine\n")


@pytest.mark.parametrize("right", ["SUPERUSER", "BYPASSRLS"])
def test_a_role_that_may_too_much_is_a_warning(
    admin: connection, shop: str, right: str
) -> None:
    """It is an application's."""
    ask(admin, f"ALTER ROLE shop {right}")
    told = Told(shop)
    assert (told.status, told.troubles) == (0, {"privileges": "warning"})
    assert right in told.text("privileges").upper()


def test_a_role_whose_name_a_terminal_would_obey_is_harmless(
    admin: connection, shop: str
) -> None:
    """It is printed without that; JSON has it as it is."""
    name = "su\x1b[31mper"
    ask(admin, f'CREATE ROLE "{name}" LOGIN BYPASSRLS')
    dsn = make_dsn(shop, user=name)
    result = CliRunner().invoke(command, ["check", dsn], color=True)
    assert "\x1b" not in result.output
    assert "su?[31mper has BYPASSRLS" in result.output
    assert 'ALTER ROLE "su?[31mper" NOBYPASSRLS' in result.output
    assert Told(dsn).endpoints[0]["user"] == name


def test_limits_that_are_not_set_are_a_warning(admin: connection, shop: str) -> None:
    """By their names, and only those."""
    ask(admin, "ALTER ROLE shop RESET lock_timeout")
    told = Told(shop)
    assert (told.status, told.troubles) == (0, {"server-limits": "warning"})
    assert ": lock_timeout not set" in told.text("server-limits")


def test_a_server_that_ends_idle_sessions_is_a_warning(
    admin: connection, shop: str
) -> None:
    """As is a database that is read only by default."""
    ask(admin, "ALTER ROLE shop SET idle_session_timeout = '90s'")
    ask(admin, "ALTER ROLE shop SET default_transaction_read_only = on")
    told = Told(shop)
    assert told.troubles == {"idle-sessions": "warning", "read-only": "warning"}
    assert "for 90 s" in told.text("idle-sessions")


def test_what_the_dsn_or_a_service_file_leaves_out_is_a_warning(
    shop: str, tmp_path: Path
) -> None:
    """Beside a service file the pool sets no limits of its own."""
    assert Told(f"{shop} connect_timeout=0").troubles == {"client-limits": "warning"}
    services = tmp_path / "services"
    for limit, troubles in (
        ("", {"client-limits": "warning"}),
        ("connect_timeout=3", {}),
    ):
        lines = ["[shop]", *shop.split(), limit]
        services.write_text("\n".join(lines) + "\n")
        told = Told("service=shop", PGSERVICEFILE=str(services))
        assert (told.status, told.troubles) == (0, troubles)


def test_connections_that_do_not_fit_are_wrong(admin: connection, shop: str) -> None:
    """Row 14: into the server, or into what the role may have."""
    limit = int(ask(admin, "SHOW max_connections"))
    told = Told(shop, "--hosts", "2", "--workers", str(limit), "--threads", "1")
    assert (told.status, told.troubles) == (1, {"connections": "wrong"})
    assert f"2 hosts x {limit} workers x 1 connection = {2 * limit}" in told.text(
        "connections"
    )
    ask(admin, "ALTER ROLE shop CONNECTION LIMIT 10")
    assert Told(shop, "--max-size", "11").troubles == {"connections": "wrong"}
    assert Told(shop, "--max-size", "10").troubles == {"rolling-restart": "warning"}
    assert Told(shop, "--max-size", "5").troubles == {}


def test_what_a_role_may_not_ask_is_unknown(admin: connection, shop: str) -> None:
    """And no more than that."""
    ask(admin, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    try:
        told = Told(shop)
    finally:
        ask(admin, "GRANT EXECUTE ON FUNCTION pg_control_system() TO public")
    assert (told.status, told.troubles) == (0, {})
    assert told.endpoints[0]["system"] is None
    assert told.endpoints[0]["started"] is not None


def test_fewer_connections_than_threads_are_a_warning(shop: str) -> None:
    """The threads of a worker will wait for each other."""
    told = Told(shop, "--threads", "9", "--max-size", "8")
    assert (told.status, told.troubles) == (0, {"threads": "warning"})


@pytest.mark.parametrize(
    ("name", "given", "environ", "is_own"),
    [
        ("orders", "", {"PGDBPOOL_NAME": "orders"}, True),
        ("orders", "", {}, True),
        ("orders", "", {"PGDBPOOL_NAME": "order"}, False),
        ("o" * 70, "", {"PGDBPOOL_NAME": "o" * 70}, True),
        ("orders", "application_name=shop", {}, True),
        ("orders", "", {"PGAPPNAME": "shop"}, True),
    ],
)
def test_the_connections_of_the_service_are_not_others(
    shop: str,
    name: str,
    given: str,
    environ: dict[str, str],
    is_own: bool,  # noqa: FBT001 - a case
) -> None:
    """So it fits while it runs; but those of other names count."""
    dsn = f"{shop} {given}"
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environ.items():
            patch.setenv(variable, value)
        with ConnectionPool(dsn, min_size=3, name=name) as pool:
            pool.wait()
            (mine,) = Told(dsn).endpoints
            (other,) = Told(f"{shop} application_name=bills").endpoints
    for counted in ("in_use", "role_in_use", "database_in_use"):
        found = mine["own"], other[counted] - mine[counted]
        assert found == ((3, 3) if is_own else (0, 0))
    assert other["own"] == 0


def test_tls_is_told(private_server: EmbeddedPostgres, shop: str) -> None:
    """By its protocol; what does not leave this machine needs none."""
    with Proxy(private_server.port, tls=server_context()) as proxy:
        told = Told(make_dsn(shop, port=proxy.port, sslmode="require"))
    (facts,) = told.endpoints
    assert (told.status, told.troubles) == (0, {})
    assert (facts["tls"], facts["sslmode"]) == ("TLSv1.3", "require")
    assert facts["local"] is True


def test_the_environment_says_where_the_pool_is(
    shop: str, private_server: EmbeddedPostgres
) -> None:
    """By each of the ways that a pool has."""
    url = f"postgresql://shop@{HOST}:{private_server.port}/postgres"
    libpq = {
        "PGHOST": HOST,
        "PGPORT": str(private_server.port),
        "PGUSER": "shop",
        "PGDATABASE": "postgres",
    }
    for environ in ({"PGDBPOOL_CONNINFO": shop}, {"DATABASE_URL": url}, libpq):
        told = Told(PGDBPOOL_MAX_SIZE="7", **environ)
        assert (told.status, told.troubles) == (0, {})
        assert told.endpoints[0]["user"] == "shop"
        assert told.all["plan"]["size"] == 7


def test_an_interrupt_ends_it_at_once_and_quietly(shop: str) -> None:
    """Also while a server is silent."""
    with Proxy(port_of(shop)) as proxy:
        proxy.silence()
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from pgdbpool.cli import main; main()"
        )
        dsn = make_dsn(shop, port=proxy.port)
        process = subprocess.Popen(
            [sys.executable, "-c", program, "check", "--timeout", "60", dsn],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PGCONNECT_TIMEOUT": "60"},
        )
        until(lambda: proxy.accepted, 30.0, "the doctor connects")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30.0)
    assert (process.returncode, said) == (130, b"")


@pytest.mark.parametrize("of", ["role", "database"])
def test_what_others_have_of_a_limit_is_not_free(
    admin: connection, shop: str, private_server: EmbeddedPostgres, of: str
) -> None:
    """Row 14: of the same role, or in the same database."""
    ask(admin, "ALTER ROLE shop CONNECTION LIMIT 10")
    if of == "database":
        ask(admin, "ALTER ROLE shop CONNECTION LIMIT -1")
        # Of which the one that looks on has one too.
        ask(admin, "ALTER DATABASE postgres CONNECTION LIMIT 11")
    user = "shop" if of == "role" else "postgres"
    dsn = private_server.dsn(user=user, application_name="other")
    others = [psycopg2.connect(dsn) for _ in range(6)]
    try:
        given = {"PGDBPOOL_NAME": "orders"}
        assert Told(shop, "--max-size", "2", **given).troubles == {}
        told = Told(shop, "--max-size", "5", **given)
    finally:
        for other in others:
            other.close()
        ask(admin, "ALTER DATABASE postgres CONNECTION LIMIT -1")
    assert (told.status, told.troubles) == (1, {"connections": "wrong"})
    assert f"the {of} has 4 free" in told.text("connections")
    assert " 4 of 1" in told.tables[0]


def test_sessions_of_other_services_without_a_name_are_told(shop: str) -> None:
    """Whoever has the role could be the service; and with a name it is known."""
    with ConnectionPool(shop, min_size=5, name="reports") as pool:
        pool.wait()
        told = Told(shop, "--max-size", "2")
        named = Told(shop, "--max-size", "2", PGDBPOOL_NAME="orders")
    assert (told.status, told.troubles) == (0, {"own": "warning"})
    assert "5 taken for its own: give PGDBPOOL_NAME" in told.text("connections")
    assert "5 connections there are taken for its own" in " ".join(
        told.tables[0].split()
    )
    assert (named.troubles, named.endpoints[0]["own"]) == ({}, 0)


def test_who_receives_wal_is_no_connection(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """It has a limit of its own, max_wal_senders; also that of another role."""
    (before,) = Told(shop).endpoints
    sender = psycopg2.connect(
        private_server.dsn(), connection_factory=LogicalReplicationConnection
    )
    try:
        (after,) = Told(shop).endpoints
    finally:
        sender.close()
    assert after["in_use"] == before["in_use"]


def test_a_budget_that_is_exceeded_is_a_warning(shop: str) -> None:
    """Row 14: as gunicorn's hooks say it, and before there is gunicorn."""
    given = ("--workers", "8", "--threads", "4")
    sizes = {"PGDBPOOL_TOTAL": "40", "PGDBPOOL_MAX_SIZE": "6"}
    told = Told(shop, *given, **sizes)
    assert (told.status, told.troubles) == (0, {"budget": "warning"})
    assert "48 connections of each host exceed PGDBPOOL_TOTAL=40" in told.text("budget")
    assert Told(shop, *given, PGDBPOOL_TOTAL="40").troubles == {}
    told = Told(shop, "--max-size", "1", PGDBPOOL_TOTAL="4000")
    assert told.troubles == {"budget": "warning"}


def test_a_role_that_can_become_a_superuser_is_a_warning(
    admin: connection, shop: str
) -> None:
    """By SET ROLE, whoever it begins as."""
    ask(admin, "CREATE ROLE adm SUPERUSER; CREATE ROLE plain; GRANT plain TO shop")
    assert Told(shop).troubles == {}
    ask(admin, "ALTER ROLE plain NOINHERIT; GRANT adm TO plain")
    told = Told(shop)
    assert (told.status, told.troubles) == (0, {"privileges": "warning"})
    assert "SET ROLE adm" in told.text("privileges")


def test_a_superuser_that_begins_as_another_role_is_a_superuser(
    admin: connection, shop: str
) -> None:
    """RESET ROLE is enough."""
    ask(admin, "CREATE ROLE plain; ALTER ROLE shop SUPERUSER")
    ask(admin, "ALTER ROLE shop SET role = plain")
    assert Told(shop).troubles == {"privileges": "warning"}


def test_a_superuser_is_given_no_limits(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """But told what role to make, and that its limits are for that one."""
    del shop
    told = Told(private_server.dsn())
    assert "ALTER ROLE app SET statement_timeout" in told.advice("server-limits")
    assert "postgres" not in told.advice("server-limits")


def test_a_service_file_with_several_servers_is_a_warning(
    private_server: EmbeddedPostgres, shop: str, tmp_path: Path
) -> None:
    """A pool takes them for one; so it is called by the service's name."""
    services = tmp_path / "services"
    services.write_text(
        f"[shop]\nhost=/nonexistent,{HOST}\nport={private_server.port}\n"
        "user=shop\ndbname=postgres\nconnect_timeout=3\n"
    )
    del shop
    told = Told("service=shop", PGSERVICEFILE=str(services))
    assert (told.status, told.troubles) == (0, {"service": "warning"})
    (facts,) = told.endpoints
    assert facts["name"] == "service shop"
    assert facts["hosts"] == ["/nonexistent", HOST]
    assert facts["address"] == HOST


def test_what_stays_on_this_machine_is_told_by_its_address(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """A tunnel may begin there."""
    assert f"the way to {HOST} stays on this machine" in Told(shop).text("tls")
    by_socket = private_server.dsn(user="shop", host=str(private_server.directory))
    assert "the way to its socket" in Told(by_socket).text("tls")


def test_a_root_certificate_is_found_where_libpq_finds_it(
    shop: str, tmp_path: Path
) -> None:
    """With one, sslmode=require verifies the server's."""
    assert Told(shop).endpoints[0]["root_certificate"] is False
    usual = tmp_path / ".postgresql" / "root.crt"
    usual.parent.mkdir()
    usual.touch()
    assert Told(shop).endpoints[0]["root_certificate"] is True
    named = f"{shop} sslrootcert={tmp_path}/other.crt"
    assert Told(named).endpoints[0]["root_certificate"] is False


def test_the_doctors_own_sessions_are_nobodys(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """However many look at one server at a time, or are not quite gone."""
    doctors = [
        psycopg2.connect(private_server.dsn(user=user, application_name=NAME))
        for user in ("shop", "postgres")
    ]
    try:
        (there,) = Told(shop).endpoints
    finally:
        for doctor in doctors:
            doctor.close()
    # Only the one that looks on.
    assert (there["in_use"], there["own"]) == (1, 0)

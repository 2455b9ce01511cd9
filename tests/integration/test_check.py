"""``pgdbpool check`` on real servers: what it finds, and what it says of it."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner
from psycopg2.extensions import connection, make_dsn, parse_dsn

from pgdbpool import ConnectionPool
from pgdbpool.commands.group import command
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, free_port
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.doctor import asking
from pgdbpool.doctor.examining import NAME, examine
from pgdbpool.doctor.facts import Trouble
from pgdbpool.endpoint import names
from pgdbpool.settings import Settings
from tests.asking import ask
from tests.observer import backends, observe
from tests.pgbouncer import PgBouncer, needs_pgbouncer
from tests.proxy import Proxy
from tests.tls import server_context
from tests.unit.environments import clear
from tests.waiting import until

pytestmark = pytest.mark.direct("the doctor asks who is behind each address")

PASSWORD = f"s3cr:t@{secrets.token_hex(8)}/ '\\{secrets.token_hex(8)}"
PARTS = tuple(part for part in PASSWORD.replace("@", " ").split() if len(part) > 8)
SOUND = """
    CREATE ROLE shop LOGIN;
    ALTER ROLE shop SET statement_timeout = '30s';
    ALTER ROLE shop SET lock_timeout = '5s';
    ALTER ROLE shop SET idle_in_transaction_session_timeout = '60s';
"""


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def admin(private_server: EmbeddedPostgres) -> Iterator[connection]:
    """Give a connection of a superuser to the server with the role `shop`."""
    with observe(private_server.dsn()) as admin:
        ask(admin, SOUND)
        yield admin
        until(lambda: not backends(admin, NAME), message="the doctor has gone")


@pytest.fixture
def shop(private_server: EmbeddedPostgres, admin: connection) -> str:
    """Give the DSN of a sound application."""
    del admin
    return private_server.dsn(user="shop")


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password=PASSWORD) as server:
        yield server


def bare(server: EmbeddedPostgres) -> str:
    """Return the DSN of a server without its password."""
    given = parse_dsn(server.dsn())
    del given["password"]
    return str(make_dsn(None, **given))


def port_of(dsn: str) -> int:
    """Return the port that a DSN names."""
    return int(parse_dsn(dsn)["port"])


class Told:
    """What the command has said as JSON, and its exit status."""

    def __init__(self, *given: str, **environ: str) -> None:
        result = CliRunner().invoke(command, ["check", "--json", *given], env=environ)
        for part in (PASSWORD, *PARTS):
            assert part not in result.output
        assert "Traceback" not in result.output
        self.status = result.exit_code
        self.all: dict[str, Any] = json.loads(result.stdout)
        self.endpoints: list[dict[str, Any]] = self.all["endpoints"]

    @property
    def troubles(self) -> dict[str, str]:
        """The codes of all that is not fine, with how bad it is."""
        found = [one for place in self.endpoints for one in place["findings"]]
        return {
            one["code"]: one["severity"]
            for one in (*found, *self.all["findings"])
            if one["severity"] != "fine"
        }

    def text(self, code: str) -> str:
        """Return what the first finding of a rule says."""
        found = [one for place in self.endpoints for one in place["findings"]]
        texts = [one["text"] for one in found if one["code"] == code]
        return str(texts[0])


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
    assert len(facts["findings"]) == 12


def test_it_is_printed_for_people(shop: str) -> None:
    """One line for each server, one for the sum, one for the end."""
    result = CliRunner().invoke(command, ["check", shop])
    assert result.exit_code == 0
    assert "primary" in result.output
    assert "1 host x 1 worker x 20 connections = 20" in result.output
    assert result.output.endswith("0 wrong, 0 warnings, 13 fine\n")


@pytest.mark.parametrize("right", ["SUPERUSER", "BYPASSRLS"])
def test_a_role_that_may_too_much_is_a_warning(
    admin: connection, shop: str, right: str
) -> None:
    """It is an application's."""
    ask(admin, f"ALTER ROLE shop {right}")
    told = Told(shop)
    assert (told.status, told.troubles) == (0, {"privileges": "warning"})
    assert right in told.text("privileges").upper()


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
    found = mine["own"], other["in_use"] - mine["in_use"]
    assert found == ((3, 3) if is_own else (0, 0))
    assert other["own"] == 0


def test_a_cluster_of_three_is_fine(module_cluster: Cluster) -> None:
    """One primary, two standbys without lag."""
    told = Told(module_cluster.dsn())
    assert told.troubles == {"privileges": "warning", "server-limits": "warning"}
    assert told.status == 0
    roles = [one["role"] for one in told.endpoints]
    assert roles == ["primary", "standby", "standby"]
    assert [one["streaming"] for one in told.endpoints] == [None, True, True]
    assert len({one["system"] for one in told.endpoints}) == 1


def test_a_standby_that_is_behind_is_a_warning(breakable: Cluster) -> None:
    """With how far, and why."""
    late = breakable.standbys[0]
    ask_server(breakable.primary, "CREATE TABLE notes (note text)")
    breakable.wait_until_replayed()
    ask_server(late, "SELECT pg_wal_replay_pause()")
    until(
        lambda: ask_server(late, "SELECT pg_get_wal_replay_pause_state()") == "paused"
    )
    try:
        ask_server(
            breakable.primary, "INSERT INTO notes SELECT generate_series(1, 999)"
        )
        told = Told(breakable.dsn(), PGDBPOOL_MAX_LAG="0")
    finally:
        ask_server(late, "SELECT pg_wal_replay_resume()")
    (facts,) = [one for one in told.endpoints if one["name"] == f"{HOST}:{late.port}"]
    found = {one["code"]: one for one in facts["findings"]}
    assert facts["lag"] > 0
    assert facts["lag_bytes"] > 50_000
    assert found["lag"]["severity"] == found["replication"]["severity"] == "warning"
    assert found["replication"]["text"] == "its replaying is paused"
    assert told.status == 0


def test_a_cluster_without_its_primary_is_wrong(breakable: Cluster) -> None:
    """The standbys are examined all the same."""
    breakable.primary.stop()
    told = Told(breakable.dsn())
    assert told.status == 1
    assert told.troubles["reach"] == told.troubles["primary"] == "wrong"
    reached = [one["trouble"] for one in told.endpoints]
    assert reached == ["unreachable", None, None]
    assert {one["streaming"] for one in told.endpoints[1:]} == {False}


def test_a_standby_alone_is_for_reading(module_cluster: Cluster) -> None:
    """A warning, unless that is what is asked for."""
    dsn = module_cluster.standbys[0].dsn()
    assert Told(dsn).troubles["primary"] == "warning"
    assert "primary" not in Told(f"{dsn} target_session_attrs=standby").troubles
    told = Told(f"{dsn} target_session_attrs=read-write")
    assert (told.status, told.troubles["primary"]) == (1, "wrong")


def test_two_servers_of_their_own_are_no_cluster(
    guarded_server: EmbeddedPostgres, private_server: EmbeddedPostgres
) -> None:
    """They are two primaries as well."""
    told = Told(guarded_server.dsn(), private_server.dsn())
    assert told.status == 1
    assert told.troubles["cluster"] == told.troubles["primary"] == "wrong"


def test_one_server_by_two_names_is_a_warning(
    shop: str, private_server: EmbeddedPostgres
) -> None:
    """By its address and its socket."""
    socket = private_server.dsn(user="shop", host=str(private_server.directory))
    told = Told(shop, socket)
    assert (told.status, told.troubles) == (0, {"twice": "warning"})


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ({"password": "wrong"}, "login"),
        ({"password": f"{PASSWORD}{PASSWORD}"}, "login"),
        ({"password": None}, "login"),
        ({"user": "nobody"}, "login"),
        ({"dbname": "nothing"}, "database"),
        ({"sslmode": "require"}, "unreachable"),
    ],
)
def test_a_login_that_is_refused_is_wrong(
    guarded_server: EmbeddedPostgres, change: dict[str, Any], trouble: str
) -> None:
    """With what the server said; and no password is."""
    told = Told(make_dsn(bare(guarded_server), **{"password": PASSWORD, **change}))
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert told.endpoints[0]["trouble"] == trouble
    assert told.endpoints[0]["error"] in told.text("reach")


def test_a_password_that_is_right_is_not_shown_either(
    guarded_server: EmbeddedPostgres,
) -> None:
    """Wherever it is from."""
    for given, environ in (
        (guarded_server.dsn(), {}),
        (bare(guarded_server), {"PGPASSWORD": PASSWORD}),
        (bare(guarded_server), {"PGDBPOOL_PASSWORD": PASSWORD}),
    ):
        assert Told(given, **environ).status == 0


def test_a_provider_is_asked_as_by_a_pool(guarded_server: EmbeddedPostgres) -> None:
    """What it answers is what is logged in with."""
    for password, trouble in ((PASSWORD, None), ("wrong", Trouble.LOGIN)):
        given = {"password": lambda password=password: password}
        (facts,) = examine(Settings.of(bare(guarded_server), given), 5.0)
        assert facts.trouble is trouble


def test_a_server_without_a_place_is_told_so(admin: connection, shop: str) -> None:
    """It can be reached, so that is not what is wrong."""
    ask(admin, "ALTER ROLE shop CONNECTION LIMIT 0")
    told = Told(shop)
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert told.endpoints[0]["trouble"] == "full"


def test_nobody_at_a_port_is_wrong() -> None:
    """Said at once."""
    told = Told(f"host={HOST} port={free_port()}")
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert "Connection refused" in told.text("reach")


def test_silent_servers_are_waited_for_at_the_same_time(shop: str) -> None:
    """Three cost as much as one, and who answers is examined."""
    port = port_of(shop)
    with Proxy(port) as one, Proxy(port) as two, Proxy(port) as three:
        for proxy in (one, two, three):
            proxy.silence()
        ports = (one.port, two.port, three.port, port)
        dsns = [make_dsn(shop, port=number) for number in ports]
        begun_at = monotonic()
        told = Told(*dsns, "--timeout", "2")
        seconds = monotonic() - begun_at
    assert told.status == 1
    reached = [one["trouble"] for one in told.endpoints]
    assert reached[:3] == ["unreachable"] * 3
    assert told.endpoints[3]["role"] == "primary"
    assert seconds < 5.5


@pytest.mark.parametrize(
    "question", [b"pg_is_in_recovery()", b"pg_control_system", b"pg_settings"]
)
def test_a_server_that_is_lost_while_it_is_asked_is_silent(
    shop: str, question: bytes
) -> None:
    """What it had said before stays."""
    with Proxy(port_of(shop)) as proxy:
        proxy.cut_before(question)
        told = Told(make_dsn(shop, port=proxy.port))
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert told.endpoints[0]["trouble"] == "silent"
    assert told.endpoints[0]["round_trip"] > 0


def test_a_server_that_stops_answering_is_silent(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline holds for the questions too."""
    with Proxy(port_of(shop)) as proxy:

        def silenced(conn: connection, *given: Any) -> Any:  # noqa: ANN401 - a row
            proxy.silence()
            return asking.must(conn, *given)

        monkeypatch.setattr(asking, "row_of", silenced)
        begun_at = monotonic()
        told = Told(make_dsn(shop, port=proxy.port), "--timeout", "2")
        seconds = monotonic() - begun_at
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert told.endpoints[0]["trouble"] == "silent"
    assert "asking the server took longer than" in told.text("reach")
    assert seconds < 10.0


def test_what_is_not_postgresql_is_told_so(shop: str) -> None:
    """It has the port, and speaks another language."""
    with Proxy(port_of(shop), tls=server_context()) as proxy:
        told = Told(make_dsn(shop, port=proxy.port, sslmode="disable"))
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})


def test_tls_is_told(private_server: EmbeddedPostgres, shop: str) -> None:
    """By its protocol; what does not leave this machine needs none."""
    with Proxy(private_server.port, tls=server_context()) as proxy:
        told = Told(make_dsn(shop, port=proxy.port, sslmode="require"))
    (facts,) = told.endpoints
    assert (told.status, told.troubles) == (0, {})
    assert (facts["tls"], facts["sslmode"]) == ("TLSv1.3", "require")
    assert facts["local"] is True


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give what makes a name lead to some addresses."""

    def lead(*addresses: str) -> None:
        monkeypatch.setattr(names, "addresses", lambda _: frozenset(addresses))

    return lead


def test_the_addresses_of_a_name_are_examined(
    shop: str, private_server: EmbeddedPostgres, leads_to: Callable[..., None]
) -> None:
    """One server is one endpoint, and an address where nobody is a warning."""
    leads_to("127.0.0.1", "127.0.0.2")
    dsn = make_dsn(shop, host="localhost")
    told = Told(dsn)
    assert (told.status, told.troubles) == (0, {"addresses": "warning"})
    assert told.endpoints[0]["name"] == f"localhost:{private_server.port}"
    assert told.endpoints[0]["silent_addresses"] == ["127.0.0.2"]
    port = private_server.port
    with Proxy(port, at=("127.0.0.2", port)):
        assert Told(dsn).troubles == {}


def test_the_servers_of_a_name_are_endpoints(
    module_cluster: Cluster, leads_to: Callable[..., None]
) -> None:
    """As in a pool, and by the same names."""
    leads_to("127.0.0.1", "127.0.0.2")
    primary, standby, _ = module_cluster.servers
    with Proxy(standby.port, at=("127.0.0.2", primary.port)):
        told = Told(make_dsn(primary.dsn(), host="localhost"))
    assert [(one["name"], one["role"]) for one in told.endpoints] == [
        (f"localhost(127.0.0.1):{primary.port}", "primary"),
        (f"localhost(127.0.0.2):{primary.port}", "standby"),
    ]


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


@needs_pgbouncer
@pytest.mark.parametrize(
    ("mode", "via", "troubles"),
    [
        ("transaction", "direct", {"pooler": "wrong"}),
        ("transaction", "transaction-pooler", {}),
        ("session", "direct", {}),
        ("session", "transaction-pooler", {"pooler": "warning"}),
        ("statement", "direct", {"pooler": "wrong"}),
        ("statement", "transaction-pooler", {"pooler": "wrong"}),
    ],
)
def test_a_pooler_is_found_and_its_mode(
    private_server: EmbeddedPostgres,
    shop: str,
    mode: str,
    via: str,
    troubles: dict[str, str],
) -> None:
    """And compared with what via says."""
    for size in (2, 20):
        with PgBouncer(
            private_server, "shop", pool_mode=mode, default_pool_size=size
        ) as bouncer:
            told = Told(make_dsn(shop, port=bouncer.port), PGDBPOOL_VIA=via)
        assert told.endpoints[0]["pooler"] == mode
        assert told.troubles == troubles
        assert told.status == ("wrong" in troubles.values())


@needs_pgbouncer
def test_a_pooler_without_a_second_session_is_found(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """In transaction mode both clients get the one; else it is not known."""
    for mode, found in (("transaction", "transaction"), ("session", "unknown")):
        with PgBouncer(
            private_server, "shop", pool_mode=mode, default_pool_size=1
        ) as bouncer:
            told = Told(make_dsn(shop, port=bouncer.port))
        assert told.endpoints[0]["pooler"] == found


@needs_pgbouncer
def test_what_a_pooler_refuses_is_told(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """A parameter of the DSN; and its own database is no server."""
    with PgBouncer(private_server, "shop", admin_users="shop") as bouncer:
        dsn = make_dsn(shop, port=bouncer.port)
        told = Told(f"{dsn} options='-c statement_timeout=1s'")
        assert told.endpoints[0]["trouble"] == "parameter"
        told = Told(make_dsn(dsn, dbname="pgbouncer"))
        assert told.endpoints[0]["trouble"] == "strange"
        assert told.status == 1


@needs_pgbouncer
def test_the_doctor_leaves_nothing_in_the_sessions_of_others(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """What it asked behind a pooler is over with its transaction."""
    with PgBouncer(private_server, "shop", default_pool_size=1) as bouncer:
        dsn = make_dsn(shop, port=bouncer.port)
        assert Told(dsn).status == 1
        with observe(dsn) as client:
            assert ask(client, "SHOW statement_timeout") == "30s"
            assert ask(client, "SELECT txid_current_if_assigned()") is None

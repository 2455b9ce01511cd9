"""``pgdbpool check`` where a server cannot be asked: why, and no secret."""

import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, free_port
from pgdbpool.doctor import asking
from pgdbpool.doctor.examining import examine
from pgdbpool.doctor.facts import Trouble
from pgdbpool.settings import Settings
from tests.asking import ask
from tests.integration.checking import (  # noqa: F401 - fixtures
    PARTS,
    PASSWORD,
    Told,
    bare,
    given_admin,
    given_guarded_server,
    given_leads_to,
    given_shop,
    nothing_is_set,
    port_of,
)
from tests.proxy import Proxy
from tests.tls import server_context

pytestmark = pytest.mark.direct("the doctor asks who is behind each address")


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ({"password": "wrong"}, "login"),
        ({"password": f"{PASSWORD}{PASSWORD}"}, "login"),
        ({"password": None}, "login"),
        ({"user": "nobody"}, "login"),
        ({"dbname": "nothing"}, "database"),
        ({"sslmode": "require"}, "tls"),
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
    assert reached[:3] == ["silent"] * 3
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


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PARTS[0]}@h/db",
        f"postgresql://u:{PARTS[0]}{PARTS[1]}{PARTS[0]}@host.example.com/database",
        f"u:{PARTS[0]}@h",
    ],
)
def test_a_url_in_place_of_a_database_is_not_repeated(
    guarded_server: EmbeddedPostgres, url: str
) -> None:
    """Row 38: the server says that it does not exist, and cuts it if it is long."""
    dsn = make_dsn(bare(guarded_server), password=PASSWORD)
    place = dsn.replace("dbname=postgres", "")
    for told in (Told(place, PGDATABASE=url), Told(make_dsn(dsn, dbname=url))):
        assert told.endpoints[0]["trouble"] == "database"
        assert "does not exist" in told.text("reach")
        assert "********" in told.text("reach")


@pytest.mark.parametrize(
    "rest", ["?sslmode=x/{}@{}/db", "?gssencmode={}/x@{}/db", "/b?sslmode={}@{}/db"]
)
def test_a_password_that_tears_its_url_is_not_repeated(shop: str, rest: str) -> None:
    """Row 38: libpq would take a part of it for a parameter, and quote that."""
    place = f"{HOST}:{port_of(shop)}"
    told = Told(f"postgresql://user:12{rest.format(PARTS[0], place)}")
    assert (told.status, told.troubles) == (1, {"settings": "wrong"})
    assert "percent-encode the credentials" in told.text("settings")


def test_a_frozen_server_is_silent(private_server: EmbeddedPostgres, shop: str) -> None:
    """Its kernel takes the connection, and nobody answers."""
    private_server.freeze()
    try:
        told = Told(shop, "--timeout", "2")
    finally:
        private_server.thaw()
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert told.endpoints[0]["trouble"] == "silent"


@pytest.fixture
def http() -> Iterator[int]:
    """Give the port of a server that speaks HTTP."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(1024)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(30.0)


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
def test_a_port_that_speaks_http_is_strange(http: int, sslmode: str) -> None:
    """It can be reached, so nobody is sent to look at the firewall."""
    told = Told(f"host={HOST} port={http} sslmode={sslmode}")
    assert told.endpoints[0]["trouble"] == "strange"
    assert "firewall" not in told.advice("reach")


@pytest.mark.parametrize("more", ["sslmode=require", "gssencmode=require"])
def test_a_server_that_encrypts_otherwise_is_told_so(shop: str, more: str) -> None:
    """It runs and listens; what does not fit is how it is spoken to."""
    told = Told(f"{shop} {more}")
    assert told.endpoints[0]["trouble"] == "tls"
    assert "listen_addresses" not in told.advice("reach")


def test_a_parameter_that_libpq_refuses_is_told_so(shop: str) -> None:
    """No server was asked."""
    told = Told(f"{shop} sslmode=sometimes")
    assert told.endpoints[0]["trouble"] == "parameter"


def test_an_address_that_refuses_the_login_is_wrong(
    shop: str, guarded_server: EmbeddedPostgres, leads_to: Callable[..., None]
) -> None:
    """Where libpq meets it first, it asks no other."""
    leads_to("127.0.0.1", "127.0.0.2")
    with Proxy(guarded_server.port, at=("127.0.0.2", port_of(shop))):
        told = Told(make_dsn(shop, host="localhost"))
    assert (told.status, told.troubles) == (1, {"addresses": "wrong"})
    (facts,) = told.endpoints
    assert facts["silent_addresses"] == []
    assert list(facts["refusing_addresses"]) == ["127.0.0.2"]
    assert "127.0.0.2, which refuses: " in told.text("addresses")


def test_who_refuses_is_told_before_who_is_not_there(
    guarded_server: EmbeddedPostgres, leads_to: Callable[..., None]
) -> None:
    """Nothing is wrong with the network."""
    leads_to("127.0.0.1", "127.0.0.2")
    port = free_port()
    dsn = make_dsn(bare(guarded_server), host="localhost", port=port)
    with Proxy(guarded_server.port, at=("127.0.0.2", port)):
        told = Told(dsn)
    (facts,) = told.endpoints
    assert (facts["name"], facts["trouble"]) == (f"localhost:{port}", "login")

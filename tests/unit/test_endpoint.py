"""One server: what is added to its parameters, what it is called, its limits."""

from typing import Any

import psycopg2
import pytest

from pgdbpool import PooledConnection
from pgdbpool.endpoint.connection import pooled
from pgdbpool.endpoint.endpoint import Endpoint, endpoint_name, safe_params
from pgdbpool.settings import Settings
from tests.unit.scripted_roster import ScriptedRoster


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGCONNECT_TIMEOUT")
    for name in names:
        monkeypatch.delenv(name, raising=False)


def limit(**params: str) -> float:
    """Return how long a connect with these parameters may take."""
    return Endpoint(params, {}, Settings.of("", {})).connect_limit


def test_dead_peers_are_noticed_unless_the_user_said_otherwise() -> None:
    """What is added is what was left out."""
    params = safe_params({"host": "db1", "keepalives": "0", "connect_timeout": "9"})

    assert params.pop("keepalives") == "0"
    assert params.pop("connect_timeout") == "9"
    assert params == {
        "host": "db1",
        "keepalives_idle": "15",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter given here would overrule PGCONNECT_TIMEOUT."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "30")

    assert "connect_timeout" not in safe_params({})


@pytest.mark.parametrize("where", ["params", "environment"])
def test_what_a_service_file_says_stays(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may say any of it, so nothing is added."""
    params = {"service": "shop"} if where == "params" else {}
    if where == "environment":
        monkeypatch.setenv("PGSERVICE", "shop")

    assert safe_params(params) == params


@pytest.mark.parametrize(
    ("params", "environment", "name"),
    [
        ({"host": "db1", "port": "6432"}, {}, "db1:6432"),
        ({"hostaddr": "10.0.0.1"}, {}, "10.0.0.1:5432"),
        ({"host": "db1", "hostaddr": "10.0.0.1"}, {}, "db1:5432"),
        ({}, {"PGHOST": "db2", "PGPORT": "7777"}, "db2:7777"),
        ({"host": "db1"}, {"PGHOST": "db2"}, "db1:5432"),
        ({}, {"PGHOSTADDR": "10.0.0.2"}, "10.0.0.2:5432"),
        ({}, {}, "local socket:5432"),
    ],
)
def test_an_endpoint_is_called_by_host_and_port(
    params: dict[str, str],
    environment: dict[str, str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As libpq will find them."""
    for key, value in environment.items():
        monkeypatch.setenv(key, value)

    assert endpoint_name(params) == name


@pytest.mark.parametrize(("given", "seconds"), [({}, 6.0), ({"port": "1"}, 6.0)])
def test_a_connect_may_take_a_second_more_than_libpq_gives_it(
    given: dict[str, str], seconds: float
) -> None:
    """So that libpq's own message comes first; libpq gives it two at least."""
    assert limit(**given) == seconds
    assert limit(**given, connect_timeout="30") == 31.0
    assert limit(**given, connect_timeout="1") == 3.0


def test_each_of_several_hosts_may_take_its_time() -> None:
    """The timeout is for each of them: the third is reached after two."""
    assert limit(host="db1,db2,db3", connect_timeout="5") >= 15.0


@pytest.mark.parametrize("timeout", ["0", "-1"])
def test_a_connect_without_timeout_is_not_given_up_at_once(timeout: str) -> None:
    """To libpq zero and less mean no limit."""
    assert limit(connect_timeout=timeout) > 5.0


def test_the_timeout_of_the_environment_counts_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connect that libpq may still finish is not given up."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "30")

    assert limit() > 30.0


def test_each_address_of_a_server_may_take_its_time() -> None:
    """Also when there are more or fewer than before."""
    endpoint = Endpoint({"host": "db", "connect_timeout": "5"}, {}, Settings.of("", {}))
    alone = endpoint.connect_limit

    endpoint.settle(frozenset({"192.0.2.1", "192.0.2.2"}), is_only=True)
    assert endpoint.connect_limit == alone + 5.0 == 11.0

    endpoint.settle(frozenset({"192.0.2.1"}), is_only=False)
    assert endpoint.connect_limit == alone


@pytest.mark.parametrize(("timeout", "given"), [("9", "9"), ("0", "5")])
def test_a_visit_is_to_one_address_whoever_is_there_and_for_a_time(
    timeout: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby answers it too, and an address that is silent not for ever."""
    asked: dict[str, str] = {}

    def connect(**params: str) -> None:
        asked.update(params)
        raise psycopg2.OperationalError("refused")

    monkeypatch.setattr(psycopg2, "connect", connect)
    params = {
        "host": "db",
        "connect_timeout": timeout,
        "target_session_attrs": "read-write",
    }
    endpoint = Endpoint(params, {}, Settings.of("", {}))
    endpoint.is_alone = True  # libpq sees to its role then, but not for a visit
    endpoint.settle(frozenset({"192.0.2.1", "192.0.2.2"}), is_only=True)

    with pytest.raises(psycopg2.OperationalError):
        endpoint.connect("192.0.2.3")

    assert (asked["host"], asked["hostaddr"]) == ("db", "192.0.2.3")
    assert asked["target_session_attrs"] == "any"
    assert asked["connect_timeout"] == given


def test_a_sibling_differs_from_who_has_it_only_in_where_it_is() -> None:
    """Same name, weight and login: the user gave them to the name."""
    settings = Settings.of("", {"max_lifetime": None})
    logins: Any = object()
    one = Endpoint({"host": "db", "port": "5433"}, {}, settings, 3.0, logins)
    one.settle(frozenset({"192.0.2.1"}), is_only=False)

    other = one.sibling()
    other.settle(frozenset({"192.0.2.2"}), is_only=False)

    assert other.name == "db(192.0.2.2):5433"
    assert other.host is one.host
    assert (other.weight, other.credentials) == (3.0, logins)
    assert other._params == one._params
    assert other._settings is settings


def test_the_states_are_in_the_repr() -> None:
    """One line of truth."""
    roster = ScriptedRoster(max_size=3)
    first, _ = roster.fill(2)
    roster.release(first)

    assert repr(roster.endpoint) == (
        "<Endpoint db1:5432 role unknown generation 0: 1 in use, 1 idle, 0 connecting>"
    )


def test_an_entry_says_where_what_and_whose_it_is() -> None:
    """Its repr has the endpoint, the state, the generation and the hold."""
    roster = ScriptedRoster()
    (holder,) = roster.fill(1)
    assert holder.conn is not None
    assert holder.hold is not None

    said = repr(holder.conn.entry)

    assert said == f"<Entry db1:5432 IN_USE generation 0, {holder.hold!r}>"


def test_the_users_connection_class_is_part_of_the_pools() -> None:
    """It is both, made once, and one that is of a pool already is taken as it is."""
    own = type("Own", (PooledConnection.__mro__[1],), {})

    made = pooled(own)

    assert issubclass(made, own)
    assert issubclass(made, PooledConnection)
    assert pooled(own) is made
    assert pooled(made) is made
    assert pooled(None) is pooled(PooledConnection.__mro__[1]) is PooledConnection

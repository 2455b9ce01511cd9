"""Which endpoints there are, of whatever form the user gave them in."""

from collections.abc import Sequence

import pytest

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.endpoint.need import Need, default_need
from pgdbpool.routing.hosts import Params, endpoint_params, split, weights_of
from pgdbpool.settings import Settings

SECRET = "hunter2"
SEVERAL = {"target_session_attrs": "any"}
VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGTARGETSESSIONATTRS")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the test say where the servers are."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def params_of(conninfo: str | Sequence[str], **given: object) -> list[Params]:
    """Return libpq's parameters of each endpoint."""
    return endpoint_params(Settings.of(conninfo, given))[0]


def need_of(conninfo: str | Sequence[str], **given: object) -> str | None:
    """Return which of several servers is wanted."""
    return endpoint_params(Settings.of(conninfo, given))[2]


def names_of(conninfo: str | Sequence[str], **given: object) -> list[str]:
    """Return the names of a pool's endpoints."""
    pool = ConnectionPool(conninfo, **given)  # type: ignore[arg-type]
    return [endpoint.name for endpoint in pool.endpoints]


def refused(conninfo: str | Sequence[str], **given: object) -> str:
    """Return what is said of servers that make no pool."""
    with pytest.raises(SettingsError) as caught:
        ConnectionPool(conninfo, **given)  # type: ignore[arg-type]
    for one in (caught.value, caught.value.__cause__, caught.value.__context__):
        assert SECRET not in str(one)
    return str(caught.value)


# One DSN of several hosts.


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=db1,db2 port=5433,5434 dbname=shop user=app",
        "postgresql://app@db1:5433,db2:5434/shop",
    ],
)
def test_each_host_of_a_dsn_is_an_endpoint(conninfo: str) -> None:
    """With its own port; all else is the same for all."""
    shared = {"dbname": "shop", "user": "app", **SEVERAL}

    assert params_of(conninfo) == [
        {"host": "db1", "port": "5433", **shared},
        {"host": "db2", "port": "5434", **shared},
    ]


def test_one_port_is_for_all_hosts() -> None:
    """As libpq has it."""
    assert params_of("host=db1,db2 port=5433") == [
        {"host": "db1", "port": "5433", **SEVERAL},
        {"host": "db2", "port": "5433", **SEVERAL},
    ]


def test_without_a_port_each_host_has_that_of_libpq() -> None:
    """Nothing is put in its place."""
    assert names_of("host=db1,db2") == ["db1:5432", "db2:5432"]
    assert params_of("host=db1,db2")[0] == {"host": "db1", **SEVERAL}


def test_hosts_may_be_given_among_kwargs() -> None:
    """Where all parameters of libpq may be."""
    assert names_of("dbname=shop", kwargs={"host": "db1,db2", "port": 5433}) == [
        "db1:5433",
        "db2:5433",
    ]


def test_an_address_goes_with_its_host() -> None:
    """It saves the look-up, and the host stays the name."""
    assert params_of("host=db1,db2 hostaddr=10.0.0.1,10.0.0.2") == [
        {"host": "db1", "hostaddr": "10.0.0.1", **SEVERAL},
        {"host": "db2", "hostaddr": "10.0.0.2", **SEVERAL},
    ]


def test_addresses_alone_are_endpoints_too() -> None:
    """A host is not needed."""
    assert names_of("hostaddr=10.0.0.1,10.0.0.2") == ["10.0.0.1:5432", "10.0.0.2:5432"]


def test_a_host_left_empty_is_left_to_libpq() -> None:
    """So is a port: to libpq both mean its default."""
    assert split({"host": "db1,", "port": "5433,"}) == [
        {"host": "db1", "port": "5433"},
        {},
    ]


@pytest.mark.parametrize(
    ("conninfo", "said"),
    [
        ("host=db1,db2 hostaddr=10.0.0.1", "hostaddr names 1 servers, the other 2"),
        ("host=db1 hostaddr=10.0.0.1,10.0.0.2", "host names 1 servers, the other 2"),
        ("host=db1,db2 port=5433,5434,5435", "3 ports for 2 hosts"),
        ("host=db1,db2,db3 port=5433,5434", "2 ports for 3 hosts"),
        ("port=5433,5434", "2 ports for 1 hosts"),
    ],
)
def test_numbers_that_do_not_match_are_refused(conninfo: str, said: str) -> None:
    """Whom a port is for is not guessed."""
    assert refused(f"{conninfo} password={SECRET}") == f"conninfo: {said}"


def test_one_server_is_left_as_it_was_given() -> None:
    """Nothing changes for a pool of one: what libpq sees to, it sees to."""
    dsn = "host=db1 port=5433 target_session_attrs=read-write"

    assert params_of(dsn) == [
        {"host": "db1", "port": "5433", "target_session_attrs": "read-write"}
    ]
    assert params_of("") == [{}]
    assert need_of(dsn) == "read-write"


# The environment.


def test_the_hosts_of_the_environment_are_endpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty DSN means them."""
    monkeypatch.setenv("PGHOST", "db1,db2")
    monkeypatch.setenv("PGPORT", "5433,5434")

    assert names_of("") == ["db1:5433", "db2:5434"]


def test_the_addresses_of_the_environment_are_endpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As libpq reads them too."""
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1,10.0.0.2")

    assert names_of("dbname=shop") == ["10.0.0.1:5432", "10.0.0.2:5432"]


def test_the_environment_fills_in_what_the_dsn_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each for itself: the hosts of the one, the ports of the other."""
    monkeypatch.setenv("PGHOST", "db8,db9")
    monkeypatch.setenv("PGPORT", "5433,5434")

    assert names_of("host=db1,db2") == ["db1:5433", "db2:5434"]


def test_one_host_of_the_environment_is_left_to_libpq(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a pool of one always."""
    monkeypatch.setenv("PGHOST", "db1")

    assert params_of("dbname=shop") == [{"dbname": "shop"}]


# Several DSNs.


def test_each_dsn_of_a_list_is_an_endpoint() -> None:
    """With all that is its own, and what kwargs say to all."""
    conninfo = ["host=db1 dbname=shop", "postgresql://db2:5433/shop"]

    assert params_of(conninfo, kwargs={"user": "app"}) == [
        {"host": "db1", "dbname": "shop", "user": "app", **SEVERAL},
        {"host": "db2", "port": "5433", "dbname": "shop", "user": "app", **SEVERAL},
    ]


def test_a_list_of_one_is_that_one() -> None:
    """Also as a tuple; and it may have several hosts."""
    assert params_of(["host=db1"]) == [{"host": "db1"}]
    assert names_of(("host=db1,db2",)) == ["db1:5432", "db2:5432"]


def test_endpoints_have_the_rest_from_conninfo() -> None:
    """Where is said in the one, what in the other."""
    endpoints = ["host=db1", "postgresql://db2:5433", "host=db3,db4"]
    found = params_of("dbname=shop user=app", endpoints=endpoints)

    assert [params["host"] for params in found] == ["db1", "db2", "db3", "db4"]
    assert {(params["dbname"], params["user"]) for params in found} == {("shop", "app")}


@pytest.mark.parametrize(
    "conninfo", ["host=db9", "hostaddr=10.0.0.9", "port=5433", ["host=db8", "host=db9"]]
)
def test_endpoints_beside_a_server_in_conninfo_are_refused(
    conninfo: str | list[str],
) -> None:
    """Whichever was meant, the other was not."""
    said = refused(conninfo, endpoints=["host=db1"])

    assert said == "endpoints: conninfo names a server already; give either"


def test_no_endpoint_at_all_is_refused() -> None:
    """A pool has one."""
    assert refused([]) == "conninfo: an empty list has no endpoint"
    assert refused("", endpoints=[]) == "endpoints: an empty list has no endpoint"


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ("host=db2 dbname=stock user=app", "databases"),
        ("host=db2 user=app", "databases"),
        ("host=db2 dbname=shop user=root", "users"),
    ],
)
def test_servers_that_are_no_cluster_are_refused(second: str, what: str) -> None:
    """A reader would find something else at each."""
    first = f"host=db1 dbname=shop user=app password={SECRET}"

    assert refused([first, f"{second} password={SECRET}"]) == (
        "conninfo: endpoints of one pool are one cluster, and these are different "
        f"{what}"
    )


@pytest.mark.parametrize(
    "conninfo",
    ["host=db1,db1", ["host=db1", "host=db1 port=5432"], "host=db1,db1 port=,5432"],
)
def test_the_same_server_twice_is_refused(conninfo: str | list[str]) -> None:
    """Its limits would hold twice."""
    assert refused(conninfo) == "conninfo: the same server is named twice"


def test_one_host_on_two_ports_is_two_servers() -> None:
    """And so is one name of two addresses."""
    assert len(params_of("host=db1,db1 port=5432,5433")) == 2
    assert len(params_of("host=db1,db1 hostaddr=10.0.0.1,10.0.0.2")) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"conninfo": ["host=db1", f"host=db2 passwort={SECRET}"]},
        {"conninfo": [f"postgresql://app:{SECRET}%zz@db1/shop"]},
        {"conninfo": "", "endpoints": ["host=db1", f"password='{SECRET}"]},
    ],
)
def test_a_dsn_of_several_that_does_not_parse_is_not_quoted(
    given: dict[str, object],
) -> None:
    """Neither in the message nor in what the error is chained to."""
    assert "neither a DSN nor a URL that libpq can parse" in refused(**given)  # type: ignore[arg-type]


# Which of several is wanted.


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=db1,db2 target_session_attrs=prefer-standby",
        [
            "host=db1 target_session_attrs=prefer-standby",
            "host=db2 target_session_attrs=prefer-standby",
        ],
    ],
)
def test_with_several_the_pool_sees_to_target_session_attrs(
    conninfo: str | list[str],
) -> None:
    """By itself libpq would refuse a session to whoever is not that at the moment."""
    assert need_of(conninfo) == "prefer-standby"
    assert {p["target_session_attrs"] for p in params_of(conninfo)} == {"any"}


def test_with_several_the_environment_may_say_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But the DSN comes first, and libpq must not see to it."""
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")

    assert need_of("host=db1,db2") == "standby"
    assert need_of("host=db1,db2 target_session_attrs=any") == "any"
    assert need_of("host=db1") == "standby"
    assert {p["target_session_attrs"] for p in params_of("host=db1,db2")} == {"any"}
    assert params_of("host=db1") == [{"host": "db1"}]


def test_dsns_that_want_different_servers_are_refused() -> None:
    """One pool has one meaning of `connection()`."""
    said = refused(["host=db1 target_session_attrs=primary", "host=db2"])

    assert said == "conninfo: the DSNs differ in target_session_attrs"


@pytest.mark.parametrize(
    ("attributes", "need"),
    [
        (None, Need.PRIMARY),
        ("any", Need.ANY),
        ("primary", Need.PRIMARY),
        ("read-write", Need.PRIMARY),
        ("standby", Need.STANDBY),
        ("read-only", Need.STANDBY),
        ("prefer-standby", Need.PREFER_STANDBY),
    ],
)
def test_the_words_of_libpq_are_what_a_caller_needs(
    attributes: str | None, need: Need
) -> None:
    """Without one it is the primary."""
    assert default_need(attributes, is_one_name=False) is need
    by_name = default_need(attributes, is_one_name=True)
    assert by_name is (None if attributes is None else need)


def test_a_word_that_libpq_does_not_have_is_refused() -> None:
    """By its name, before anything connects."""
    said = refused("host=db1,db2 target_session_attrs=master")

    assert said == "target_session_attrs: libpq has no 'master'"


# Weights.

NAMES = ["db1:5432", "db2:5432", "db2:5433", "::1:5432"]


def test_who_is_not_named_has_the_weight_one() -> None:
    """And so have all when nothing is said."""
    assert weights_of(NAMES, None) == [1.0] * 4
    assert weights_of(NAMES, {}) == [1.0] * 4
    assert weights_of(NAMES, {"db1": 3}) == [3.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("place", "which"), [("db1", 0), ("db1:5432", 0), ("db2:5433", 2), ("::1", 3)]
)
def test_a_weight_is_for_a_host_or_for_a_host_and_port(place: str, which: int) -> None:
    """Whichever is enough to tell."""
    weights = weights_of(NAMES, {place: 0.5})

    assert [number for number, w in enumerate(weights) if w == 0.5] == [which]


@pytest.mark.parametrize(
    ("place", "what"),
    [("db9", "no endpoint"), ("db1:5433", "no endpoint"), ("db2", "2 endpoints")],
)
def test_a_weight_for_no_endpoint_or_for_two_is_refused(place: str, what: str) -> None:
    """With those that there are."""
    with pytest.raises(SettingsError) as caught:
        weights_of(NAMES, {place: 2})

    assert str(caught.value) == (
        f"weights: {place!r} is {what}; there are db1:5432, db2:5432, db2:5433, "
        "::1:5432"
    )


def test_a_pool_gives_its_endpoints_their_weights() -> None:
    """In the order of the hosts."""
    pool = ConnectionPool("host=db1,db2", balance="weighted", weights={"db2": 3})

    assert [(e.name, e.weight) for e in pool.endpoints] == [
        ("db1:5432", 1.0),
        ("db2:5432", 3.0),
    ]


def test_nothing_that_is_told_of_endpoints_is_secret() -> None:
    """Neither the pool's repr, nor that of its settings, nor what they are like."""
    shared = f"dbname=shop password={SECRET}"
    pools = [
        ConnectionPool([f"host=db1 {shared}", f"host=db2 {shared}"]),
        ConnectionPool("dbname=shop", endpoints=[f"host=db1 password={SECRET}"]),
    ]

    for pool in pools:
        for thing in (pool, pool.settings, pool.endpoints):
            assert SECRET not in repr(thing)

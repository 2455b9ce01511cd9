"""What goes before what, and what the log says of what does not count."""

import logging
import os
import sys
import types

import pytest
from psycopg2.extensions import parse_dsn

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.auth.azure import AzureIdentity
from pgdbpool.environment import find, finding
from tests.unit.environments import SINGLETON, clear, found, refused

# From the first that counts to the last.
SOURCES = [
    {"PGDBPOOL_CONNINFO": "host=own"},
    {"DATABASE_URL": "postgresql://url"},
    {"DB_HOST": "single", "DB_USER": "u", "DB_NAME": "n"},
]
HOSTS = ["own", "url", "single"]


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)


def merged(*sources: dict[str, str]) -> dict[str, str]:
    """Return one environment of several."""
    return {name: text for source in sources for name, text in source.items()}


@pytest.mark.parametrize("first", range(3))
def test_the_first_source_says_where_the_database_is(first: int) -> None:
    """The stated order; each that comes after it is warned of."""
    was_found = found(**merged(*SOURCES[first:]))

    assert parse_dsn(was_found.values["conninfo"])["host"] == HOSTS[first]
    origin = was_found.origins["conninfo"]
    assert origin == ", ".join(SOURCES[first])
    assert was_found.warnings == [
        f"{', '.join(names)}: not used, the database is from {origin}"
        for names in SOURCES[first + 1 :]
    ]


@pytest.mark.parametrize("argument", ["conninfo", "endpoints"])
def test_an_argument_goes_before_the_environment(argument: str) -> None:
    """A variable that changes nothing is warned of."""
    environ = merged(*SOURCES[1:], {"PGDBPOOL_MAX_SIZE": "9"})
    given = {argument: "host=x" if argument == "conninfo" else ["host=x"]}

    was_found = find(given={**given, "max_size": 3}, environ=environ)

    assert was_found.values == {**given, "max_size": 3}
    assert was_found.warnings == [
        "PGDBPOOL_MAX_SIZE: not used, max_size is from an argument",
        "DATABASE_URL: not used, the database is from an argument",
        "DB_HOST, DB_USER, DB_NAME: not used, the database is from an argument",
    ]


def test_what_does_not_count_is_not_looked_at() -> None:
    """It can be of another program."""
    environ = {
        "PGDBPOOL_CONNINFO": "host=own",
        "PGDBPOOL_CHECK": "no_such_module:check",
        "DATABASE_URL": "mysql://db",
        "DB_HOST": "db",
        "DB_PORT": "tcp://10.0.0.11:3306",
        "IDENTITY_ENABLED": "perhaps",
    }

    was_found = find(given={"check": print}, environ=environ)

    assert was_found.values == {"conninfo": "host=own", "check": print}
    assert was_found.warnings == [
        "PGDBPOOL_CHECK: not used, check is from an argument",
        (
            "DB_HOST, DB_PORT, IDENTITY_ENABLED: not used, the database is from "
            "PGDBPOOL_CONNINFO"
        ),
    ]


def test_endpoints_and_what_they_share_may_come_from_two_sources() -> None:
    """They are two settings, and both of ours."""
    was_found = find(
        given={"endpoints": ["host=db1", "host=db2"]},
        environ={"PGDBPOOL_CONNINFO": "dbname=shop"},
    )

    assert was_found.values["conninfo"] == "dbname=shop"
    assert was_found.warnings == []


def test_endpoints_alone_say_where_the_database_is() -> None:
    """So nothing after them does."""
    environ = merged({"PGDBPOOL_ENDPOINTS": "postgresql://db1"}, *SOURCES[1:])

    assert found(**environ).values == {"endpoints": ["postgresql://db1"]}


@pytest.mark.parametrize("url", ["mysql://db/shop", "postgresql+psycopg2://db", "db"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    """Rather than that a pool is made that leads elsewhere."""
    assert refused(DATABASE_URL=url) == (
        "DATABASE_URL: must begin with postgresql:// or postgres://"
    )


def test_the_names_of_the_singleton_make_the_same_pool() -> None:
    """All of them."""
    was_found = found(
        **SINGLETON,
        DB_PORT="5433",
        DB_PASSWORD=" it's 5\\ ",
        DB_MIN_CONN="2",
        DB_MAX_CONN="7",
        IDENTITY_ENABLED="false",
    )

    assert parse_dsn(was_found.values.pop("conninfo")) == {
        "host": "db1",
        "port": "5433",
        "user": "app",
        "dbname": "shop",
        "password": " it's 5\\ ",
    }
    assert was_found.values == {"min_size": 2, "max_size": 7}
    assert was_found.origins == {
        "conninfo": "DB_HOST, DB_USER, DB_NAME, DB_PASSWORD, DB_PORT",
        "min_size": "DB_MIN_CONN",
        "max_size": "DB_MAX_CONN",
    }
    assert was_found.warnings == []


def test_the_names_of_the_singleton_have_its_defaults() -> None:
    """Port 5432 also where PGPORT says something else, 1 and 20 connections."""
    settings = found(**SINGLETON, PGPORT="1").settings()

    assert parse_dsn(str(settings.conninfo))["port"] == "5432"
    assert (settings.min_size, settings.max_size) == (1, 20)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({"DB_HOST": "db1"}, "DB_USER, DB_NAME"),
        ({"DB_NAME": "shop", "DB_USER": "app", "DB_HOST": " "}, "DB_HOST"),
        ({"DB_PASSWORD": "s3cret"}, "DB_HOST, DB_USER, DB_NAME"),
        ({"DB_MAX_CONN": "5", "DB_PORT": "1"}, "DB_HOST, DB_USER, DB_NAME"),
    ],
)
def test_what_the_singleton_requires_is_named_where_it_is_missing(
    environ: dict[str, str], missing: str
) -> None:
    """All at once, in its own words."""
    told = refused(**environ)

    assert told.startswith(f"Variables are missing: {missing} (there is DB_")
    assert "s3cret" not in told


@pytest.mark.parametrize(
    "environ", [{"DB_PORT": "tcp://10.0.0.11:5432"}, {"IDENTITY_ENABLED": "true"}]
)
def test_a_name_that_others_use_too_alone_means_nothing(
    environ: dict[str, str],
) -> None:
    """Kubernetes sets DB_PORT for any service that is called "db"."""
    assert found(**environ).values == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DB_PORT", "tcp://10.0.0.11:5432"),
        ("DB_MAX_CONN", "many"),
        ("DB_MIN_CONN", "-"),
    ],
)
def test_a_number_of_the_singleton_that_is_none_is_told(name: str, text: str) -> None:
    """By its name."""
    told = refused(**SINGLETON, **{name: text})

    assert told.startswith(f"{name}: must be a whole number")
    message = refused(**SINGLETON, DB_MAX_CONN="0")
    assert message == "DB_MAX_CONN: must be at least 1, not 0"


def test_our_own_size_goes_before_the_singletons() -> None:
    """Setting by setting, as both are about the same database."""
    was_found = found(**SINGLETON, DB_MAX_CONN="7", PGDBPOOL_MAX_SIZE="8")

    assert was_found.values["max_size"] == 8
    assert was_found.warnings == [
        "DB_MAX_CONN: not used, max_size is from PGDBPOOL_MAX_SIZE"
    ]


class Identity:
    """Stands for the provider of Azure."""


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", "ON", " on "])
def test_identity_is_on_by_any_word_for_it(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The singleton took "1" and "yes" for off, silently."""
    monkeypatch.setattr(finding, "azure_identity", Identity)

    was_found = found(**SINGLETON, IDENTITY_ENABLED=word, DB_PASSWORD="s3cret")

    assert isinstance(was_found.values["password"], Identity)
    assert was_found.origins["password"] == "IDENTITY_ENABLED"
    assert "password" not in parse_dsn(was_found.values["conninfo"])
    assert was_found.warnings == ["DB_PASSWORD: not used, IDENTITY_ENABLED is on"]


def test_identity_is_that_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its library is missing, the error says what to install."""
    library = types.ModuleType("azure.identity")
    monkeypatch.setitem(sys.modules, "azure", types.ModuleType("azure"))
    monkeypatch.setitem(sys.modules, "azure.identity", library)
    with pytest.raises(ImportError, match="azure"):
        found(**SINGLETON, IDENTITY_ENABLED="on")

    monkeypatch.setattr(library, "DefaultAzureCredential", object, raising=False)
    was_found = found(**SINGLETON, IDENTITY_ENABLED="on")

    assert isinstance(was_found.values["password"], AzureIdentity)
    assert was_found.settings().password is was_found.values["password"]


@pytest.mark.parametrize("word", ["false", "0", "no", "Off", ""])
def test_identity_is_off_by_any_word_for_it(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the password counts."""
    monkeypatch.setattr(finding, "azure_identity", None)

    was_found = found(**SINGLETON, IDENTITY_ENABLED=word, DB_PASSWORD="pw")

    assert parse_dsn(was_found.values["conninfo"])["password"] == "pw"
    assert "password" not in was_found.values


def test_identity_neither_on_nor_off_is_an_error() -> None:
    """Nobody is to run without an identity that was asked for."""
    told = refused(**SINGLETON, IDENTITY_ENABLED="enabled")

    assert told.startswith("IDENTITY_ENABLED: must be true, yes, on, 1 or")


def test_a_password_of_our_own_goes_before_the_singletons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And before its identity."""
    monkeypatch.setattr(finding, "azure_identity", Identity)

    for environ in ({"DB_PASSWORD": "old"}, {"IDENTITY_ENABLED": "1"}):
        was_found = found(**SINGLETON, **environ, PGDBPOOL_PASSWORD="new")
        assert was_found.values["password"] == "new"
        assert "password" not in parse_dsn(was_found.values["conninfo"])
        (warning,) = was_found.warnings
        assert warning.endswith(": not used, password is from PGDBPOOL_PASSWORD")


def test_a_pool_is_made_and_the_log_warned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each thing that does not count; the environment stays as it is."""
    for name, text in merged(*SOURCES[1:], {"PGDBPOOL_MAX_SIZE": "9"}).items():
        monkeypatch.setenv(name, text)
    before = dict(os.environ)

    with caplog.at_level(logging.INFO, "pgdbpool"):
        pool = ConnectionPool.from_env(max_size=3, min_size=0)

    assert type(pool) is ConnectionPool
    assert (pool.max_size, pool.settings.conninfo) == (3, "postgresql://url")
    assert pool.settings.explicit == {"max_size", "min_size"}
    assert [record.message for record in caplog.records] == [
        "PGDBPOOL_MAX_SIZE: not used, max_size is from an argument",
        "DB_HOST, DB_USER, DB_NAME: not used, the database is from DATABASE_URL",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert dict(os.environ) == before


def test_a_class_of_ones_own_is_made_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it is with a constructor."""

    class Own(ConnectionPool):
        """A pool."""

    monkeypatch.setenv("SHOP_NAME", "shop")

    assert repr(Own.from_env("SHOP_")).startswith("<ConnectionPool 'shop' open 1-20")


def test_an_unknown_argument_is_told_as_the_constructor_does() -> None:
    """It is none of the environment's."""
    with pytest.raises(SettingsError, match="max_sise: unknown setting; did you mean"):
        ConnectionPool.from_env(max_sise=3)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match=r"^max_size: must be at least 1"):
        ConnectionPool.from_env(max_size=0)

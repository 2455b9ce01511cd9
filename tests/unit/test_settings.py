"""A wrong setting is an error that names it, before anything is connected."""

import math
from collections.abc import Callable

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2 import extensions as driver
from psycopg2.extras import DictCursor, LoggingConnection

from pgdbpool import ConnectionPool, SettingsError, SharedLimit
from pgdbpool.auth.file import PasswordFile
from pgdbpool.parameters import libpq_params
from pgdbpool.settings import UNNEEDED, Settings, SettingsDict

SECRET = "hunter2"
DURATIONS = ("timeout", "max_lifetime", "max_idle", "grace", "ping_timeout", "max_lag")
NEVER_NONE = ("ping_timeout", "ping_idle")


@pytest.fixture(autouse=True)
def _nothing_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError("a setting was tried out on a server")

    monkeypatch.setattr(psycopg2, "connect", connect)


def refused(conninfo: object = "", **given: object) -> str:
    """Return what is said of settings that must be refused."""
    make: Callable[..., ConnectionPool] = ConnectionPool
    with pytest.raises(SettingsError) as caught:
        make(conninfo, **given)
    return str(caught.value)


def of(**given: object) -> Settings:
    """Return the settings that are made of what is given."""
    return Settings.of("", given)


BAD: dict[str, list[object]] = {
    "min_size": [-1, True, 1.0, "1", None, 21],
    "max_size": [0, -1, False, 2.0, "2", math.inf],
    "password": [5, True, object(), b"bytes", PasswordFile],
    "threaded": ["no", 1, None],
    "max_waiting": [-1, True, 1.5, "1", None],
    "timeout": [-0.001, math.nan, -math.inf, True, "5", [5], 5j],
    "max_lifetime": [-1, math.nan, False, "3600"],
    "max_idle": [-1, math.nan, True, "600"],
    "grace": [-1, math.nan, True, "5"],
    "ping_timeout": [-1, math.nan, True, "2", None],
    "ping_idle": [-1, math.nan, False, "0", None],
    "order": ["newest", "LIFO", "", None, 1, ["lifo"]],
    "endpoints": ["host=db1", [], (), 5, {"host": "db1"}],
    "balance": ["random", "LEAST_IN_USE", "", None, 1, ["nearest"]],
    "weights": [
        {"db1": 0},
        {"db1": -1},
        {"db1": math.nan},
        {"db1": math.inf},
        {"db1": "2"},
        {"db1": None},
        [("db1", 1)],
        2,
    ],
    "max_lag": [-1, math.nan, True, "10"],
    "autocommit": [0, 1, "yes", None],
    "reset": ["discard", "", None, 0, ["rollback"]],
    "via": ["pgbouncer", "session-pooler", "", None, True, ["direct"]],
    "configure": ["SET x", 0, False],
    "check": ["SELECT 1", 0, True],
    "name": [b"orders", 1, ["orders"]],
    "open": [0, 1, "yes", None],
    "sql_comments": [0, 1, "yes", None],
    "observe": [0, 1, "yes", None],
    "leak_warn_after": [-1, math.nan, True, "10"],
    "shared_limit": [50, "50", True, SharedLimit],
    "kwargs": ["host=db1", ["host"], 0, [("host", "db1")]],
}


def test_every_setting_has_its_bad_values() -> None:
    """No setting is left out of these tests."""
    assert set(BAD) == set(SettingsDict.__annotations__)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in BAD for value in BAD[name]]
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    """The message begins with the name of the setting that is wrong."""
    assert refused(**{name: value}).startswith(f"{name}: ")


@pytest.mark.parametrize("name", [*DURATIONS, "ping_idle"])
@settings(max_examples=25)
@given(seconds=st.floats(max_value=0, exclude_max=True))
def test_no_negative_duration_is_accepted(name: str, seconds: float) -> None:
    """However small: it would be an end before the beginning."""
    assert refused(**{name: seconds}) == f"{name}: must not be negative, but is " + str(
        seconds
    )


@settings(max_examples=50)
@given(seconds=st.one_of(st.integers(0, 10**9), st.floats(0, allow_nan=False)))
def test_every_other_duration_is_kept_as_given(seconds: float) -> None:
    """Zero, an integer, infinity: what is given is what holds."""
    given_settings = of(**dict.fromkeys([*DURATIONS, "ping_idle"], seconds))

    for name in (*DURATIONS, "ping_idle"):
        assert getattr(given_settings, name) == seconds


@settings(max_examples=50)
@given(least=st.integers(0, 50), most=st.integers(1, 50))
def test_sizes_must_make_sense_together(least: int, most: int) -> None:
    """`min_size` above `max_size` is refused and both are named; all else is kept."""
    if least > most:
        said = refused(min_size=least, max_size=most)
        assert said == f"min_size: {least} is greater than max_size, which is {most}"
    else:
        made = of(min_size=least, max_size=most)
        assert (made.min_size, made.max_size) == (least, most)


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    """A slip of the pen is found at once, and so is what was meant."""
    assert refused(max_szie=5) == "max_szie: unknown setting; did you mean 'max_size'?"


def test_a_setting_like_no_other_is_refused_without_a_guess() -> None:
    """Where nothing is near, nothing is suggested."""
    assert refused(zzzzzzzz=5) == "zzzzzzzz: unknown setting"


@pytest.mark.parametrize("name", ["conninfo", "explicit", "standbys", "self"])
def test_what_is_inside_cannot_be_set(name: str) -> None:
    """Fields that are no settings are as unknown as any other name."""
    with pytest.raises(SettingsError, match=f"^{name}: unknown setting"):
        Settings.of("", {name: 1})


@pytest.mark.parametrize("name", UNNEEDED)
def test_what_psycopg_pool_needs_and_we_do_not_is_explained(name: str) -> None:
    """Who comes from psycopg_pool reads what to do instead."""
    assert refused(**{name: 1}) == (
        f"{name}: this pool has no such setting; {UNNEEDED[name]}"
    )


def test_nothing_known_is_called_unneeded() -> None:
    """The two lists do not overlap."""
    assert not set(UNNEEDED) & set(SettingsDict.__annotations__)


# Defaults and what None and zero mean.


def test_the_defaults_are_those_of_the_manual() -> None:
    """Without a setting, these hold."""
    made = of()

    assert (made.min_size, made.max_size, made.max_waiting) == (1, 20, 0)
    assert (made.timeout, made.grace, made.ping_timeout) == (5.0, 5.0, 2.0)
    assert (made.max_lifetime, made.max_idle, made.ping_idle) == (3600.0, 600.0, 0.0)
    assert (made.order, made.reset, made.autocommit) == ("lifo", "rollback", False)
    assert (made.name, made.kwargs, made.configure, made.check) == (None,) * 4
    assert (made.endpoints, made.weights) == (None, None)
    assert (made.balance, made.max_lag) == ("least_in_use", 10.0)
    assert (made.open, made.via) == (True, "direct")


@pytest.mark.parametrize("timeout", [0, 0.25, 1.0, 3, 60.0, None, math.inf])
def test_grace_is_the_timeout_unless_given(timeout: float | None) -> None:
    """An unreachable server may cost a caller its timeout, and no more."""
    assert of(timeout=timeout).grace == timeout


@pytest.mark.parametrize("grace", [0, 1.5, None])
def test_a_given_grace_is_kept(grace: float | None) -> None:
    """None is an answer too: callers always wait."""
    assert of(grace=grace, timeout=7.0).grace == grace


@pytest.mark.parametrize(
    ("timeout", "limit"),
    [(5.0, 2.0), (3.0, 1.5), (1, 0.5), (None, 2.0), (0, 0.1), (0.1, 0.1), (600, 2.0)],
)
def test_a_ping_may_take_half_the_timeout_but_two_seconds_at_most(
    timeout: float | None, limit: float
) -> None:
    """And a tenth of a second at least, or none would ever be fast enough."""
    assert of(timeout=timeout).ping_timeout == limit


@pytest.mark.parametrize(
    ("timeout", "limit"), [(5.0, 5.0), (1, 1), (0, 0.1), (None, 30.0), (600, 600)]
)
def test_behind_a_pooler_a_ping_may_take_as_long_as_its_caller_waits(
    timeout: float | None, limit: float
) -> None:
    """It can stand in the pooler's line, and nobody waits at its end twice."""
    assert of(timeout=timeout, via="transaction-pooler").ping_timeout == limit


def test_a_given_ping_timeout_is_kept() -> None:
    """Also one that is longer than the timeout."""
    assert of(timeout=1.0, ping_timeout=3.0).ping_timeout == 3.0


def test_no_max_size_is_the_min_size() -> None:
    """As in psycopg_pool: a pool of fixed size."""
    assert of(min_size=7, max_size=None).max_size == 7
    assert of(max_size=None).max_size == 1


def test_a_pool_of_no_size_is_refused() -> None:
    """`max_size=None` does not make a pool that can never serve."""
    assert refused(min_size=0, max_size=None).startswith("max_size: ")


@pytest.mark.parametrize(
    "name", ["timeout", "max_lifetime", "max_idle", "grace", "max_lag"]
)
def test_none_is_no_limit(name: str) -> None:
    """It stays None: nothing is put in its place."""
    assert getattr(of(**{name: None}), name) is None


def test_what_was_given_is_remembered() -> None:
    """An explicit size is told from a default of the same value."""
    assert of(max_size=20, open=True).explicit == {"max_size", "open"}


def test_settings_are_frozen() -> None:
    """What was checked cannot be changed afterwards."""
    with pytest.raises(AttributeError):
        of().timeout = -1.0  # type: ignore[misc]


def test_a_session_is_not_reset_behind_a_pooler() -> None:
    """The two settings contradict each other, and both are named."""
    said = refused(via="transaction-pooler", reset="session")

    assert said.startswith("reset: 'session' contradicts via='transaction-pooler'")


@pytest.mark.parametrize("reset", ["rollback", print])
def test_every_other_reset_goes_with_a_pooler(reset: object) -> None:
    """A function of the user's, too: it can know better."""
    made = of(via="transaction-pooler", reset=reset)

    assert (made.via, made.reset) == ("transaction-pooler", reset)


@pytest.mark.parametrize("hook", [print, lambda conn: conn, DictCursor])
def test_whatever_can_be_called_is_a_hook(hook: object) -> None:
    """Functions, methods and classes will do."""
    made = of(reset=hook, configure=hook, check=hook)

    assert (made.reset, made.configure, made.check) == (hook,) * 3


# The DSN and the parameters of libpq.


@pytest.mark.parametrize(
    "conninfo",
    [
        f"password={SECRET} {SECRET}",
        f"postgresql://app:{SECRET}@db1:5432/shop?{SECRET}=1",
        f"postgresql://app:{SECRET}%zz@db1/shop",
        f"passwort={SECRET}",
        f"password='{SECRET}",
        f"password={SECRET}\udcff",
    ],
)
def test_a_dsn_that_does_not_parse_is_not_quoted(conninfo: str) -> None:
    """Nothing of it is in the message, nor in what the error is chained to."""
    with pytest.raises(SettingsError, match=r"^conninfo: ") as caught:
        ConnectionPool(conninfo)

    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("conninfo", [None, b"host=db1", 5, {"host": "db1"}])
def test_a_dsn_is_a_string_or_a_list_of_strings(conninfo: object) -> None:
    """Anything else is refused as conninfo, and not quoted either."""
    kind = type(conninfo).__name__

    assert refused(conninfo) == f"conninfo: must be str or list or tuple, not {kind}"
    assert refused(["host=db1", conninfo]) == f"conninfo: must be str, not {kind}"


@pytest.mark.parametrize("balance", ["round_robin", "nearest"])
def test_weights_that_nobody_looks_at_are_refused(balance: str) -> None:
    """Whoever gives them believes that they count."""
    said = refused("host=db1,db2", balance=balance, weights={"db1": 2})

    assert said == f"weights: balance={balance!r} has no use for them"


@pytest.mark.parametrize("balance", ["least_in_use", "weighted"])
def test_weights_are_for_what_looks_at_them(balance: str) -> None:
    """Both of these do."""
    pool = ConnectionPool("host=db1,db2", balance=balance, weights={"db2": 2})  # type: ignore[arg-type]

    assert [endpoint.weight for endpoint in pool.endpoints] == [1.0, 2.0]


@pytest.mark.parametrize(
    "key", ["hots", "", "dsn", "minconn", "Host", "host ", "ho st", "=", "host=a port"]
)
def test_a_parameter_that_libpq_does_not_know_is_refused(key: str) -> None:
    """The message has the parameter and not its value."""
    said = refused(kwargs={key: SECRET})

    assert said == f"kwargs: libpq has no connection parameter {key!r}"


@pytest.mark.parametrize("key", [1, None, ("host",)])
def test_a_parameter_is_a_string(key: object) -> None:
    """What is no string is no parameter of libpq."""
    assert refused(kwargs={key: "x"}).startswith("kwargs: ")


@pytest.mark.parametrize("key", ["async", "async_"])
@pytest.mark.parametrize("value", [True, False, 1])
def test_asynchronous_connections_are_refused(key: str, value: object) -> None:
    """A pool cannot hold them."""
    assert refused(kwargs={key: value}).startswith(f"kwargs: {key}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("connection_factory", object),
        ("connection_factory", driver.cursor),
        ("connection_factory", lambda *_: None),
        ("cursor_factory", driver.connection),
        ("cursor_factory", "DictCursor"),
    ],
)
def test_a_factory_must_be_a_subclass_of_the_drivers(key: str, value: object) -> None:
    """The message says which factory, and of what."""
    base = key.removesuffix("_factory")
    said = refused(kwargs={key: value})

    assert said.startswith(
        f"kwargs: {key}: must be a subclass of psycopg2.extensions.{base}, not "
    )


def test_dsn_and_kwargs_become_parameters_and_factories() -> None:
    """What libpq takes are strings; psycopg2's factories go by themselves."""
    params, factories = libpq_params(
        f"postgresql://app:{SECRET}@db1/shop",
        {
            "port": 5433,
            "database": "other",
            "user": None,
            "connection_factory": LoggingConnection,
            "cursor_factory": DictCursor,
        },
    )

    assert params == {
        "host": "db1",
        "user": "app",
        "password": SECRET,
        "port": "5433",
        "dbname": "other",
    }
    assert factories == {
        "connection_factory": LoggingConnection,
        "cursor_factory": DictCursor,
    }


def test_no_dsn_is_the_environment_of_libpq() -> None:
    """An empty DSN sets nothing, so that the PG* variables hold."""
    assert libpq_params("", None) == ({}, {})


@pytest.mark.parametrize(
    "key", ["connection_factory", "cursor_factory", "host", "options"]
)
def test_none_in_kwargs_is_not_given(key: str) -> None:
    """As with psycopg2.connect."""
    assert libpq_params("", {key: None}) == ({}, {})


@pytest.mark.parametrize("value", ["soon", "1s", " "])
def test_a_connect_timeout_that_is_no_number_is_refused(value: str) -> None:
    """Before anything connects, and by its name."""
    assert "connect_timeout" in refused(kwargs={"connect_timeout": value})


def test_no_repr_tells_a_secret() -> None:
    """Neither that of the settings nor that of the pool or its parts."""
    pool = ConnectionPool(
        f"postgresql://app:{SECRET}@db1/shop",
        kwargs={"sslpassword": SECRET, "passfile": SECRET},
    )
    (endpoint,) = pool._roster.endpoints

    for thing in (pool.settings, pool, endpoint, endpoint.new_entry(0.0)):
        assert SECRET not in repr(thing)
        assert "\n" not in repr(thing)

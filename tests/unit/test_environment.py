"""Each setting has one variable, and a text that it cannot be is told by its name."""

import dataclasses
import os
import re
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdbpool import ConnectionPool, SettingsError, SharedLimit
from pgdbpool.environment import find
from pgdbpool.environment.finding import OTHERS, SYNONYMS
from pgdbpool.environment.forms import FORMS, SECONDS, UNWRITABLE, text_of
from pgdbpool.settings import Settings, SettingsDict
from tests.documentation import ROOT
from tests.unit.environments import clear, found, refused, value


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)


def hook(conn: object) -> None:
    """Be named by a variable."""


HERE = f"{__name__}:hook"
LIMIT = SharedLimit(50)
NOT_TEXTS = {
    "min_size": ["ten", "1.0", "1e3", "0x10", "1_0", "none", "+-1", "٣", "9" * 30],
    "max_size": ["ten", "None!", "2,5"],
    "max_waiting": ["none", "few"],
    "timeout": ["5s", "nan", "inf", "-inf", "five", "5,0", "None!"],
    "max_lifetime": ["1h", "nan"],
    "max_idle": ["10 min", "inf"],
    "grace": ["5s", "-"],
    "ping_timeout": ["none", "2s"],
    "ping_idle": ["none", "0 s"],
    "max_lag": ["10s", "infinity"],
    "autocommit": ["truth", "2", "t", "enabled"],
    "open": ["maybe", "none"],
    "threaded": ["2", "none"],
    "via": ["pgbouncer", "DIRECT", "none"],
    "order": ["newest", "LIFO"],
    "balance": ["random", "none"],
    "reset": ["discard", "SESSION", "none"],
    "configure": ["none", "shop", "shop.configure", "shop:", ":configure", "a:b:c"],
    "check": ["none", "SELECT 1"],
    "shared_limit": ["50", "none"],
    "observe": ["2", "none"],
    "sql_comments": ["2", "none"],
    "leak_warn_after": ["10s", "inf"],
    "endpoints": ["db1", "host=db1", "db1 db2", "mysql://db1"],
    "weights": ["db1", "db1=", "=1", "db1=two", "db1=1;db2=2", "db1=1,db1=2", "a=1=2"],
}
# Whatever text it is, the setting can be that, or libpq tells.
TEXTS = {"conninfo", "name", "password"}


def test_every_setting_has_one_variable_or_a_reason() -> None:
    """And none has one that is not a setting."""
    settings = {field.name for field in dataclasses.fields(Settings)} - {"explicit"}

    assert {*FORMS, *UNWRITABLE} == settings
    assert not FORMS.keys() & UNWRITABLE.keys()
    assert FORMS.keys() - TEXTS == NOT_TEXTS.keys()


@pytest.mark.parametrize(
    ("setting", "text", "meant"),
    [
        ("conninfo", "host=db1 dbname=shop", "host=db1 dbname=shop"),
        ("conninfo", " postgresql://db1/shop\n", "postgresql://db1/shop"),
        (
            "conninfo",
            "postgresql://db1/shop  postgres://db2/shop",
            ["postgresql://db1/shop", "postgres://db2/shop"],
        ),
        ("conninfo", "postgresql://app:a b@db1", "postgresql://app:a b@db1"),
        ("endpoints", "postgresql://db1", ["postgresql://db1"]),
        (
            "endpoints",
            "postgresql://db1\npostgresql://db2:6432",
            ["postgresql://db1", "postgresql://db2:6432"],
        ),
        ("password", " blanks belong to it ", " blanks belong to it "),
        ("min_size", "0", 0),
        ("max_size", " 12 ", 12),
        ("max_size", "None", None),
        ("timeout", "2.5", 2.5),
        ("timeout", "none", None),
        ("grace", "0", 0.0),
        ("autocommit", "YES", True),
        ("open", "0", False),
        ("name", "none", "none"),
        ("via", "transaction-pooler", "transaction-pooler"),
        ("reset", "session", "session"),
        ("reset", HERE, hook),
        ("configure", HERE, hook),
        ("check", "os.path:exists", os.path.exists),
        ("shared_limit", f"{__name__}:LIMIT", LIMIT),
        ("check", "pathlib:Path.exists", Path.exists),
        ("weights", "db1=2, db2:5433=0.5", {"db1": 2.0, "db2:5433": 0.5}),
    ],
)
def test_a_setting_is_written_as_one_would_expect(
    setting: str, text: str, meant: object
) -> None:
    """Blanks around it mean nothing."""
    read = value(setting, text)

    assert read == meant
    assert type(read) is type(meant)


@pytest.mark.parametrize(
    ("setting", "text"),
    [(setting, text) for setting, texts in NOT_TEXTS.items() for text in texts],
)
def test_a_text_that_is_no_value_is_told_by_its_variable(
    setting: str, text: str
) -> None:
    """With what it must be."""
    variable = f"PGDBPOOL_{setting.upper()}"

    message = refused(**{variable: text})

    assert message.startswith(f"{variable}: must be ")


@pytest.mark.parametrize("text", ["ten", "5s", "10 min", "-1.5", "transaction_pooler"])
def test_a_word_or_number_that_is_no_value_is_quoted(text: str) -> None:
    """It is what one looks for."""
    assert refused(PGDBPOOL_MIN_SIZE=text).endswith(f", not {text!r}")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MAX_SIZE": "0"}, "PGDBPOOL_MAX_SIZE: must be at least 1, not 0"),
        ({"TIMEOUT": "-1"}, "PGDBPOOL_TIMEOUT: must not be negative, but is -1.0"),
        (
            {"MIN_SIZE": "3", "MAX_SIZE": "2"},
            (
                "PGDBPOOL_MIN_SIZE: 3 is greater than max_size, which is 2 "
                "(max_size is from PGDBPOOL_MAX_SIZE)"
            ),
        ),
        (
            {"BALANCE": "nearest", "WEIGHTS": "db1=1"},
            (
                "PGDBPOOL_WEIGHTS: balance='nearest' has no use for them "
                "(balance is from PGDBPOOL_BALANCE)"
            ),
        ),
        ({"WEIGHTS": "db1=0"}, "PGDBPOOL_WEIGHTS: 'db1': must be a number above zero"),
    ],
)
def test_a_value_that_cannot_be_is_told_by_its_variables(
    environ: dict[str, str], words: str
) -> None:
    """Of all that contradict each other."""
    told = refused(**{f"PGDBPOOL_{name}": text for name, text in environ.items()})

    assert told.startswith(words)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"WEIGHTS": "db3=1", "CONNINFO": "host=db1"}, "'db3' is no endpoint"),
        (
            {"ENDPOINTS": "postgresql://db1", "CONNINFO": "host=db1"},
            "conninfo names a server already",
        ),
        ({"CONNINFO": "host=db1,db1"}, "the same server is named twice"),
    ],
)
def test_what_only_the_pool_finds_wrong_is_told_by_its_variable_too(
    environ: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool knows what the settings come to."""
    for name, text in environ.items():
        monkeypatch.setenv(f"PGDBPOOL_{name}", text)

    with pytest.raises(SettingsError, match=words) as caught:
        ConnectionPool.from_env()

    first = next(iter(environ))
    assert str(caught.value).startswith(f"PGDBPOOL_{first}: ")


@pytest.mark.parametrize("name", ["order", "via", "balance", "reset"])
def test_every_choice_that_a_type_checker_knows_can_be_written(name: str) -> None:
    """No literal of the settings is forgotten."""
    hints = typing.get_type_hints(SettingsDict)
    kinds = [hints[name], *typing.get_args(hints[name])]
    literals = [k for k in kinds if typing.get_origin(k) is typing.Literal]
    choices = [choice for kind in literals for choice in typing.get_args(kind)]

    assert choices
    assert [value(name, choice) for choice in choices] == choices


@given(st.integers(0, 10**17) | st.booleans() | st.floats(0, 1e300) | st.none())
def test_what_is_shown_of_a_value_can_be_written(meant: float | None) -> None:
    """As the command shows it, so it can be set."""
    kinds = {bool: "open", int: "max_size", float: "timeout", type(None): "timeout"}

    assert value(kinds[type(meant)], text_of(meant)) == meant


def test_a_function_is_shown_as_it_is_written() -> None:
    """Also one that is an object with no name of its own."""

    class Check:
        def __call__(self, conn: object) -> None:
            """Find it fit."""

    assert text_of(hook) == HERE
    assert text_of(Check()).startswith(f"{__name__}:")
    assert text_of({"db1": 2.0, "db2": 0.5}) == "db1=2,db2=0.5"


def test_a_function_that_cannot_be_had_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception of the import is kept, what it says only where that is a name."""
    (tmp_path / "broken_hooks.py").write_text("raise KeyError('s3cret')")
    monkeypatch.syspath_prepend(tmp_path)

    missing = refused(PGDBPOOL_CHECK="no_such_module.hooks:check")
    assert missing.startswith("PGDBPOOL_CHECK: cannot import 'no_such_module.hooks'")
    assert "No module named 'no_such_module'" in missing
    assert refused(PGDBPOOL_CHECK="os.path:nope") == (
        "PGDBPOOL_CHECK: 'os.path' has no function 'nope'"
    )
    assert "has no function 'sep'" in refused(PGDBPOOL_CONFIGURE="os:sep")
    assert "has no SharedLimit 'sep'" in refused(PGDBPOOL_SHARED_LIMIT="os:sep")
    with pytest.raises(SettingsError) as caught:
        found(PGDBPOOL_RESET="broken_hooks:reset")
    assert str(caught.value).endswith("cannot import 'broken_hooks': KeyError")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PGDBPOOL_MAX_SISE", "PGDBPOOL_MAX_SIZE"),
        ("PGDBPOOL_MAXSIZE", "PGDBPOOL_MAX_SIZE"),
        ("PGDBPOOL_max_size", "PGDBPOOL_MAX_SIZE"),
        ("PGDBPOOL_TIME_OUT", "PGDBPOOL_TIMEOUT"),
        ("PGDBPOOL_END_POINTS", "PGDBPOOL_ENDPOINTS"),
        ("PGDBPOOL_TOTALS", "PGDBPOOL_TOTAL"),
        ("PGDBPOOL_DSN", "PGDBPOOL_CONNINFO"),
        ("PGDBPOOL_MAX_CONN", "PGDBPOOL_MAX_SIZE"),
    ],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_name(
    name: str, nearest: str
) -> None:
    """Row 36: a knob that does nothing is not taken for one; its value is not told."""
    told = refused(**{name: "s3cret"})

    assert told == f"{name}: unknown variable; did you mean {nearest}?"


def test_unknown_variables_are_told_all_at_once() -> None:
    """Also empty ones: whoever set them meant something."""
    told = refused(PGDBPOOL_MAX_SISE="1", PGDBPOOL_ORDR="", PGDBPOOL_KWARGS="x=1")

    assert told.count("did you mean") == 2
    assert "PGDBPOOL_ORDR: unknown" in told
    assert "PGDBPOOL_KWARGS: this setting has no variable; libpq's parameters" in told


def test_a_variable_of_ours_that_is_no_setting_is_known() -> None:
    """Each that our own code reads, and our examples."""
    files = [*ROOT.glob("pgdbpool/**/*.py"), *ROOT.glob("examples/**/*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"\bPGDBPOOL_[A-Z_]*[A-Z]\b", code))

    assert named >= {"PGDBPOOL_TOTAL", "PGDBPOOL_DEMO_READY", "PGDBPOOL_CONNINFO"}
    others = {name for name in named if name[9:].lower() not in FORMS}
    assert found(**dict.fromkeys([*others, "PGDBPOOL_TEST_DSN"], "1")).values == {}
    assert not any(f"PGDBPOOL_{s.upper()}".startswith(OTHERS) for s in FORMS)


def test_every_synonym_leads_to_a_setting() -> None:
    """And is none itself."""
    assert set(SYNONYMS.values()) <= FORMS.keys()
    assert not {name.lower() for name in SYNONYMS} & FORMS.keys()


def test_another_prefix_works_the_same() -> None:
    """So two pools of a process have variables of their own."""
    environ = {"SHOP_MAX_SIZE": "3", "PGDBPOOL_MAX_SIZE": "9", "PGDBPOOL_NONSENSE": ""}

    shop = find("SHOP_", environ=environ)
    assert shop.values == {"max_size": 3}
    assert shop.origins == {"max_size": "SHOP_MAX_SIZE"}
    with pytest.raises(SettingsError, match=r"SHOP_TOTAL: .* mean SHOP_"):
        find("SHOP_", environ={"SHOP_TOTAL": "3"})
    with pytest.raises(SettingsError, match="SHOP_MAX_SIZE: must be"):
        find("SHOP_", environ={"SHOP_MAX_SIZE": "x"})
    assert find("DB_", environ={"DB_MAX_SIZE": "3", "DB_PORT": "tcp://a"}).values == {
        "max_size": 3
    }
    with pytest.raises(SettingsError, match="prefix: must not be empty"):
        find("", environ={})


def test_an_empty_variable_is_not_set() -> None:
    """As compose files and shells leave them behind."""
    names = [f"PGDBPOOL_{setting.upper()}" for setting in FORMS]
    names += ["DATABASE_URL", "DB_HOST", "DB_PORT", "IDENTITY_ENABLED"]

    assert found(**dict.fromkeys(names, "")).values == {}
    blank = dict.fromkeys(set(names) - {"PGDBPOOL_PASSWORD"}, "  ")
    assert found(**blank).values == {}


@pytest.mark.parametrize("url", ["://app:a@b@db1/shop", "://app:a/b@db1/shop"])
@pytest.mark.parametrize("name", ["CONNINFO", "ENDPOINTS"])
def test_a_password_that_tears_its_url_apart_is_told(name: str, url: str) -> None:
    """A server is looked for then whose name or port is a part of the password."""
    for text in (f"postgresql{url}", f"postgresql://app:pw@db2/shop postgres{url}"):
        told = refused(**{f"PGDBPOOL_{name}": text})

        assert told.startswith(f"PGDBPOOL_{name}: a host or a database with an @, or")
        assert "percent-encode the credentials: %40 for @, %2F for /" in told
    assert found(PGDBPOOL_CONNINFO="host=@abstract,db1 port=,5433").origins


def test_seconds_that_may_be_none_say_so() -> None:
    """In the message and in the manual."""
    assert str(FORMS["timeout"]) == f"{SECONDS}, or `none`"
    assert "or none, not 'soon'" in refused(PGDBPOOL_TIMEOUT="soon")
    assert "none" not in refused(PGDBPOOL_PING_TIMEOUT="soon")

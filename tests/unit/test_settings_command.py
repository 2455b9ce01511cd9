"""``pgdbpool settings`` prints each value that holds, and where it came from."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pgdbpool import ConnectionPool
from pgdbpool.commands import effective
from pgdbpool.commands.group import command
from pgdbpool.environment.forms import FORMS
from tests import fresh
from tests.unit.environments import SINGLETON, clear

ENVIRON = {
    "DATABASE_URL": "postgresql://app:pw@db1,db2/shop",
    "DB_HOST": "db3",
    "PGPORT": "6432",
    "PGSSLMODE": "require",
    "PGDBPOOL_MAX_SIZE": "8",
    "PGDBPOOL_TIMEOUT": "2.0",
    "PGDBPOOL_NAME": "[bold]shop",
    "PGDBPOOL_BALANCE": "weighted",
    "PGDBPOOL_WEIGHTS": "db1=2, db2=1",
    "PGDBPOOL_MAX_LAG": "NONE",
    "PGDBPOOL_CHECK": "builtins:print",
}
SNAPSHOT = """\
setting          value                                                origin
conninfo         host=db1,db2 user=app dbname=shop password=********  DATABASE_URL
password         none                                                 default
min_size         1                                                    default
max_size         8                                                    PGDBPOOL_MAX_SIZE
timeout          2                                                    PGDBPOOL_TIMEOUT
autocommit       false                                                default
max_waiting      0                                                    default
max_lifetime     3600                                                 default
max_idle         600                                                  default
reset            rollback                                             default
kwargs           none                                                 default
via              direct                                               default
name             [bold]shop                                           PGDBPOOL_NAME
threaded         true                                                 default
grace            2                                                    default, by timeout
ping_timeout     1                                                    default, by timeout
ping_idle        0                                                    default
order            lifo                                                 default
endpoints        none                                                 default
balance          weighted                                             PGDBPOOL_BALANCE
weights          db1=2,db2=1                                          PGDBPOOL_WEIGHTS
max_lag          none                                                 PGDBPOOL_MAX_LAG
configure        none                                                 default
check            builtins:print                                       PGDBPOOL_CHECK
open             true                                                 default
shared_limit     none                                                 default
observe          false                                                default
sql_comments     false                                                default
leak_warn_after  none                                                 default

endpoint 1  as libpq sees it  origin
host        db1               DSN
port        6432              PGPORT
user        app               DSN
dbname      shop              DSN
sslmode     require           PGSSLMODE
password    ********          DSN

endpoint 2  as libpq sees it  origin
host        db2               DSN
port        6432              PGPORT
user        app               DSN
dbname      shop              DSN
sslmode     require           PGSSLMODE
password    ********          DSN

warning: DB_HOST: not used, the database is from DATABASE_URL
"""  # noqa: E501 - the output is as wide


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(effective, "_me", lambda: "me")
    monkeypatch.setattr(sys, "path", [*sys.path])


def run(*given: str, **environ: str) -> Result:
    """Run the command in an environment."""
    return CliRunner().invoke(command, ["settings", *given], env=environ)


def lines(*given: str, **environ: str) -> dict[str, list[str]]:
    """Return what is said of each setting and of the first endpoint, by its name."""
    result = run(*given, **environ)
    assert result.exit_code == 0, result.output
    rows = [line.rstrip().split(maxsplit=1) for line in result.output.splitlines()]
    return {row[0]: re.split(" {2,}", row[1]) for row in rows if row}


def as_json(*given: str, **environ: str) -> dict[str, Any]:
    """Return what is said as JSON."""
    result = run("--json", *given, **environ)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.output)
    return told


def test_it_prints_each_value_and_its_origin() -> None:
    """Row 36: effective values, origins, warnings; secrets masked."""
    result = run(**ENVIRON)

    printed = "\n".join(line.rstrip() for line in result.output.splitlines())
    assert printed == SNAPSHOT.rstrip()
    assert result.exit_code == 0


def test_it_prints_as_json_what_a_pool_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the values as they are, not as they are written."""
    told = as_json(**ENVIRON)

    for name, text in ENVIRON.items():
        monkeypatch.setenv(name, text)
    settings = ConnectionPool.from_env().settings
    values = {name: part["value"] for name, part in told["settings"].items()}
    assert values.keys() == FORMS.keys() | {"kwargs"}
    for name in values.keys() - {"conninfo", "check"}:
        assert values[name] == getattr(settings, name), name
    assert told["settings"]["max_size"]["origin"] == "PGDBPOOL_MAX_SIZE"
    assert [one["host"]["value"] for one in told["endpoints"]] == ["db1", "db2"]
    assert told["warnings"] == ["DB_HOST: not used, the database is from DATABASE_URL"]


def test_what_is_wrong_is_an_error_and_nothing_is_printed() -> None:
    """The exit status is 1, so that a deployment can ask."""
    result = run(PGDBPOOL_MAX_SISE="3")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: PGDBPOOL_MAX_SISE: unknown variable; did you mean PGDBPOOL_MAX_SIZE?\n"
    )


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PGDBPOOL_MAX_SIZE": "0"}, "PGDBPOOL_MAX_SIZE: must be at least 1, not 0"),
        ({"PGDBPOOL_WEIGHTS": "db9=1"}, "PGDBPOOL_WEIGHTS: 'db9' is no endpoint"),
        ({"PGDBPOOL_CONNINFO": "connect_timeout=x"}, "must be whole seconds"),
        ({"DB_HOST": "db1"}, "Variables are missing: DB_USER, DB_NAME"),
    ],
)
def test_all_that_the_constructor_refuses_is_found(
    environ: dict[str, str], words: str
) -> None:
    """Not only what stands in a single variable."""
    result = run(**environ)

    assert result.exit_code == 1
    assert words in result.stderr


def test_two_lists_of_endpoints_are_shown_one_below_the_other() -> None:
    """Masked, each."""
    urls = "postgresql://a:pw@db1 postgresql://a:pw@db2"

    result = run(PGDBPOOL_ENDPOINTS=urls, PGDBPOOL_CONNINFO="dbname=shop")

    first = "endpoints        host=db1 user=a password=********  PGDBPOOL_END"
    assert first in result.output
    assert "\n                 host=db2 user=a password=********" in result.output


def test_a_setting_is_read_by_another_prefix() -> None:
    """For each pool of an application."""
    assert lines("--prefix", "SHOP_", SHOP_MAX_SIZE="3")["max_size"] == [
        "3",
        "SHOP_MAX_SIZE",
    ]


def test_a_dotenv_file_is_read_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is named, or the nearest."""
    path = tmp_path / ".env"
    path.write_text("PGDBPOOL_MAX_SIZE=3\nPGHOST=db1")
    monkeypatch.chdir(tmp_path)

    assert lines()["max_size"] == ["20", "default"]
    for given in (["--dotenv", str(path)], ["--dotenv"]):
        told = lines(*given)
        assert told["max_size"] == ["3", f"PGDBPOOL_MAX_SIZE in {path}"]
        assert told["host"] == ["local socket", "default"]
    missing = run("--dotenv", "nowhere")
    assert missing.exit_code == 1
    assert "dotenv: cannot read nowhere" in missing.stderr
    monkeypatch.setitem(sys.modules, "dotenv", None)
    assert "pip install 'pgdbpool[dotenv]'" in run("--dotenv").stderr


def test_a_hook_is_found_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gunicorn would find it there."""
    (tmp_path / "hooks_of_a_shop.py").write_text("def check(conn): pass")
    monkeypatch.chdir(tmp_path)

    told = lines(PGDBPOOL_CHECK="hooks_of_a_shop:check")

    assert told["check"] == ["hooks_of_a_shop:check", "PGDBPOOL_CHECK"]


DEFAULTS = {
    "host": ["local socket", "default"],
    "port": ["5432", "default"],
    "user": ["me", "default"],
    "dbname": ["me", "default"],
    "sslmode": ["prefer", "default"],
    "password": ["none", "default"],
}


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({}, {}),
        (
            {"PGHOST": "db1", "PGUSER": "app", "PGPASSWORD": "pw"},
            {
                "host": ["db1", "PGHOST"],
                "user": ["app", "PGUSER"],
                "dbname": ["app", "PGUSER"],
                "password": ["********", "PGPASSWORD"],
            },
        ),
        (
            {
                "PGDBPOOL_CONNINFO": "hostaddr=::1 port=1 passfile=/run/pw",
                "PGPORT": "2",
            },
            {
                "host": ["::1", "DSN"],
                "port": ["1", "DSN"],
                "password": ["as /run/pw says", "DSN"],
            },
        ),
        ({"PGPASSFILE": "/run/p"}, {"password": ["as /run/p says", "PGPASSFILE"]}),
        (
            {"PGDBPOOL_PASSWORD": "pw", "PGPASSWORD": "other"},
            {"password": ["********", "password"]},
        ),
        (
            {"PGDBPOOL_CONNINFO": "service=shop host=db1", "PGUSER": "x"},
            {
                "host": ["db1", "DSN"],
                **{
                    key: ["as the service says", "service shop"]
                    for key in ("port", "user", "dbname", "sslmode", "password")
                },
                "service": ["shop", "DSN"],
            },
        ),
    ],
)
def test_an_endpoint_is_shown_as_libpq_sees_it(
    environ: dict[str, str], seen: dict[str, list[str]]
) -> None:
    """The DSN, then its service, then its variables, then its defaults."""
    assert as_json(**environ)["endpoints"] == [
        {
            name: {"value": None if value == "none" else value, "origin": origin}
            for name, (value, origin) in {**DEFAULTS, **seen}.items()
        }
    ]


def test_a_password_file_at_its_usual_place_is_seen(tmp_path: Path) -> None:
    """Its lines are not looked at."""
    (tmp_path / ".pgpass").write_text("*:*:*:*:s3cret")

    assert lines()["password"] == ["as ~/.pgpass says", "default"]


def test_a_user_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any number; libpq then wants a user."""
    monkeypatch.undo()
    clear(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)

    assert lines()["user"] == ["none, this uid has no name", "default"]


class Identity:
    """Stands for the provider of Azure."""

    def credential(self) -> str:
        """Return a token."""
        return "t0ken"


def test_where_a_password_is_fetched_from_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the name of the provider; nothing is fetched."""
    monkeypatch.setattr("pgdbpool.environment.finding.azure_identity", Identity)

    told = as_json(**SINGLETON, IDENTITY_ENABLED="yes")

    assert told["settings"]["password"] == {
        "value": "Identity",
        "origin": "IDENTITY_ENABLED",
    }
    assert told["endpoints"][0]["password"]["value"] == "Identity"
    assert told["endpoints"][0]["host"] == {"value": "db1", "origin": "DSN"}


def main(*given: str, without: str) -> fresh.Ended:
    """Run the program in a Python where a module is not to be had."""
    return fresh.run("from pgdbpool.cli import main; main()", *given, without=[without])


def test_it_needs_nothing_that_only_the_demo_needs() -> None:
    """It is for production."""
    ended = main("settings", "--json", without="psutil")

    assert ended.stderr == ""
    assert json.loads(ended.stdout)["settings"]["max_size"]["value"] == 20


@pytest.mark.parametrize(
    ("given", "missing", "extra"),
    [
        ("settings", "click", "cli"),
        ("settings", "rich", "cli"),
        ("demo", "psutil", "demo"),
        ("demo", "prometheus_client", "demo"),
        ("demo", "click", "demo"),
    ],
)
def test_what_a_command_needs_is_told_in_one_line(
    given: str, missing: str, extra: str
) -> None:
    """With what to install."""
    ended = main(given, without=missing)

    assert ended.returncode == 1
    assert ended.stderr == (
        f"the command pgdbpool needs more: pip install 'pgdbpool[{extra}]'\n"
    )


def test_the_package_is_the_same_command() -> None:
    """For whoever has it on the path of no shell."""
    ended = subprocess.run(
        [sys.executable, "-m", "pgdbpool", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ended.stdout.startswith("pgdbpool, version ")


def test_a_command_that_does_not_exist_is_bad_usage() -> None:
    """And help lists those that do."""
    assert CliRunner().invoke(command, ["nonsense"]).exit_code == 2
    told = CliRunner().invoke(command, ["--help"]).output
    assert "demo" in told
    assert "settings" in told

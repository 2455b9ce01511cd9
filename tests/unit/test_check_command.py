"""``pgdbpool check``: what it prints, with which status it ends, what it never says."""

import dataclasses
import json
import re
import secrets
import sys
import threading
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from pgdbpool.auth.provider import Credential
from pgdbpool.commands import check as command_check
from pgdbpool.commands.group import command
from pgdbpool.doctor.examining import examine, together
from pgdbpool.doctor.facts import Trouble
from pgdbpool.doctor.findings import Finding, Severity
from pgdbpool.endpoint import names
from tests import fresh
from tests.documentation import ROOT, table
from tests.unit.environments import clear
from tests.unit.scripted_servers import PLAN, diagnosed, primary, settings, standby

NOWHERE = "host=/nonexistent"
# So that a part of it is noticed as well.
SECRET = f"s3cr:t@{secrets.token_hex(8)}/ '\\{secrets.token_hex(8)}"
PARTS = tuple(part for part in re.split("[@/ '\\\\]+", SECRET) if part)
QUOTED = SECRET.replace("\\", "\\\\").replace("'", "\\'")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])


def run(*given: str, **environ: str) -> Result:
    """Run the command in an environment."""
    return CliRunner().invoke(command, ["check", *given], env=environ)


def test_a_server_that_cannot_be_reached_is_wrong() -> None:
    """Said plainly, with the exit status 1."""
    result = run(NOWHERE)

    assert result.exit_code == 1
    assert "/nonexistent:5432  unreachable" in result.output
    assert "it cannot be reached: connection to server on socket" in result.output
    assert "Look whether the server runs" in result.output
    assert "Traceback" not in result.output


def test_without_an_argument_it_is_the_pool_of_the_environment() -> None:
    """And what is given says how large its service is."""
    environ = {"PGDBPOOL_CONNINFO": NOWHERE, "PGDBPOOL_MAX_SIZE": "5"}
    result = run("--hosts", "2", "--workers", "3", **environ)
    assert "2 hosts x 3 workers x 5 connections = 30" in result.output
    result = run("--max-size", "7", **environ)
    assert "1 host x 1 worker x 7 connections = 7" in result.output
    result = run("--prefix", "SHOP_", SHOP_CONNINFO="host=/nonexistent/shop")
    assert "/nonexistent/shop:5432" in result.output


def test_an_argument_goes_before_all_places_of_the_environment() -> None:
    """Which are warned of: a DSN, several endpoints, a URL."""
    result = run(
        "--json",
        NOWHERE,
        DATABASE_URL="postgresql://db9",
        PGDBPOOL_ENDPOINTS="host=db7 host=db8",
    )
    told = json.loads(result.stdout)
    assert [one["name"] for one in told["endpoints"]] == ["/nonexistent:5432"]
    assert told["warnings"] == [
        "PGDBPOOL_ENDPOINTS: not used, endpoints is from an argument",
        "DATABASE_URL: not used, the database is from an argument",
    ]


def test_several_arguments_are_the_servers_of_one_pool() -> None:
    """Each is told; as one cluster none of them is the primary."""
    result = run("--json", NOWHERE, f"{NOWHERE} port=5433")
    told = json.loads(result.stdout)
    assert [one["name"] for one in told["endpoints"]] == [
        "/nonexistent:5432",
        "/nonexistent:5433",
    ]
    refused = run("dbname=a", "dbname=b")
    assert refused.exit_code == 1
    assert "these are different databases" in refused.stderr


def test_json_has_what_the_documentation_says() -> None:
    """Fact by fact, and nothing else."""
    result = run("--json", NOWHERE)

    assert result.exit_code == 1
    told = json.loads(result.stdout)
    manual = ROOT / "doc" / "doctor.md"
    keys = [name.strip("`") for name, *_ in table(manual, "key")]
    assert list(told) == keys
    (endpoint,) = told["endpoints"]
    facts = [name.strip("`") for name, *_ in table(manual, "fact")]
    assert list(endpoint) == facts
    (finding,) = endpoint["findings"]
    assert list(finding) == [field.name for field in dataclasses.fields(Finding)]
    assert (finding["code"], finding["severity"]) == ("reach", "wrong")
    assert told["severity"] == "wrong"
    assert told["plan"] == {
        "hosts": 1,
        "workers": 1,
        "threads": None,
        "size": 20,
        "total": None,
        "needed": 20,
    }


def test_the_documentation_has_the_code_of_each_rule() -> None:
    """With what makes it wrong or a warning."""
    codes = {name.strip("`") for name, *_ in table(ROOT / "doc" / "doctor.md", "code")}
    seen = [
        primary(silent_addresses=["::1"], hosts=["a", "b"]),
        standby(started="db1:5432"),
    ]
    plan = dataclasses.replace(PLAN, total=8)
    found = {finding.code for finding in diagnosed(seen, plan).all_findings}
    assert codes == {*found, "settings"}


@pytest.mark.parametrize(
    ("severity", "status"),
    [(Severity.FINE, 0), (Severity.WARNING, 0), (Severity.WRONG, 1)],
)
def test_the_exit_status_tells_whether_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, severity: Severity, status: int
) -> None:
    """A warning is none."""
    facts = {
        Severity.FINE: primary(),
        Severity.WARNING: primary(superuser=True),
        Severity.WRONG: primary(max_connections=4),
    }[severity]
    monkeypatch.setattr(command_check, "diagnose", lambda *_: diagnosed([facts]))
    assert run().exit_code == run("--json").exit_code == status


def test_an_interrupt_ends_it_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the status that shells have for it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_check, "diagnose", interrupted)
    result = run(NOWHERE)
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (["postgresql://app:p@ss@db1/shop"], 1, "percent-encode the credentials"),
        (["mydb"], 1, "neither a DSN nor a URL"),
        (["host=/nonexistent connect_timeout=x"], 1, "must be whole seconds"),
        (["host=/nonexistent sslmode=no"], 1, "invalid sslmode value"),
        (["host=/nonexistent target_session_attrs=no"], 1, "libpq has no 'no'"),
        ([NOWHERE, NOWHERE], 1, "the same server is named twice"),
        (["--workers", "0"], 2, "0 is not in the range"),
        (["--timeout", "nan"], 2, "must be a number of seconds"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_bad_input_is_told_plainly(given: list[str], status: int, words: str) -> None:
    """Without a traceback, and as JSON where that is asked for."""
    result = run(*given)

    assert result.exit_code == status
    assert words in result.output
    assert "Traceback" not in result.output
    if status == 1:
        told = json.loads(run("--json", *given).stdout)
        found = [one for place in told["endpoints"] for one in place["findings"]]
        assert [one for one in found + told["findings"] if words in one["text"]]
        assert told["severity"] == "wrong"


def test_json_of_a_wrong_setting_is_the_same_object() -> None:
    """With nothing examined; people read of it on the other stream as well."""
    result = run("--json", NOWHERE, PGDBPOOL_MAX_SISE="3")
    told = json.loads(result.stdout)
    assert list(told) == list(json.loads(run("--json", NOWHERE).stdout))
    assert (told["plan"], told["endpoints"], told["warnings"]) == (None, [], [])
    (finding,) = told["findings"]
    assert finding["code"] == "settings"
    assert finding["text"].startswith("PGDBPOOL_MAX_SISE: unknown variable")
    assert result.stderr.startswith("Error: PGDBPOOL_MAX_SISE: unknown variable")


def test_settings_are_checked_as_by_a_pool() -> None:
    """By the names of their variables."""
    result = run(NOWHERE, PGDBPOOL_MAX_SISE="3")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PGDBPOOL_MAX_SISE: unknown variable")
    result = run(NOWHERE, PGDBPOOL_TOTAL="many")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PGDBPOOL_TOTAL: must be a whole number")


@pytest.mark.parametrize(
    ("given", "environ"),
    [
        ([f"{NOWHERE} password='{QUOTED}'"], {}),
        ([f"host=/nonexistent,/nowhere password='{QUOTED}'"], {}),
        ([f"{NOWHERE} password='{QUOTED}"], {}),
        ([f"{NOWHERE} password={SECRET}"], {}),
        ([f"{NOWHERE} sslpassword='{QUOTED}' sslmode=no"], {}),
        ([f"postgresql://app:{SECRET}@%2Fnonexistent/shop"], {}),
        ([f"postgresql://app:{quote(SECRET, '')}@%2Fnonexistent/shop"], {}),
        ([f"password='{QUOTED}'", f"dbname=a password='{QUOTED}'"], {}),
        ([f"postgresql://app:12?sslmode=x/{PARTS[1]}@%2Fnonexistent/shop"], {}),
        ([f"postgresql://app:12/b?sslmode=x{PARTS[1]}@%2Fnonexistent/shop"], {}),
        ([f"postgresql://app:12?options=x/{PARTS[1]}@%2Fnonexistent/shop"], {}),
        ([f"postgresql://app:x@1?connect_timeout={PARTS[1]}/34@db/shop"], {}),
        ([NOWHERE], {"PGHOST": f"postgresql://app:{SECRET}@db1/shop"}),
        ([], {"PGHOST": f"postgresql://app:{PARTS[1]}@db1/shop"}),
        ([], {"PGSERVICE": f"postgresql://app:{PARTS[1]}@db1/shop"}),
        ([NOWHERE], {"PGDBPOOL_PASSWORD": SECRET}),
        ([NOWHERE], {"PGPASSWORD": SECRET}),
        ([f"{NOWHERE} password=other"], {"PGDBPOOL_PASSWORD": SECRET}),
        ([], {"DATABASE_URL": f"postgresql://app:{SECRET}@%2Fnonexistent/shop"}),
        (
            [],
            {
                "DB_HOST": "/nonexistent",
                "DB_USER": "app",
                "DB_NAME": "a",
                "DB_PASSWORD": SECRET,
            },
        ),
    ],
)
def test_a_password_is_never_shown(given: list[str], environ: dict[str, str]) -> None:
    """Row 38: nor a part of it, whatever is wrong."""
    for more in ([], ["--json"]):
        result = run("--timeout", "2", *given, *more, **environ)
        assert result.exit_code == 1
        for part in PARTS:
            assert part not in result.output
        assert "Traceback" not in result.output


def test_what_a_server_repeats_of_a_password_is_masked() -> None:
    """Also of one that a provider has fetched."""
    for given in (
        {"password": f"/{SECRET}"},
        {"password": lambda: Credential(f"/{SECRET}")},
    ):
        # A socket's directory of that name: it is in the error.
        (facts,) = examine(settings(kwargs={"host": f"/{SECRET}"}, **given), 5.0)
        assert facts.trouble is Trouble.UNREACHABLE
        assert "********" in (facts.error or "")
        assert SECRET not in (facts.error or "")


def test_a_provider_that_fails_is_told_by_its_name() -> None:
    """No login was tried."""

    def from_the_vault() -> str:
        raise OSError("sealed")

    (facts,) = examine(
        settings(kwargs={"host": "/nonexistent"}, password=from_the_vault), 5.0
    )
    assert facts.trouble is Trouble.CREDENTIALS
    assert "from_the_vault failed: OSError: sealed" in (facts.error or "")


def test_a_provider_that_is_silent_is_waited_for_no_longer_than_a_server() -> None:
    """It is said who is silent."""
    go_on = threading.Event()

    def slow() -> str:
        go_on.wait(30.0)
        return "late"

    try:
        given = settings(kwargs={"host": "/nonexistent"}, password=slow)
        (facts,) = examine(given, 0.1)
        assert facts.trouble is Trouble.CREDENTIALS
        assert facts.error == "asking the password provider took longer than 0.1 s"
    finally:
        go_on.set()


def test_a_resolver_that_is_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the server's fault."""
    go_on = threading.Event()

    def resolve(_: str) -> frozenset[str]:
        go_on.wait(30.0)
        return frozenset()

    monkeypatch.setattr(names, "addresses", resolve)
    try:
        (facts,) = examine(settings(kwargs={"host": "db1.invalid"}), 0.1)
        assert facts.trouble is Trouble.SILENT
        assert facts.error == "resolving the name took longer than 0.1 s"
    finally:
        go_on.set()


def test_a_name_that_does_not_exist_is_told_by_libpq() -> None:
    """Nobody can be reached there."""
    name = "x" * 64  # longer than a name can be, so that nobody is asked
    result = run(f"host={name}")
    assert result.exit_code == 1
    assert f"{name}:5432  unreachable" in result.output
    assert f'could not translate host name "{name}"' in result.output


def test_what_a_terminal_would_obey_is_not_passed_on() -> None:
    """Whoever listens there could have said it."""
    (facts,) = examine(settings(kwargs={"host": "/no\x1b[2Jwhere"}), 5.0)
    assert "/no?[2Jwhere" in (facts.error or "")


@pytest.mark.parametrize(
    ("without", "status", "said"),
    [
        ("psutil", 1, ""),
        ("gunicorn", 1, ""),
        (
            "rich",
            1,
            "the command pgdbpool needs more: pip install 'pgdbpool[cli]'\n",
        ),
    ],
)
def test_it_needs_what_it_prints_with_and_no_more(
    without: str, status: int, said: str
) -> None:
    """It is for production."""
    program = "from pgdbpool.cli import main; main()"
    ended = fresh.run(program, "check", "--json", NOWHERE, without=[without])
    assert (ended.returncode, ended.stderr) == (status, said)
    assert not said or ended.stdout == ""


def test_who_is_not_back_in_time_is_left_behind() -> None:
    """And the others are not waited for one after the other."""
    go_on = threading.Event()
    begun_at = monotonic()
    tasks = [lambda: go_on.wait(30.0), lambda: True, lambda: go_on.wait(30.0)]
    try:
        assert together(tasks, begun_at + 0.2) == [None, True, None]
    finally:
        go_on.set()
    assert monotonic() - begun_at < 20.0

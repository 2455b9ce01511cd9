"""What `pgdbpool check` says of real servers, and the servers to say it of."""

import io
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from psycopg2.extensions import connection, make_dsn, parse_dsn
from rich.console import Console

from pgdbpool.commands import check
from pgdbpool.commands.group import command
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.doctor.asking import NAME
from pgdbpool.doctor.diagnosis import Diagnosis, diagnose
from pgdbpool.doctor.table import show
from pgdbpool.endpoint import names
from tests.asking import ask
from tests.observer import backends, observe
from tests.unit.environments import clear
from tests.waiting import until

# Neither JSON nor a line that is folded changes them; so each is noticed alone.
PARTS = (secrets.token_hex(8), secrets.token_hex(8))
PASSWORD = f"s3cr:t@{PARTS[0]}/ '\\{PARTS[1]}"
SOUND = """
    CREATE ROLE shop LOGIN;
    ALTER ROLE shop SET statement_timeout = '30s';
    ALTER ROLE shop SET lock_timeout = '5s';
    ALTER ROLE shop SET idle_in_transaction_session_timeout = '60s';
"""
WIDTHS = (80, 1000)


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing but the test say where the servers are."""
    clear(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(name="admin")
def given_admin(private_server: EmbeddedPostgres) -> Iterator[connection]:
    """Give a connection of a superuser to the server with the role `shop`."""
    with observe(private_server.dsn()) as admin:
        ask(admin, SOUND)
        yield admin
        until(lambda: not backends(admin, NAME), message="the doctor has gone")


@pytest.fixture(name="shop")
def given_shop(private_server: EmbeddedPostgres, admin: connection) -> str:
    """Give the DSN of a sound application."""
    del admin
    return private_server.dsn(user="shop")


@pytest.fixture(scope="module", name="guarded_server")
def given_guarded_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password=PASSWORD) as server:
        yield server


@pytest.fixture(name="leads_to")
def given_leads_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give what makes a name lead to some addresses."""

    def lead(*addresses: str) -> None:
        monkeypatch.setattr(names, "addresses", lambda _: frozenset(addresses))

    return lead


def bare(server: EmbeddedPostgres) -> str:
    """Return the DSN of a server without its password."""
    given = parse_dsn(server.dsn())
    del given["password"]
    return str(make_dsn(None, **given))


def port_of(dsn: str) -> int:
    """Return the port that a DSN names."""
    return int(parse_dsn(dsn)["port"])


class Told:
    """What the command has said, and its exit status.

    Attributes:
        status: that.
        all: what it has said as JSON.
        endpoints: of that, the servers.
        tables: what it would have said to terminals of `WIDTHS`.
    """

    def __init__(self, *given: str, **environ: str) -> None:
        found: list[Diagnosis] = []

        def noting(*of: Any) -> Diagnosis:  # noqa: ANN401 - as `diagnose`
            found.append(diagnose(*of))
            return found[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, "diagnose", noting)
            result = CliRunner().invoke(
                command, ["check", "--json", *given], env=environ
            )
        self.tables = [_table(one, width) for one in found for width in WIDTHS]
        for part in (PASSWORD, *PARTS):
            assert part not in result.output + "".join(self.tables)
        assert "Traceback" not in result.output
        self.status = result.exit_code
        self.all: dict[str, Any] = json.loads(result.stdout)
        self.endpoints: list[dict[str, Any]] = self.all["endpoints"]

    @property
    def findings(self) -> list[dict[str, str]]:
        """All that was found."""
        found = [one for place in self.endpoints for one in place["findings"]]
        return [*found, *self.all["findings"]]

    @property
    def troubles(self) -> dict[str, str]:
        """The codes of all that is not fine, with how bad it is."""
        return {
            one["code"]: one["severity"]
            for one in self.findings
            if one["severity"] != "fine"
        }

    def text(self, code: str) -> str:
        """Return what the first finding of a rule says."""
        return self._first(code)["text"]

    def advice(self, code: str) -> str:
        """Return what the first finding of a rule says what to do."""
        return self._first(code)["advice"]

    def _first(self, code: str) -> dict[str, str]:
        return next(one for one in self.findings if one["code"] == code)


def _table(diagnosis: Diagnosis, width: int) -> str:
    out = io.StringIO()
    show(Console(file=out, width=width, markup=False), diagnosis, [])
    assert max(map(len, out.getvalue().splitlines())) <= width
    return out.getvalue()

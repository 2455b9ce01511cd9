"""No secret is in any error, log line, repr or output, wherever it stands."""

import logging
import secrets
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.commands.group import command
from pgdbpool.environment import find
from pgdbpool.environment.forms import FORMS
from tests.unit.environments import SINGLETON, clear

# A new one for each run, so that it is found nowhere by chance.
SECRET = f"s3cr3t{secrets.token_hex(8)}"
URL = f"postgresql://app:{SECRET}@db1:5432/shop"
SECOND = f"postgresql://app:{SECRET}@db2:5432/shop"
DSN = f"host=db1 password={SECRET}"
OWN = [f"PGDBPOOL_{setting.upper()}" for setting in FORMS]

RIGHT = {
    "dsn": {"PGDBPOOL_CONNINFO": DSN},
    "quoted": {"PGDBPOOL_CONNINFO": f"host=db1 password='{SECRET} x{SECRET}'"},
    "url": {"PGDBPOOL_CONNINFO": URL},
    "parameter": {"PGDBPOOL_CONNINFO": f"postgresql://db1/shop?password={SECRET}"},
    "key": {"PGDBPOOL_CONNINFO": f"host=db1 sslpassword={SECRET}"},
    "options": {"PGDBPOOL_CONNINFO": f"host=db1 options='-c app.key={SECRET}'"},
    "urls": {"PGDBPOOL_CONNINFO": f"{URL} {SECOND}"},
    "endpoints": {"PGDBPOOL_ENDPOINTS": f"{URL} {SECOND}"},
    "password": {"PGDBPOOL_PASSWORD": SECRET},
    "database url": {"DATABASE_URL": URL},
    "singleton": {**SINGLETON, "DB_PASSWORD": SECRET},
    "libpq": {"PGPASSWORD": SECRET},
    "not used": {"DATABASE_URL": URL, **SINGLETON, "DB_PASSWORD": SECRET},
    "url for a database": {**SINGLETON, "DB_NAME": URL},
    "url for a user": {**SINGLETON, "DB_USER": URL},
    "url for libpq": {"PGDATABASE": URL},
}
WRONG = {
    "dsn": {"PGDBPOOL_CONNINFO": f"host=db1 {SECRET}"},
    "parameter": {"PGDBPOOL_CONNINFO": f"host=db1 pasword={SECRET}"},
    "url": {"PGDBPOOL_CONNINFO": f"{URL}?nonsense={SECRET}"},
    "torn at a slash": {"DATABASE_URL": f"postgresql://app:a/{SECRET}@db1/shop"},
    "torn after a number": {"DATABASE_URL": f"postgresql://app:12/{SECRET}@db1/shop"},
    "torn at an at": {"DATABASE_URL": f"postgresql://app:a@{SECRET}@db1/shop"},
    "another kind": {"DATABASE_URL": f"mysql://app:{SECRET}@db1/shop"},
    "second": {"PGDBPOOL_ENDPOINTS": f"{URL} postgresql://app:a@{SECRET}@db2"},
    "twice": {"PGDBPOOL_ENDPOINTS": f"{URL} {URL}"},
    "two users": {"PGDBPOOL_ENDPOINTS": f"{URL} postgresql://x:{SECRET}@db2/shop"},
    "missing": {"DB_PASSWORD": SECRET},
    "url for a host": {**SINGLETON, "DB_HOST": URL},
    "url for a port": {**SINGLETON, "DB_PORT": URL},
    "identity": {**SINGLETON, "IDENTITY_ENABLED": SECRET},
    "unknown": {"PGDBPOOL_PASSWROD": SECRET},
    "several": {"PGDBPOOL_SECRET": SECRET, "PGDBPOOL_KWARGS": f"password={SECRET}"},
    "beside a mistake": {"PGDBPOOL_CONNINFO": URL, "PGDBPOOL_MAX_SIZE": "0"},
    "weight": {"PGDBPOOL_WEIGHTS": f"{URL}=1"},
}
STRAYED = {
    f"{name} {kind}": {name: text}
    for name in OWN
    for kind, text in {"secret": SECRET, "url": URL, "dsn": DSN}.items()
    if name != "PGDBPOOL_NAME"  # which is there to be seen
}


@pytest.fixture(params=["environment", "file"])
def place(request: pytest.FixtureRequest) -> str:
    """Give where variables stand."""
    return str(request.param)


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> Iterator["Said"]:
    """Give what collects all that is said, and looks through it in the end."""
    clear(monkeypatch)
    caplog.set_level(logging.DEBUG)
    said = Said(monkeypatch, tmp_path / ".env", place)
    yield said
    text = "\n".join([*said.texts, caplog.text])
    assert len(said.texts) > 3
    assert SECRET not in text, text


class Said:
    """All that can be heard of an environment.

    Args:
        patch: sets variables.
        path: of a file to write.
        place: "file", or "environment".
    """

    def __init__(self, patch: pytest.MonkeyPatch, path: Path, place: str) -> None:
        self.texts: list[str] = []
        self._patch = patch
        self._path = path
        self._is_file = place == "file"

    def hear(self, environ: dict[str, str]) -> list[bool]:
        """Ask everybody; return whether each was content."""
        if self._is_file:
            lines = [f"{name}={_quoted(text)}" for name, text in environ.items()]
            self._path.write_text("\n".join(lines))
        else:
            for name, text in environ.items():
                self._patch.setenv(name, text)
        return [self._try_pool(), self._run(), self._run("--json")]

    def _try_pool(self) -> bool:
        dotenv = self._path if self._is_file else False
        try:
            pool = ConnectionPool.from_env(dotenv=dotenv)
            found = find(dotenv=dotenv)
            self.texts += [repr(pool), repr(pool.settings), repr(found)]
        except SettingsError as error:
            self.texts += [str(error), *traceback.format_exception(error)]
            return False
        return True

    def _run(self, *more: str) -> bool:
        given = ["--dotenv", str(self._path)] if self._is_file else []
        ended = CliRunner().invoke(command, ["settings", *given, *more])
        assert ended.exit_code in (0, 1)
        assert isinstance(ended.exception, (SystemExit, type(None)))
        self.texts += [ended.output, ended.stderr]
        return ended.exit_code == 0


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@pytest.mark.parametrize("case", RIGHT)
def test_a_secret_in_its_place_is_not_told(said: Said, case: str) -> None:
    """Everybody is content, and says nothing of it."""
    assert said.hear(RIGHT[case]) == [True] * 3


@pytest.mark.parametrize("case", WRONG)
def test_a_secret_in_something_wrong_is_not_told(said: Said, case: str) -> None:
    """Each says what is wrong, and not with what."""
    assert said.hear(WRONG[case]) == [False] * 3


@pytest.mark.parametrize("place", ["environment"])
@pytest.mark.parametrize("case", STRAYED)
def test_a_secret_in_the_wrong_variable_is_not_told(said: Said, case: str) -> None:
    """Whether or not it can be what it stands for."""
    assert len(set(said.hear(STRAYED[case]))) == 1

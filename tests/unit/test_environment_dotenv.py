"""A ``.env`` file stands below the environment, and only where it is asked for."""

import os
import sys
from pathlib import Path

import pytest

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.environment import find
from tests.unit.environments import clear

TEXT = """
# of the shop
export PGDBPOOL_MAX_SIZE=3
PGDBPOOL_NAME='the shop'
HOST=db1
DATABASE_URL="postgresql://${HOST}/shop"
SECRET_KEY=s3cret
bare
"""


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file."""
    path = tmp_path / ".env"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_file_counts_where_it_is_asked_for(path: Path) -> None:
    """Each value says that it is from there."""
    found = find(dotenv=path, environ={})

    assert found.values == {
        "max_size": 3,
        "name": "the shop",
        "conninfo": "postgresql://db1/shop",
    }
    assert found.origins == {
        "max_size": f"PGDBPOOL_MAX_SIZE in {path}",
        "name": f"PGDBPOOL_NAME in {path}",
        "conninfo": f"DATABASE_URL in {path}",
    }
    assert find(environ={}).values == {}


def test_the_environment_goes_before_the_file(path: Path) -> None:
    """Also where it is empty: so a value of the file can be undone."""
    environ = {"PGDBPOOL_MAX_SIZE": "8", "PGDBPOOL_NAME": "", "DATABASE_URL": ""}

    found = find(dotenv=str(path), environ=environ)

    assert found.values == {"max_size": 8}
    assert found.origins == {"max_size": "PGDBPOOL_MAX_SIZE"}


def test_sources_are_ordered_before_file_and_environment_are(path: Path) -> None:
    """A variable of our own in the file goes before another one in the environment."""
    path.write_text("PGDBPOOL_CONNINFO=host=file")

    found = find(dotenv=path, environ={"DATABASE_URL": "postgresql://env"})

    assert found.values["conninfo"] == "host=file"
    assert found.warnings == [
        f"DATABASE_URL: not used, the database is from PGDBPOOL_CONNINFO in {path}"
    ]


def test_the_environment_is_not_changed(path: Path) -> None:
    """Other libraries of the process find in it what they found before."""
    before = dict(os.environ)

    pool = ConnectionPool.from_env(dotenv=path)

    assert pool.max_size == 3
    assert dict(os.environ) == before


def test_the_nearest_file_upwards_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the working directory on, not from our own code on."""
    below = path.parent / "below" / "deeper"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)

    assert find(dotenv=True, environ={}).values["max_size"] == 3


def test_no_file_is_fine_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is in production."""
    monkeypatch.chdir(tmp_path)

    assert find(dotenv=True, environ={"PGDBPOOL_MAX_SIZE": "2"}).values == {
        "max_size": 2
    }


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """It is named, with the reason; of what it says nothing is told."""
    with pytest.raises(SettingsError, match=r"dotenv: cannot read .*nowhere: No such"):
        find(dotenv=tmp_path / "nowhere", environ={})
    with pytest.raises(SettingsError, match=r"dotenv: cannot read .*: Is a directory"):
        find(dotenv=tmp_path, environ={})
    (tmp_path / "latin").write_bytes(b"DB_PASSWORD=s3cret\xe9")
    with pytest.raises(SettingsError, match="latin is not a text in UTF-8") as caught:
        find(dotenv=tmp_path / "latin", environ={})
    assert "s3cret" not in str(caught.value)


def test_a_wrong_value_of_the_file_is_told_with_the_file(path: Path) -> None:
    """And so is an unknown name."""
    path.write_text("PGDBPOOL_MAX_SIZE=ten")
    with pytest.raises(SettingsError) as caught:
        find(dotenv=path, environ={})
    assert str(caught.value).startswith(f"PGDBPOOL_MAX_SIZE in {path}: must be a whole")
    path.write_text("PGDBPOOL_MAX_SISE=10")
    with pytest.raises(SettingsError) as caught:
        find(dotenv=path, environ={})
    assert str(caught.value).startswith(f"PGDBPOOL_MAX_SISE in {path}: unknown")


def test_what_libpq_would_not_see_is_warned_of(path: Path) -> None:
    """It reads the environment, which the file does not change."""
    lines = ["PGHOST=db1", "PGPASSWORD=s3cret", "PGDBPOOL_TOTAL=5", "PGPORT=", "PATH=x"]
    path.write_text("\n".join(lines))

    found = find(dotenv=path, environ={"PGHOST": "db2"})

    assert found.values == {}
    assert found.warnings == [
        f"{name} in {path}: not used, who reads it sees the environment only"
        for name in ("PGDBPOOL_TOTAL", "PGPASSWORD")
    ]


def test_without_python_dotenv_the_error_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where a file is asked for."""
    monkeypatch.setitem(sys.modules, "dotenv", None)

    assert ConnectionPool.from_env().max_size == 20
    for asked in (True, path):
        with pytest.raises(ImportError, match=r"pip install 'pgdbpool\[dotenv\]'"):
            ConnectionPool.from_env(dotenv=asked)

"""What importing needs, what it does not, and what it says."""

import dataclasses

import pytest

import pgdbpool
from pgdbpool.settings import Settings, SettingsDict
from tests.documentation import HEADINGS
from tests.fresh import run


def test_without_the_driver_one_line_says_what_to_install() -> None:
    """The last line names both extras, and no other error stands above it."""
    ended = run("import pgdbpool", without=("psycopg2",))

    assert ended.returncode == 1
    said = ended.stderr.splitlines()
    assert said[-1].startswith("ImportError: pgdbpool needs the driver psycopg2: ")
    assert "pip install 'pgdbpool[binary]'" in said[-1]
    assert "'pgdbpool[c]'" in said[-1]
    assert sum("Error" in line for line in said if not line.startswith(" ")) == 1


def test_what_is_optional_is_not_needed() -> None:
    """The package works without gunicorn, gevent and all that the demo needs."""
    optional = ("gunicorn", "gevent", "psycogreen", "click", "rich", "pgserver")
    optional += ("dotenv", "itsdangerous")
    program = (
        "import pgdbpool; pool = pgdbpool.ConnectionPool('host=nowhere.invalid'); "
        "pgdbpool.PoolMiddleware(print, pool); pgdbpool.ConnectionPool.from_env(); "
        "print(pool.name)"
    )

    ended = run(program, without=(*optional, "psutil", "typing_extensions"))

    assert ended.stderr == ""
    assert ended.stdout == "pool-1\n"


def test_importing_starts_no_thread() -> None:
    """A process that only imports, such as an arbiter, stays as it was."""
    ended = run("import pgdbpool, _thread; print(_thread._count())", without=())

    assert ended.stdout == "0\n"


@pytest.mark.parametrize("name", pgdbpool.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What `__all__` promises can be imported."""
    assert getattr(pgdbpool, name).__name__ == name


def test_public_names_are_sorted_and_without_double() -> None:
    """The list can be read and compared."""
    assert pgdbpool.__all__ == sorted(set(pgdbpool.__all__))


def test_every_error_is_public() -> None:
    """Whoever wants to catch an error of the package finds it at the top."""
    errors = {
        name
        for name, value in vars(pgdbpool.errors).items()
        if isinstance(value, type) and value.__module__ == "pgdbpool.errors"
    }

    assert errors <= set(pgdbpool.__all__)


def test_keywords_and_settings_have_the_same_names() -> None:
    """What a type checker accepts is what a pool accepts."""
    fields = {field.name for field in dataclasses.fields(Settings)}

    assert set(SettingsDict.__annotations__) == fields - {"conninfo", "explicit"}


def test_every_setting_is_documented() -> None:
    """The manual's table has a line for each setting."""
    for field in dataclasses.fields(Settings):
        if field.name != "explicit":
            assert field.metadata["doc"]
            assert field.metadata["group"] in HEADINGS

"""Where the arbiter finds the database, and a pipe that never blocks."""

import os

import pytest

from pgdbpool.errors import SettingsError
from pgdbpool.gunicorn.pipe import ReaperPipe, settings_of_environ, targets_of
from pgdbpool.settings import Settings


def targets(**environ: str) -> list[dict[str, str]]:
    """Return the parameters of what an environment leads to."""
    settings = settings_of_environ(environ)
    assert settings is not None
    return [one["params"] for one in targets_of(settings, environ)]


@pytest.mark.parametrize(
    ("environ", "params"),
    [
        (
            {"PGDBPOOL_CONNINFO": "host=a", "DATABASE_URL": "postgresql://b"},
            [{"host": "a"}],
        ),
        ({"DATABASE_URL": "postgres://b/shop"}, [{"host": "b", "dbname": "shop"}]),
        ({"PGHOST": "c"}, [{}]),
        ({"PGSERVICE": "shop", "DATABASE_URL": "mysql://d"}, [{}]),
    ],
)
def test_the_environment_says_where_the_database_is(
    environ: dict[str, str], params: list[dict[str, str]]
) -> None:
    """As it does to a pool: our own variable, then the usual ones, then libpq's."""
    assert targets(**environ) == params


def test_each_endpoint_of_the_environment_is_a_target() -> None:
    """Each server has to have room."""
    several = targets(PGDBPOOL_CONNINFO="host=a,b dbname=shop")
    assert [one["host"] for one in several] == ["a", "b"]
    several = targets(PGDBPOOL_ENDPOINTS="postgresql://a postgresql://b:1")
    assert [one["host"] for one in several] == ["a", "b"]


def test_the_environment_says_how_many_connections_a_pool_has() -> None:
    """What is no place or size is not looked at."""
    environ = {"PGHOST": "a", "PGDBPOOL_MAX_SIZE": "7", "PGDBPOOL_CHECK": "no:where"}
    settings = settings_of_environ(environ)
    assert settings is not None
    assert settings.max_size == 7
    assert settings.explicit == {"max_size"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"DATABASE_URL": "mysql://d"},
        {"PGPASSWORD": "x", "PGHOST": ""},
        {"PGDBPOOL_MAX_SIZE": "7"},
        {"DB_HOST": "d", "DB_USER": "u", "DB_NAME": "n"},
    ],
)
def test_an_environment_that_says_nothing_is_no_target(environ: dict[str, str]) -> None:
    """A password alone, or names that any database can have, lead nowhere."""
    assert settings_of_environ(environ) is None


def test_a_dsn_that_does_not_parse_is_not_quoted() -> None:
    """It may hold a password."""
    with pytest.raises(SettingsError) as caught:
        settings_of_environ({"PGDBPOOL_CONNINFO": "host=a secret"})
    assert "secret" not in str(caught.value)


def test_a_pools_target_has_its_parameters_and_libpqs_variables() -> None:
    """The reaper has to log in exactly as the pool does."""
    settings = Settings.of("host=a", {"kwargs": {"password": "p", "port": 1}})
    environ = {"PGUSER": "u", "PGDBPOOL_TOTAL": "5", "HOME": "/"}
    assert targets_of(settings, environ) == [
        {
            "params": {"host": "a", "password": "p", "port": "1"},
            "environ": {"PGUSER": "u"},
        }
    ]


def test_a_password_that_is_a_setting_is_in_each_target() -> None:
    """Whether the pool or its variable has it; no provider is asked for one."""
    settings = Settings.of("host=a,b", {"password": "p"})
    each = [one["params"]["password"] for one in targets_of(settings, {})]
    assert each == ["p", "p"]
    (only,) = targets(PGDBPOOL_CONNINFO="host=a", PGDBPOOL_PASSWORD="p")
    assert only == {"host": "a", "password": "p"}
    settings = Settings.of("host=a", {"password": lambda: 1 / 0})
    assert targets_of(settings, {}) == [{"params": {"host": "a"}, "environ": {}}]


def test_telling_nobody_is_no_error() -> None:
    """There may be no reaper, for want of processes."""
    assert not ReaperPipe().tell(gone="a")


def open_pipe() -> tuple[ReaperPipe, int]:
    """Return a pipe without a process, and its other end."""
    pipe = ReaperPipe()
    source, pipe._fd = os.pipe()
    os.set_blocking(pipe._fd, False)
    return pipe, source


def test_a_full_pipe_does_not_block() -> None:
    """A reaper that hangs holds up nobody."""
    pipe, source = open_pipe()
    assert pipe.tell(gone="a")
    told = [pipe.tell(gone="a" * 1000) for _ in range(10_000)]
    assert not told[-1]
    pipe._close()
    os.close(source)


def test_a_line_that_might_be_torn_apart_is_not_written() -> None:
    """Longer ones could mix with those of other workers."""
    pipe, source = open_pipe()
    assert not pipe.tell(hello="a" * 100_000)
    pipe._close()
    os.close(source)


def test_a_dead_reaper_is_noticed_and_forgotten() -> None:
    """The next start() starts another."""
    pipe, source = open_pipe()
    os.close(source)
    assert not pipe.tell(gone="a")
    assert pipe._fd == -1

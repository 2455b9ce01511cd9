"""Where the arbiter finds the database, and a pipe that never blocks."""

import os

import pytest

from pgdbpool.errors import SettingsError
from pgdbpool.gunicorn.pipe import ReaperPipe, target_of_environ, targets_of
from pgdbpool.settings import Settings


@pytest.mark.parametrize(
    ("environ", "params"),
    [
        ({"PGDBPOOL_DSN": "host=a", "DATABASE_URL": "postgresql://b"}, {"host": "a"}),
        ({"DATABASE_URL": "postgres://b/shop"}, {"host": "b", "dbname": "shop"}),
        ({"PGHOST": "c"}, {}),
        ({"PGSERVICE": "shop", "DATABASE_URL": "mysql://d"}, {}),
    ],
)
def test_the_environment_says_where_the_database_is(
    environ: dict[str, str], params: dict[str, str]
) -> None:
    """Our own variable, then the usual one, then libpq's."""
    target = target_of_environ(environ)
    assert target is not None
    assert target["params"] == params


@pytest.mark.parametrize(
    "environ", [{}, {"DATABASE_URL": "mysql://d"}, {"PGPASSWORD": "x", "PGHOST": ""}]
)
def test_an_environment_that_says_nothing_is_no_target(environ: dict[str, str]) -> None:
    """A password alone or the URL of another database leads nowhere."""
    assert target_of_environ(environ) is None


def test_a_dsn_that_does_not_parse_is_not_quoted() -> None:
    """It may hold a password."""
    with pytest.raises(SettingsError) as caught:
        target_of_environ({"PGDBPOOL_DSN": "host=a secret"})
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

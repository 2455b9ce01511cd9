"""A pool of the environment serves, and libpq's own ways in work untouched."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from pgdbpool import AuthenticationFailed, ConnectionPool, EndpointDown
from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.unit.environments import clear

PASSWORD = "right"


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that wants a password."""
    with EmbeddedPostgres(password=PASSWORD) as server:
        yield server


@pytest.fixture
def place(guarded_server: EmbeddedPostgres) -> dict[str, str]:
    """Give what leads to that server, without the password."""
    params = parse_dsn(guarded_server.dsn())
    return {key: params[key] for key in ("host", "port", "user", "dbname")}


@pytest.fixture
def environ(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[pytest.MonkeyPatch]:
    """Give an environment in which nothing is set, and a home with nothing in it."""
    clear(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield monkeypatch
    monkeypatch.undo()


def answer() -> tuple[str, int, str]:
    """Return whom a pool of the environment is to a server, where, and a setting."""
    before = dict(os.environ)
    with (
        ConnectionPool.from_env(timeout=10.0) as pool,
        pool.connection() as conn,
        conn.cursor() as cur,
    ):
        cur.execute("SELECT current_user, current_setting('work_mem')")
        ((user, memory),) = cur.fetchall()
        port = conn.info.port
    assert dict(os.environ) == before
    return user, port, memory


def write_passfile(path: Path, place: dict[str, str], password: str) -> None:
    """Write a password file as libpq wants it."""
    keys = ("host", "port", "dbname", "user")
    path.write_text(":".join([*(place[key] for key in keys), password]) + "\n")
    path.chmod(0o600)


def url_of(place: dict[str, str]) -> str:
    """Return a URL without a password."""
    return "postgresql://{user}@{host}:{port}/{dbname}".format(**place)


@pytest.mark.parametrize("variable", ["PGDBPOOL_CONNINFO", "DATABASE_URL"])
@pytest.mark.parametrize("where", ["~/.pgpass", "PGPASSFILE", "PGPASSWORD"])
def test_the_password_is_where_libpq_looks_for_it(
    place: dict[str, str],
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    where: str,
) -> None:
    """In its file at the usual place, at another one, or in its variable."""
    environ.setenv(variable, url_of(place))
    with pytest.raises(AuthenticationFailed):
        answer()
    if where == "PGPASSWORD":
        environ.setenv(where, PASSWORD)
    elif where == "PGPASSFILE":
        write_passfile(tmp_path / "secret", place, PASSWORD)
        environ.setenv(where, str(tmp_path / "secret"))
    else:
        write_passfile(tmp_path / ".pgpass", place, PASSWORD)

    assert answer()[:2] == (place["user"], int(place["port"]))


def test_the_singletons_names_find_a_password_file_too(
    place: dict[str, str], environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where DB_PASSWORD is not set; where it is, it counts."""
    names = {"DB_HOST": "host", "DB_PORT": "port", "DB_USER": "user"}
    for name, key in {**names, "DB_NAME": "dbname"}.items():
        environ.setenv(name, place[key])
    write_passfile(tmp_path / ".pgpass", place, PASSWORD)

    assert answer()[:2] == (place["user"], int(place["port"]))
    environ.setenv("DB_PASSWORD", "wrong")
    with pytest.raises(AuthenticationFailed):
        answer()


@pytest.mark.parametrize("by", ["DSN", "PGSERVICE"])
def test_a_service_file_says_what_it_says_to_libpq(
    place: dict[str, str], environ: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    """All of the place, the password and parameters of the session."""
    lines = [f"{key}={text}" for key, text in place.items()]
    lines += [f"password={PASSWORD}", "options=-c work_mem=5MB"]
    path = tmp_path / "services"
    path.write_text("\n".join(["[shop]", *lines, ""]))
    environ.setenv("PGSERVICEFILE", str(path))
    name = "PGDBPOOL_CONNINFO" if by == "DSN" else by
    environ.setenv(name, "service=shop" if by == "DSN" else "shop")

    assert answer() == (place["user"], int(place["port"]), "5MB")


def test_libpqs_variables_alone_are_enough(
    place: dict[str, str], environ: pytest.MonkeyPatch
) -> None:
    """And those of settings apply to the same pool."""
    environ.setenv("PGHOST", place["host"])
    environ.setenv("PGPORT", place["port"])
    environ.setenv("PGUSER", place["user"])
    environ.setenv("PGDATABASE", place["dbname"])
    environ.setenv("PGPASSWORD", PASSWORD)
    environ.setenv("PGOPTIONS", "-c work_mem=6MB")
    environ.setenv("PGDBPOOL_MAX_SIZE", "2")

    assert answer() == (place["user"], int(place["port"]), "6MB")
    with ConnectionPool.from_env() as pool:
        assert pool.max_size == 2


def test_tls_is_demanded_as_libpq_is_told(
    place: dict[str, str], environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The embedded server has none, so that is refused; the DSN goes before it."""
    write_passfile(tmp_path / ".pgpass", place, PASSWORD)
    environ.setenv("DATABASE_URL", url_of(place))
    environ.setenv("PGSSLMODE", "require")

    with pytest.raises(EndpointDown, match="SSL"):
        answer()
    environ.setenv("DATABASE_URL", f"{url_of(place)}?sslmode=disable")
    assert answer()[0] == place["user"]


def test_a_hook_of_the_environment_is_called(
    place: dict[str, str], environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the connection, as an argument's would be."""
    (tmp_path / "hooks_of_this_test.py").write_text(
        "def configure(conn):\n"
        "    with conn.cursor() as cur:\n"
        "        cur.execute(\"SET work_mem = '7MB'\")\n"
        "    conn.commit()\n"
    )
    environ.syspath_prepend(tmp_path)
    environ.setenv("PGDBPOOL_CONFIGURE", "hooks_of_this_test:configure")
    environ.setenv("DATABASE_URL", url_of(place))
    environ.setenv("PGDBPOOL_PASSWORD", PASSWORD)

    assert answer()[2] == "7MB"

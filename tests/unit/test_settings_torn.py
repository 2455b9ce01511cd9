"""A password that tears its URL apart is refused, whichever way the URL comes in."""

import io
import logging
import re
import string
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.compat.dbpool.config import plan_of
from pgdbpool.compat.psycopg2_pool import ThreadedConnectionPool
from pgdbpool.routing.hosts import Params, endpoint_params
from tests.unit.environments import SINGLETON, clear

OTHER = "postgresql://app:pw@db2/shop"
ENCODE = "in a URL, percent-encode the credentials: %40 for @, %2F for /, %25 for %"
RESERVED = ":/?#[]@!$&'()*+,;=% "
# Letters and digits that are in no message of ours, digits because ports have them.
UNHEARD = "QXZ6789"
# Which can be what an escaped character looks like, and is then taken for it.
ESCAPED = re.compile(r"%[\dA-Fa-f]{2}")


def of_environ(name: str, url: str) -> ConnectionPool:
    """Return the pool of an environment in which a variable says this."""
    with pytest.MonkeyPatch.context() as patch:
        clear(patch)
        patch.setenv(name, url)
        return ConnectionPool.from_env()


WAYS: dict[str, Callable[[str], ConnectionPool]] = {
    "conninfo": ConnectionPool,
    "list": lambda url: ConnectionPool([OTHER, url]),
    "endpoints": lambda url: ConnectionPool("user=app", endpoints=[url]),
    "PGDBPOOL_CONNINFO": lambda url: of_environ("PGDBPOOL_CONNINFO", url),
    "PGDBPOOL_ENDPOINTS": lambda url: of_environ("PGDBPOOL_ENDPOINTS", url),
    "DATABASE_URL": lambda url: of_environ("DATABASE_URL", url),
    "psycopg2.pool": lambda url: ThreadedConnectionPool(1, 2, url).pool,
    "without threads": lambda url: ConnectionPool(url, threaded=False),
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the test say where the servers are."""
    clear(monkeypatch)


def params_of(pool: ConnectionPool) -> Params:
    """Return what libpq is told of the last endpoint of a pool."""
    return endpoint_params(pool.settings)[0][-1]


@contextmanager
def log() -> Iterator[io.StringIO]:
    """Collect all that is logged."""
    told = io.StringIO()
    logger, handler = logging.getLogger("pgdbpool"), logging.StreamHandler(told)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def is_whole(params: Params, secret: str) -> bool:
    """Return whether libpq has all of a password, and nothing else of it."""
    return (
        params.items()
        >= {
            "user": "app",
            "password": secret,
            "host": "db1",
            "port": "5433",
            "dbname": "shop",
        }.items()
    )


def pieces(secret: str) -> set[str]:
    """Return all of its parts of four characters, but what could be punctuation."""
    parts = {secret[i : i + 4] for i in range(len(secret) - 3)}
    return {part for part in parts if set(part) & set(UNHEARD)}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150, deadline=None)
@given(secret=st.text(UNHEARD + RESERVED, min_size=4, max_size=24))
@example(secret="QX/Z678QX")
@example(secret="67/Z678QX")
@example(secret="QX@Z678QX")
@example(secret="QX@Z678/QX")
@example(secret="QX@Z678:67")
@example(secret="QX@Z678,QX")
@example(secret="QX@@Z678QX")
@example(secret="QX@Z678?QX")
@example(secret="QX@[Z678]QX")
@example(secret="QXZ678@")
@example(secret="/QXZ678")
@example(secret="67/Z678?QX")
@example(secret="QX%Z678")
@example(secret="67?sslmode=QX/Z678")
@example(secret="67/QX?gssencmode=Z678")
@example(secret="67?connect_timeout=QX/Z678")
@example(secret="67?sslmode=QX&user=Z678/67")
@example(secret="QX@67?sslmode=Z678/67")
@example(secret="67?options=QX/Z678")
def test_an_unescaped_password_is_taken_whole_or_refused_without_a_piece_of_it(
    way: str, secret: str
) -> None:
    """It is not taken for a host, a port or a database, wherever that would be told."""
    assume(not ESCAPED.search(secret))
    with log() as told:
        try:
            pool = WAYS[way](f"postgresql://app:{secret}@db1:5433/shop")
        except SettingsError as error:
            texts = [str(error), *traceback.format_exception(error)]
            is_told = ENCODE in texts[0]
        else:
            texts = [repr(pool), repr(pool.settings), repr(pool.endpoints)]
            is_told = is_whole(params_of(pool), secret)
    assert is_told, texts
    said = "\n".join([*texts, told.getvalue()])
    assert not [piece for piece in pieces(secret) if piece in said], said


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=50, deadline=None)
@given(secret=st.text(string.printable.strip() + "äß€", min_size=1))
def test_an_encoded_password_is_what_it_was(way: str, secret: str) -> None:
    """Whatever is in it."""
    pool = WAYS[way](f"postgres://app:{quote(secret, safe='')}@db1/shop")

    assert params_of(pool)["password"] == secret
    assert params_of(pool)["host"] == "db1"


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("postgresql://", ["local socket:5432"]),
        ("postgresql:///shop", ["local socket:5432"]),
        ("postgresql://app@db1", ["db1:5432"]),
        ("postgresql://app:pw@db1,db2:5433/shop", ["db1:5432", "db2:5433"]),
        ("postgresql://app:pw@[2001:db8::1]:5433/shop", ["2001:db8::1:5433"]),
        ("postgresql://app:pw@[::1],[::2]/shop", ["::1:5432", "::2:5432"]),
        ("postgresql://app:pw@%2Frun%2Fpg/shop", ["/run/pg:5432"]),
        ("postgresql://app:pw@%2Frun%2Fpg%40home/shop", ["/run/pg@home:5432"]),
        ("postgresql:///shop?host=/run/pg@home&port=5433", ["/run/pg@home:5433"]),
        ("postgresql://app:pw@%40abstract/shop", ["@abstract:5432"]),
        ("postgresql://db1/shop?user=app@corp&password=p@w", ["db1:5432"]),
        ("postgresql://app%40corp:pw@db1/shop", ["db1:5432"]),
        ("postgresql://db1/x?user=app@corp&sslrootcert=/home/a@b/c", ["db1:5432"]),
        ("postgresql:///shop?application_name=a@b&host=@abstract", ["@abstract:5432"]),
        ("postgresql://db1/shop?user=app&password=p@w/d", ["db1:5432"]),
        ("postgresql://app:p?w#@db1/shop", ["db1:5432"]),
        ("postgresql://app:pw@db1/shop%40home", ["db1:5432"]),
        (
            "host=@abstract,/run/pg@home port=,5433",
            ["@abstract:5432", "/run/pg@home:5433"],
        ),
        ("host=db1 dbname=shop@home user=app@corp password='a@b/c'", ["db1:5432"]),
    ],
)
def test_what_is_well_formed_is_not_refused(url: str, names: list[str]) -> None:
    """Sockets, addresses, several hosts, an @ where libpq wants it."""
    assert [endpoint.name for endpoint in ConnectionPool(url).endpoints] == names


@pytest.mark.parametrize(
    "dsn", ["host=app:QXZ6@db1", "host=db1 port=QXZ6", "host=db1,QXZ6@db2"]
)
def test_a_dsn_with_a_torn_host_is_refused_too(dsn: str) -> None:
    """As one that a program made of parts of a URL."""
    with pytest.raises(SettingsError, match=r"^conninfo: a host or a database") as told:
        ConnectionPool(dsn)

    assert "QXZ6" not in str(told.value)


def test_the_parts_of_other_apis_are_checked_as_well() -> None:
    """The singleton's names, and the dictionary of pgdbpool 1.x."""
    url = "postgresql://app:QXZ6@db1/shop"
    db = {"host": url, "name": "shop", "user": "app", "pass": "QXZ6"}
    groups = {"g": {"connection_count": 1, "autocommit": True}}
    plan = plan_of({"db": db, "groups": groups}).groups["g"]

    with pytest.raises(SettingsError, match=r"^conninfo: a host or") as told:
        ConnectionPool(list(plan.conninfo), **plan.given)
    assert "QXZ6" not in str(told.value)
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {**SINGLETON, "DB_HOST": url}.items():
            patch.setenv(name, text)
        with pytest.raises(SettingsError, match=r"^DB_HOST, DB_USER, .*: a ho") as told:
            ConnectionPool.from_env()
    assert "QXZ6" not in str(told.value)


@pytest.mark.parametrize("url", ["postgresql://:QXZ6789/shop", "app:QXZ6789@db1"])
@pytest.mark.parametrize("way", ["PGHOST", "host", "one of several"])
def test_a_url_in_the_place_of_a_host_is_refused(
    way: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint goes by its host, in the log and in errors."""
    kwargs: dict[str, object] = {}
    if way == "PGHOST":
        monkeypatch.setenv("PGHOST", url)
    else:
        kwargs = {"host": url if way == "host" else f"db2,{url}"}
    with pytest.raises(SettingsError, match="is a URL") as caught:
        ConnectionPool(kwargs=kwargs)
    assert "QXZ6789" not in str(caught.value)

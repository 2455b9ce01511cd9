"""Configurations of pgdbpool 1.x for the tests, and what its extension offers."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from psycopg2.extensions import connection, parse_dsn

from pgdbpool.compat.dbpool import Connection, Handler
from tests.asking import ask
from tests.soundness import assert_at_rest
from tests.unit.environments import clear

Config = dict[str, Any]

ORIGINS = "tests.integration.origins"

# Our own, and smaller than the extension's; values are quoted.
EXTENSION = """
CREATE SCHEMA "SQLPrepare";
CREATE TABLE "SQLPrepare"."Query" ("QueryID" varchar PRIMARY KEY, "SQL" text);
CREATE FUNCTION "SQLPrepare"."PrepareQueries"() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE one record;
BEGIN
    FOR one IN SELECT "QueryID" AS id, "SQL" AS said FROM "SQLPrepare"."Query" LOOP
        EXECUTE format('PREPARE %I AS %s', one.id, one.said);
    END LOOP;
    RETURN true;
END $$;
CREATE FUNCTION "SQLPrepare"."ExecuteQuery"(
    kind varchar, query_id varchar, request json, params varchar[]
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    given text := (
        SELECT '(' || string_agg(quote_nullable(request->>name), ', ' ORDER BY i) || ')'
        FROM unnest(params) WITH ORDINALITY AS one (name, i)
    );
    called text := format('EXECUTE %I%s', query_id, coalesce(given, ''));
    answer json;
BEGIN
    IF kind <> 'S' THEN
        EXECUTE called;
        RETURN '[{"Result": "None"}]';
    END IF;
    EXECUTE 'CREATE TEMPORARY TABLE answered AS ' || called;
    SELECT coalesce(json_agg(row_to_json(answered)), '{}') INTO answer FROM answered;
    DROP TABLE answered;
    RETURN answer;
END $$;
"""


def server_of(dsn: str, **more: object) -> Config:
    """Return an entry of ``db``."""
    params = parse_dsn(dsn)
    return {
        "host": params["host"],
        "port": int(params["port"]),
        "name": params["dbname"],
        "user": params["user"],
        "pass": params.get("password", ""),
        **more,
    }


def config_of(*servers: Config, **groups: Config) -> Config:
    """Return a configuration with these servers and groups.

    Without groups: ``plain`` in autocommit and ``work`` in transactions, two each.
    """
    return {
        "db": servers[0] if len(servers) == 1 else list(servers),
        "groups": groups
        or {
            "plain": {"connection_count": 2, "autocommit": True},
            "work": {"connection_count": 2, "autocommit": False},
        },
    }


def pid(db: Handler) -> int:
    """Return which backend a handler has, by asking it."""
    row = db.query("SELECT pg_backend_pid()").fetchone()
    return int(row[0])


def held(group: str) -> int:
    """Return which backend serves a block."""
    with Handler(group) as db:
        return pid(db)


def waiting(group: str) -> int:
    """Return how many wait for a connection of a group."""
    return Connection.get_pool(group).get_stats()["requests_waiting"]


@contextlib.contextmanager
def extension(admin: connection, **queries: str) -> Iterator[None]:
    """Have the functions for prepared queries in the database, and some queries."""
    ask(admin, EXTENSION)
    try:
        for name, statement in queries.items():
            ask(
                admin,
                'INSERT INTO "SQLPrepare"."Query" VALUES (%s, %s)',
                name,
                statement,
            )
        yield
    finally:
        ask(admin, "SET client_min_messages = warning")
        ask(admin, 'DROP SCHEMA "SQLPrepare" CASCADE')


@pytest.fixture(name="_environ", autouse=True)
def given_environ(
    dsn: str, application_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Have all lead to the server, and nothing left in the end."""
    clear(monkeypatch)
    params = parse_dsn(dsn)
    for name, value in {
        "PGAPPNAME": application_name,
        "PGPORT": params["port"],
        "SHOP_HOST": params["host"],
        "SHOP_NAME": params["dbname"],
        "SHOP_USER": params["user"],
        "PSQL_PASSWORD": "of nobody",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    Connection.close()


@pytest.fixture(name="config")
def given_config(dsn: str) -> Config:
    """Give a configuration of one server; see `config_of`."""
    return config_of(server_of(dsn))


@pytest.fixture(name="_init")
def given_init(config: Config) -> Iterator[None]:
    """Have two groups of two: ``plain`` in autocommit, ``work`` in transactions."""
    Connection.init(config)
    yield
    for group in ("plain", "work"):
        assert_at_rest(Connection.get_pool(group))


def imported(name: str) -> ModuleType:
    """Return a program of the origins, imported anew."""
    for loaded in [one for one in sys.modules if one.startswith(f"{ORIGINS}.")]:
        del sys.modules[loaded]
    return importlib.import_module(f"{ORIGINS}.{name}")

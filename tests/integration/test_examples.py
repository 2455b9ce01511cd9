"""The examples and the snippets of the documentation run as they stand."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils.functional import empty
from psycopg2.extensions import connection, make_dsn

from pgdbpool.pool import all_pools
from tests.documentation import DSN, ROOT, documents, snippets
from tests.gunicorns import Gunicorn, sessions
from tests.waiting import until
from tests.webtesting import TestApp

EXAMPLES = {
    "plain": "examples.plain_app:app",
    "werkzeug": "examples.werkzeug_app:app",
    "flask": "examples.flask_app:app",
    "bottle": "examples.bottle_app:app",
    "django": "examples.django_site.wsgi:application",
}
WITH_SNIPPETS = [document for document in documents() if snippets(document)]

# Of the manual on several servers; one will do.
CLUSTER = "postgresql://app@db1,db2,db3/shop"


@pytest.fixture(autouse=True)
def _pools_end_with_the_test(dsn: str) -> Iterator[None]:  # noqa: ARG001 - before it
    """Close the pools that a test made, before its sessions are counted."""
    before = set(all_pools())
    yield
    for pool in set(all_pools()) - before:
        pool.close()


@pytest.fixture
def schema_dsn(dsn: str, admin: connection, table: str) -> Iterator[str]:
    """Give a DSN whose sessions work in a schema of the test's own."""
    schema = f"{table}_schema"
    with admin.cursor() as cur:
        cur.execute(f"CREATE SCHEMA {schema}")
    yield make_dsn(dsn, options=f"-c search_path={schema}")
    with admin.cursor() as cur:
        cur.execute("SET client_min_messages = warning")
        cur.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> str:
    """Give what gunicorn is told to serve, one example after the other."""
    return EXAMPLES[request.param]


@pytest.fixture
def client(
    example: str, schema_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestApp]:
    """Give a client of an example that was just imported."""
    monkeypatch.setenv("PGDBPOOL_CONNINFO", schema_dsn)
    module, _, name = example.partition(":")
    with _django_not_configured():
        app = getattr(importlib.import_module(module), name)
        yield TestApp(app, extra_environ={"HTTP_HOST": "localhost"})
    del sys.modules[module]


@contextlib.contextmanager
def _django_not_configured() -> Iterator[None]:
    """Let Django be configured once more, which it allows once a process."""
    before = django_settings._wrapped
    django_settings._wrapped = empty
    try:
        yield
    finally:
        django_settings._wrapped = before


def test_every_example_is_tested() -> None:
    """A new one has to be added here."""
    falconas = ROOT / "examples/falconas/WebApp.py"  # see test_falconas
    uwsgi = ROOT / "examples/uwsgi/app.py"  # see test_hosts
    files = set((ROOT / "examples").rglob("*.py")) - {_conf(), falconas, uwsgi}
    found = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    assert found == {target.partition(":")[0] for target in EXAMPLES.values()}


def _conf() -> Path:
    return ROOT / "examples" / "gunicorn.conf.py"


@pytest.mark.direct("needs options in the DSN, which PgBouncer ignores")
def test_an_example_shows_what_was_posted(client: TestApp) -> None:
    """GET and POST, on a table that the example made."""
    assert client.get("/").text == ""
    assert client.post("/", b"first\nsecond").text == "second\nfirst\n"
    assert client.get("/").text == "second\nfirst\n"


@pytest.mark.direct("needs options in the DSN, which PgBouncer ignores")
def test_a_failing_request_of_an_example_is_rolled_back(client: TestApp) -> None:
    """All lines or none: the empty one breaks the table's rule."""
    client.post("/", b"kept")
    # Frameworks make a 500 of it; without one it is the server's.
    with contextlib.suppress(Exception):
        assert client.post("/", b"lost\n\nlost", expect_errors=True).status_int == 500
    assert client.get("/").text == "kept\n"


@pytest.mark.direct("its pools are in other processes")
def test_an_example_runs_under_gunicorn(
    example: str,
    schema_dsn: str,
    admin: connection,
    application_name: str,
    tmp_path: Path,
) -> None:
    """With the configuration beside it; two workers make the table at once."""
    conf = _conf().read_text(encoding="utf-8") + "\ncontrol_socket_disable = True\n"
    environ = {"PGDBPOOL_CONNINFO": schema_dsn}
    with Gunicorn(
        tmp_path, schema_dsn, conf=conf, app=example, environ=environ
    ) as gunicorn:
        assert "2 workers x 4 connections = 8" in gunicorn.wait_log("workers x")
        # A worker that is told to stop before it handles signals runs on.
        until(lambda: len(sessions(admin, application_name)) == 2)
        gunicorn.wait()
        assert "[WARNING]" not in gunicorn.log
        assert "[ERROR]" not in gunicorn.log


@pytest.mark.parametrize("document", WITH_SNIPPETS, ids=lambda path: path.stem)
def test_the_snippets_of_a_document_run_one_after_the_other(
    document: Path, dsn: str
) -> None:
    """On a real server, in one namespace, as a reader would type them.

    Each application that a snippet makes answers, out of a pooled connection.
    """
    others = all_pools()
    try:
        play(document, dsn)
    finally:
        for pool in set(all_pools()).difference(others):
            pool.close()


def play(document: Path, dsn: str) -> None:
    """Run the snippets of a document, and ask each application they make."""
    namespace: dict[str, Any] = {"__name__": document.stem}
    app = None
    for snippet in snippets(document):
        code = snippet.replace(DSN, dsn).replace(CLUSTER, dsn)
        exec(compile(code, str(document), "exec"), namespace)  # noqa: S102 - our own
        if namespace.get("app") is not app:
            app = namespace["app"]
            before = app.pool.get_stats()["requests_num"]
            assert TestApp(app).get("/").text
            assert app.pool.get_stats()["requests_num"] > before

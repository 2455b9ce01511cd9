"""The integration tests behind PgBouncer: `pytest --pgbouncer tests/integration`.

`dsn` and `server` then lead to a PgBouncer in transaction mode in front of the
embedded server, and pools are made with `via="transaction-pooler"`. After each test
PgBouncer has none of its clients any more, and what the server heard is looked
through: nothing of it may outlive a transaction, whoever said it. `admin` looks on
from outside as ever, past PgBouncer.

Left out are tests that use neither `dsn` nor `server`, and those that are marked
`direct(reason)`; with ids after the reason, only the cases that have one of them.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from psycopg2.extras import RealDictCursor

from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.settings import Settings
from tests.asking import Heard, ask
from tests.observer import observe
from tests.pgbouncer import MISSING, PROGRAM, PgBouncer

OPTION = "--pgbouncer"

_THROUGH = {"dsn", "server"}  # the fixtures that lead there
_USER = "fronted"
_SESSIONS = 20  # of the server; what PgBouncer has by default

# What PgBouncer itself says when clients of two names take turns on a session.
_ITS_OWN = re.compile(r"SET application_name='[^']*';")

_left_out = pytest.StashKey[Counter[str]]()
_heard = pytest.StashKey[list[str]]()


def add_option(parser: pytest.Parser) -> None:
    """Add `--pgbouncer`."""
    parser.addoption(
        OPTION,
        action="store_true",
        help="run the integration tests behind PgBouncer in transaction mode",
    )


def check_option(config: pytest.Config) -> None:
    """Refuse the option where it cannot be followed."""
    if not config.getoption(OPTION):
        return
    if PROGRAM is None:
        raise pytest.UsageError(f"{OPTION}: {MISSING}")
    if "PGDBPOOL_TEST_DSN" in os.environ:
        raise pytest.UsageError(
            f"{OPTION}: it is the embedded server that PgBouncer is put in front of; "
            "unset PGDBPOOL_TEST_DSN"
        )


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the integration tests that lead through PgBouncer and hold there."""
    reasons = {item: _reason(item) for item in items}
    config.stash[_left_out] = Counter(filter(None, reasons.values()))
    config.hook.pytest_deselected(items=[item for item in items if reasons[item]])
    items[:] = [item for item in items if not reasons[item]]


def summarize(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were left out, and why; and how much the server heard."""
    for reason, count in config.stash.get(_left_out, Counter()).most_common():
        reporter.write_line(f"left out by {OPTION}: {count:3}, {reason}")
    if _heard in config.stash:
        count = len(config.stash[_heard])
        reporter.write_line(f"statements that came through PgBouncer: {count}")


def _reason(item: pytest.Item) -> str:
    """Return why a test is left out, nothing where it is not."""
    if item.get_closest_marker("integration") is None:
        return "is no integration test"
    case = f"-{item.callspec.id}-" if hasattr(item, "callspec") else ""
    for marker in item.iter_markers("direct"):
        reason, *ids = marker.args
        if not ids or any(f"-{id_}-" in case for id_ in ids):
            return str(reason)
    if _THROUGH.isdisjoint(getattr(item, "fixturenames", ())):
        return "uses another server, or none"
    return ""


class Fronted:
    """What `server` gives: the server, but reached through PgBouncer.

    Args:
        server: the embedded one.
        port: PgBouncer's.
    """

    def __init__(self, server: EmbeddedPostgres, port: int) -> None:
        self.port = port
        self._server = server

    def dsn(self, *args: Any, **more: Any) -> str:  # noqa: ANN401 - the server's own
        """Return a connection string, as the server's own `dsn` does."""
        return make_dsn(self._server.dsn(*args, **more), port=self.port)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the server has
        return getattr(self._server, name)


class Front:
    """A PgBouncer in front of a server, and what it lets through.

    All its clients become one superuser, of whom the server writes down every word.

    Args:
        server: the embedded one of the whole run.
        config: what the summary is made from.
    """

    def __init__(self, server: EmbeddedPostgres, config: pytest.Config) -> None:
        self._direct = server
        self._bouncer = PgBouncer(
            server,
            _USER,
            default_pool_size=_SESSIONS,
            ignore_startup_parameters="options",
        )
        self._new = Heard(server)
        self._all: list[str] = config.stash.setdefault(_heard, [])
        self._end = contextlib.ExitStack()
        self.server = Fronted(server, self._bouncer.port)

    def __enter__(self) -> "Front":
        """Start it, and have pools go that way. Blocks."""
        with observe(self._direct.dsn()) as admin:
            ask(admin, f"CREATE ROLE {_USER} SUPERUSER LOGIN")
            ask(admin, f"ALTER ROLE {_USER} SET log_statement = 'all'")
        self._end.enter_context(self._bouncer)
        self._end.enter_context(_via_a_transaction_pooler())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it. Blocks."""
        self._end.close()

    @property
    def pids(self) -> Sequence[int]:
        """Its processes."""
        return [self._bouncer.pid]

    def clients(self, application_name: str) -> list[str]:
        """Ask PgBouncer for the states of its clients of that name. Blocks."""
        console = psycopg2.connect(self.server.dsn("pgbouncer"))
        with contextlib.closing(console):
            console.autocommit = True  # it knows no BEGIN
            with console.cursor(cursor_factory=RealDictCursor) as cur:
                cur.execute("SHOW CLIENTS")
                return [
                    client["state"]
                    for client in cur.fetchall()
                    if client["application_name"] == application_name
                ]

    def lasting(self) -> list[str]:
        """Return what outlived a transaction, of all that was said since last asked."""
        heard, self._new = self._new, Heard(self._direct)
        self._all += heard.of_all()
        return [said for said in heard.lasting() if not _ITS_OWN.fullmatch(said)]


@contextlib.contextmanager
def _via_a_transaction_pooler() -> Iterator[None]:
    """Make that what `via` is by default; what a test itself gives stands."""
    of = Settings.of

    def patched(conninfo: str | Sequence[str], given: Mapping[str, Any]) -> Settings:
        return of(conninfo, {"via": "transaction-pooler", **given})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "of", staticmethod(patched))
        yield

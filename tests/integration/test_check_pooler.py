"""``pgdbpool check`` behind a real PgBouncer: what it is, and what it refuses."""

import pytest
from psycopg2.extensions import connection, make_dsn

from pgdbpool.demo.postgres import EmbeddedPostgres
from tests.asking import ask
from tests.integration.checking import (  # noqa: F401 - fixtures
    Told,
    given_admin,
    given_shop,
    nothing_is_set,
)
from tests.observer import observe
from tests.pgbouncer import PgBouncer, needs_pgbouncer

pytestmark = pytest.mark.direct("the doctor asks who is behind each address")


@needs_pgbouncer
@pytest.mark.parametrize(
    ("mode", "via", "troubles"),
    [
        ("transaction", "direct", {"pooler": "wrong"}),
        ("transaction", "transaction-pooler", {}),
        ("session", "direct", {}),
        ("session", "transaction-pooler", {"pooler": "warning"}),
        ("statement", "direct", {"pooler": "wrong"}),
        ("statement", "transaction-pooler", {"pooler": "wrong"}),
    ],
)
def test_a_pooler_is_found_and_its_mode(
    private_server: EmbeddedPostgres,
    shop: str,
    mode: str,
    via: str,
    troubles: dict[str, str],
) -> None:
    """And compared with what via says."""
    for size in (2, 20):
        with PgBouncer(
            private_server, "shop", pool_mode=mode, default_pool_size=size
        ) as bouncer:
            told = Told(make_dsn(shop, port=bouncer.port), PGDBPOOL_VIA=via)
        assert told.endpoints[0]["pooler"] == mode
        assert told.troubles == troubles
        assert told.status == ("wrong" in troubles.values())


@needs_pgbouncer
def test_a_pooler_without_a_second_session_is_found(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """In transaction mode both clients get the one; else it is not known."""
    for mode, found in (("transaction", "transaction"), ("session", "unknown")):
        with PgBouncer(
            private_server, "shop", pool_mode=mode, default_pool_size=1
        ) as bouncer:
            told = Told(make_dsn(shop, port=bouncer.port))
        assert told.endpoints[0]["pooler"] == found


@needs_pgbouncer
def test_what_a_pooler_refuses_is_told(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """A parameter of the DSN; and its own database is no server."""
    with PgBouncer(private_server, "shop", admin_users="shop") as bouncer:
        dsn = make_dsn(shop, port=bouncer.port)
        told = Told(f"{dsn} options='-c statement_timeout=1s'")
        assert told.endpoints[0]["trouble"] == "parameter"
        told = Told(make_dsn(dsn, dbname="pgbouncer"))
        assert told.endpoints[0]["trouble"] == "strange"
        assert told.status == 1


@needs_pgbouncer
def test_the_doctor_leaves_nothing_in_the_sessions_of_others(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """What it asked behind a pooler is over with its transaction."""
    with PgBouncer(private_server, "shop", default_pool_size=1) as bouncer:
        dsn = make_dsn(shop, port=bouncer.port)
        assert Told(dsn).status == 1
        with observe(dsn) as client:
            assert ask(client, "SHOW statement_timeout") == "30s"
            assert ask(client, "SELECT txid_current_if_assigned()") is None


@needs_pgbouncer
def test_idle_sessions_behind_a_pooler_are_its_own(
    private_server: EmbeddedPostgres, admin: connection, shop: str
) -> None:
    """The pool keeps connections to the pooler, which the server does not end."""
    ask(admin, "ALTER ROLE shop SET idle_session_timeout = '90s'")
    with PgBouncer(private_server, "shop", default_pool_size=2) as bouncer:
        dsn = make_dsn(shop, port=bouncer.port)
        told = Told(dsn, PGDBPOOL_VIA="transaction-pooler")
    assert told.troubles == {"idle-sessions": "warning"}
    assert "the pooler's" in told.text("idle-sessions")
    assert "server_idle_timeout" in told.advice("idle-sessions")
    assert "to a pooler on this machine" in told.text("tls")


@needs_pgbouncer
def test_what_a_pooler_says_of_its_server_is_told(
    private_server: EmbeddedPostgres, shop: str
) -> None:
    """Here that there is no such role."""
    with PgBouncer(private_server, "nobody", default_pool_size=1) as bouncer:
        told = Told(make_dsn(shop, port=bouncer.port))
    assert (told.status, told.troubles) == (1, {"reach": "wrong"})
    assert told.endpoints[0]["trouble"] == "login"

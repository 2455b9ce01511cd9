"""What the server shows of whose session it is."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import make_dsn

from pgdbpool import ConnectionPool
from pgdbpool.endpoint import identity
from tests.asking import ask

TOKEN = "0123456789abcdef.7"
SHOWN = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"


@pytest.fixture(autouse=True)
def _token() -> Iterator[None]:
    before = identity.token()
    identity.set_token(TOKEN)
    yield
    identity.set_token(before)


@pytest.mark.parametrize("name", ["shop", "магазин-заказов", "n" * 80, "日本" * 40])
def test_the_token_is_shown_behind_any_name(dsn: str, name: str) -> None:
    """By it a worker's sessions are found, also when it was killed."""
    given = make_dsn(dsn, application_name=name)
    with ConnectionPool(given) as pool, pool.connection() as conn:
        shown = ask(conn, SHOWN)
    assert shown == identity.application_name({"application_name": name}, None)
    assert shown.endswith(f":{TOKEN}")

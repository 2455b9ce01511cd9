"""Which hosts have a name that can lead elsewhere."""

import pytest

from pgdbpool.endpoint import names


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"host": "db1"}, "db1"),
        ({"host": "127.0.0.1"}, None),
        ({"host": "::1"}, None),
        ({"host": "/run/postgresql"}, None),
        ({"host": "@abstract"}, None),
        ({"host": "db1", "hostaddr": "127.0.0.1"}, None),
        ({}, None),
    ],
)
def test_only_a_name_is_resolved(
    params: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses, sockets, and a name whose address is given do not change."""
    for variable in ("PGHOST", "PGHOSTADDR"):
        monkeypatch.delenv(variable, raising=False)
    assert names.name_of(params) == name

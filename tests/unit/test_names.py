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
        ({"host": "db1,db2"}, None),
        ({"host": "db1", "service": "shop"}, "db1"),
        ({"service": "shop"}, None),
        ({}, None),
    ],
)
def test_only_a_name_is_resolved(
    params: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses, sockets, and a name whose address is given do not change."""
    for variable in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    assert names.name_of(params) == name


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"PGHOST": "db1"}, "db1"),
        ({"PGHOST": "db1", "PGHOSTADDR": "127.0.0.1"}, None),
        ({"PGHOST": "db1", "PGSERVICE": "shop"}, None),
    ],
)
def test_the_environment_may_have_the_name(
    environ: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a service file goes before it, and may have another."""
    for variable in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, text in environ.items():
        monkeypatch.setenv(variable, text)

    assert names.name_of({}) == name

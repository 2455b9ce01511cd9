"""What the endpoints of a pool are called: each by a name that no other has."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pgdbpool import ConnectionPool, SettingsError
from pgdbpool.metrics.prometheus import PrometheusMetrics

ALIKE = "host=db,db hostaddr=10.0.0.1,10.0.0.2"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def names_of(conninfo: str) -> list[str]:
    """Return the names of a pool's endpoints."""
    return [endpoint.name for endpoint in ConnectionPool(conninfo).endpoints]


def test_endpoints_of_one_name_are_called_by_their_addresses_too() -> None:
    """The others, and who is alone with a name, by that."""
    assert names_of("host=db,db,db,other hostaddr=10.0.0.1,10.0.0.2,,10.0.0.3") == [
        "db(10.0.0.1):5432",
        "db(10.0.0.2):5432",
        "db:5432",
        "other:5432",
    ]
    assert names_of("host=db hostaddr=10.0.0.1") == ["db:5432"]
    assert names_of("host=db,db port=5432,5433") == ["db:5432", "db:5433"]


def test_no_series_of_a_scrape_is_there_twice() -> None:
    """Prometheus would refuse all of it."""
    pool = ConnectionPool(ALIKE, name="shop", observe=True)
    registry = CollectorRegistry()
    PrometheusMetrics(pool, registry=registry)
    lines = generate_latest(registry).decode().splitlines()
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert any('endpoint="db(10.0.0.2):5432"' in one for one in series)
    assert len(set(series)) == len(series)


def test_a_weight_is_given_to_one_of_them_by_its_name() -> None:
    """The host alone would mean both."""
    pool = ConnectionPool(ALIKE, weights={"db(10.0.0.2):5432": 3.0})
    assert [endpoint.weight for endpoint in pool.endpoints] == [1.0, 3.0]
    with pytest.raises(SettingsError, match=r"'db:5432' is no endpoint; .*db\(10"):
        ConnectionPool(ALIKE, weights={"db:5432": 3.0})


class Signing:
    """A provider whose passwords are for one host."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def at(self, host: str, port: int) -> "Signing":
        """Return what is for that one."""
        self.asked.append((host, port))
        return self

    def credential(self) -> str:
        """Return a password."""
        return "secret"


def test_who_signs_for_a_host_is_told_its_name_alone() -> None:
    """What it is called in a pool is the name of no host."""
    signing = Signing()
    ConnectionPool(ALIKE, password=signing)
    assert signing.asked == [("db", 5432)] * 2

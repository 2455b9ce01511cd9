"""What the doctor says of all servers of a pool together."""

import re
from collections.abc import Sequence

import pytest

from pgdbpool import SettingsError
from pgdbpool.doctor import clusters
from pgdbpool.doctor.asking import pattern_of
from pgdbpool.doctor.examining import merged
from pgdbpool.doctor.facts import Facts, Plan, Trouble
from pgdbpool.doctor.findings import Severity
from pgdbpool.endpoint.need import Need
from tests.unit.scripted_servers import PLAN, primary, settings, standby

DOWN = Facts("db3:5432", Trouble.UNREACHABLE, "connection refused")


def found(
    servers: Sequence[Facts], need: Need | None = Need.PRIMARY, plan: Plan = PLAN
) -> dict[str, Severity]:
    """Return how bad what is, by the codes of the rules."""
    findings = clusters.findings_of_all(servers, need, plan)
    return {finding.code: finding.severity for finding in findings}


def test_a_primary_and_its_standbys_are_a_cluster() -> None:
    """Nothing is wrong."""
    assert found([primary(), standby()]) == {
        "cluster": Severity.FINE,
        "primary": Severity.FINE,
        "threads": Severity.FINE,
    }


@pytest.mark.parametrize(
    ("servers", "need", "severity"),
    [
        ([primary()], None, Severity.FINE),
        ([standby()], None, Severity.WARNING),
        ([standby()], Need.PRIMARY, Severity.WRONG),
        ([standby(), DOWN], Need.PRIMARY, Severity.WRONG),
        ([primary(), DOWN], Need.PRIMARY, Severity.FINE),
        ([primary(), primary("db2:5432")], Need.PRIMARY, Severity.WRONG),
        ([primary(), primary("db2:5432")], Need.ANY, None),
        ([standby()], Need.ANY, None),
        ([standby()], Need.PREFER_STANDBY, None),
        ([standby()], Need.STANDBY, Severity.FINE),
        ([primary()], Need.STANDBY, Severity.WRONG),
        ([DOWN], Need.PRIMARY, None),
        ([DOWN], Need.STANDBY, None),
    ],
)
def test_there_is_to_be_what_is_asked_for(
    servers: list[Facts], need: Need | None, severity: Severity | None
) -> None:
    """One primary, but where target_session_attrs says otherwise."""
    assert found(servers, need).get("primary") is severity


def test_two_names_of_the_primary_are_one_primary() -> None:
    """Only that it is named twice is worth a warning."""
    said = found([primary("a:5432", started="1"), primary("b:5432", started="1")])
    assert said["primary"] is Severity.FINE
    assert said["twice"] is Severity.WARNING


def test_servers_of_different_clusters_are_no_pool() -> None:
    """Whoever is down, or does not say, is not counted."""
    assert found([primary(), standby(system="8")])["cluster"] is Severity.WRONG
    assert "cluster" not in found([primary(), DOWN])
    assert "cluster" not in found([primary(), standby(system=None)])


@pytest.mark.parametrize(
    ("threads", "severity"),
    [(None, None), (4, Severity.FINE), (5, Severity.WARNING)],
)
def test_each_thread_is_to_have_a_connection(
    threads: int | None, severity: Severity | None
) -> None:
    """Or they will wait for each other."""
    assert found([primary()], None, Plan(1, 1, threads, 4)).get("threads") is severity


def test_lag_is_what_is_still_to_be_replayed() -> None:
    """A standby of a primary that is idle for hours is not late."""
    idle = standby("idle:1", replayed=3600.0)
    late = standby("late:1", replayed=12.5, position=1_000_000 - 4096)
    ahead = standby("ahead:1", replayed=1.0, position=1_000_100)
    fresh = standby("fresh:1", replayed=None, position=0)
    clusters.measure([primary(), idle, late, ahead, fresh, DOWN])
    assert [(one.lag, one.lag_bytes) for one in (idle, late, ahead, fresh)] == [
        (0.0, 0),
        (12.5, 4096),
        (0.0, 0),
        (None, 1_000_000),
    ]


def test_without_a_primary_nobody_knows_the_lag() -> None:
    """Nor where a position is not told."""
    alone, silent = standby(), standby(position=None)
    clusters.measure([alone])
    clusters.measure([primary(), silent])
    assert alone.lag is alone.lag_bytes is silent.lag is None


def test_the_addresses_of_one_server_are_one_endpoint() -> None:
    """Those where nobody answers are kept in mind."""
    dead = Facts("db(::1):5432", Trouble.UNREACHABLE, "refused")
    one = primary("db(10.0.0.1):5432", started="1")
    other = primary("db(10.0.0.2):5432", started="1")
    addresses = ["10.0.0.1", "10.0.0.2", "::1"]
    (server,) = merged("db:5432", addresses, [one, other, dead])
    assert (server.name, server.silent_addresses) == ("db:5432", ["::1"])


def test_the_servers_of_one_name_are_endpoints_of_their_own() -> None:
    """Called by name and address; also those that do not say who they are."""
    one, other = primary("db(10.0.0.1):5432"), standby("db(10.0.0.2):5432")
    unknown = primary("db(10.0.0.3):5432", started=None)
    several = merged(
        "db:5432", ["10.0.0.1", "10.0.0.2", "10.0.0.3"], [one, other, unknown]
    )
    assert several == [one, other, unknown]


def test_a_name_without_any_server_is_one_endpoint() -> None:
    """With what the first address said."""
    dead = [Facts(f"db({n}):5432", Trouble.UNREACHABLE, f"{n}") for n in "12"]
    (server,) = merged("db:5432", ["1", "2"], dead)
    assert (server.name, server.error) == ("db:5432", "1")


def plan(environ: dict[str, str], threads: int | None = None, **given: int) -> Plan:
    """Return the plan of two hosts with four workers."""
    return Plan.of(settings(**given), environ, hosts=2, workers=4, threads=threads)


def test_a_plan_is_what_the_hooks_of_gunicorn_would_make() -> None:
    """Row 14: from max_size, else the threads, within the budget of the service."""
    assert plan({}).size == 20
    assert plan({}, threads=8).size == 8
    assert plan({}, threads=8, max_size=5).size == 5
    assert plan({"PGDBPOOL_TOTAL": "12"}, threads=8).size == 3
    assert plan({}, max_size=5).needed == 40
    assert str(plan({}, max_size=1)) == "2 hosts x 4 workers x 1 connection = 8"


def test_a_budget_that_is_too_small_is_an_error() -> None:
    """As at gunicorn's start."""
    with pytest.raises(SettingsError, match="PGDBPOOL_TOTAL: 3 is too little"):
        plan({"PGDBPOOL_TOTAL": "3"})


@pytest.mark.parametrize(
    ("name", "service", "sessions", "others"),
    [
        ("shop", None, ["shop", "shop:5f0c.3"], ["shops", "shop/db1/7", "a shop"]),
        ("s.p", None, ["s.p"], ["sip"]),
        ("s" * 60, None, ["s" * 45 + ":5f0c.3"], ["s" * 29]),
        (None, "shop", ["shop/web1/7", "shop/web1/7:5f0c.3"], ["shops/web1/7", "shop"]),
        (None, "s" * 40, ["s" * 16 + "/web1/7:5f0c.3"], ["s" * 11 + "/web1/7"]),
        (None, None, ["gunicorn/web1/7", "shop/web1/7:5f0c.3"], ["psql", "a/b", ""]),
    ],
)
def test_the_sessions_of_a_pool_are_known_by_their_names(
    name: str | None, service: str | None, sessions: list[str], others: list[str]
) -> None:
    """As `pgdbpool.endpoint.identity` makes them."""
    pattern = re.compile(pattern_of(name, service))
    assert all(pattern.search(one) for one in sessions)
    assert not any(pattern.search(one) for one in others)

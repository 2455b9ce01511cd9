"""What the doctor says of all servers of a pool together."""

import re
from collections.abc import Sequence

import pytest

from pgdbpool import SettingsError
from pgdbpool.doctor import clusters
from pgdbpool.doctor.addresses import merged
from pgdbpool.doctor.asking import pattern_of
from pgdbpool.doctor.facts import Facts, Plan, Trouble
from pgdbpool.doctor.findings import Finding, Severity
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
        ([primary(), primary("db2:5432")], Need.ANY, Severity.WARNING),
        ([primary(), primary("db2:5432")], Need.PREFER_STANDBY, Severity.WARNING),
        ([primary(), primary("db2:5432", system="8")], Need.PRIMARY, Severity.WRONG),
        ([primary(), primary("db2:5432", system="8")], Need.ANY, None),
        (
            [primary(system=None), primary("db2:5432", system=None)],
            Need.PRIMARY,
            Severity.WRONG,
        ),
        ([primary(system=None), primary("db2:5432", system=None)], Need.ANY, None),
        ([primary(), primary("db2:5432"), standby()], Need.STANDBY, Severity.FINE),
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


def told(servers: Sequence[Facts], code: str) -> Finding:
    """Return what a rule finds."""
    findings = clusters.findings_of_all(servers, Need.PRIMARY, PLAN)
    (finding,) = [one for one in findings if one.code == code]
    return finding


def test_of_a_cluster_that_has_parted_the_older_timeline_is_to_stop() -> None:
    """It is no cluster of which any server may be written to."""
    finding = told([primary(timeline=3), primary("db2:5432", timeline=4)], "primary")
    assert finding.text == (
        "2 servers say that they are the primary: db1:5432 (timeline 3), db2:5432 "
        "(timeline 4), of one cluster: what is written to one is missing in the other"
    )
    assert "db2:5432 has the newer timeline, so it was" in finding.advice
    assert "stop db1:5432" in finding.advice
    assert "target_session_attrs" not in finding.advice


def test_of_equal_timelines_nobody_knows_which_is_newer() -> None:
    """As after a copy that was started by mistake."""
    finding = told([primary(), primary("db2:5432")], "primary")
    assert "Find out whose data are wanted" in finding.advice
    assert "newer" not in finding.advice


def test_only_of_different_clusters_any_server_may_be_written_to() -> None:
    """If they replicate each other: then it is no more than a warning."""
    servers = [primary(), primary("db2:5432", system="8")]
    assert "target_session_attrs=any" in told(servers, "primary").advice
    assert found(servers, Need.ANY) == {
        "cluster": Severity.WARNING,
        "threads": Severity.FINE,
    }


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


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        (["unreachable", "unreachable"], 0),
        (["unreachable", "login"], 1),
        (["unreachable", "silent"], 1),
        (["silent", "starting"], 1),
        (["full", "login"], 0),
    ],
)
def test_a_name_without_any_server_is_one_endpoint(
    troubles: list[str], told: int
) -> None:
    """With what the first has said that is there at all."""
    dead = [
        Facts(f"db({number}):5432", Trouble(trouble), f"{number}")
        for number, trouble in enumerate(troubles)
    ]
    (server,) = merged("db:5432", ["1", "2"], dead)
    assert (server.name, server.error) == ("db:5432", str(told))


@pytest.mark.parametrize("trouble", Trouble)
def test_an_address_is_silent_only_where_nobody_is(trouble: Trouble) -> None:
    """Who refuses is there, and libpq tries no other after that."""
    there = primary("db(10.0.0.1):5432")
    other = Facts("db(::1):5432", trouble, "no pg_hba.conf entry")
    (server,) = merged("db:5432", ["10.0.0.1", "::1"], [there, other])
    if trouble in (Trouble.UNREACHABLE, Trouble.SILENT):
        assert (server.silent_addresses, server.refusing_addresses) == (["::1"], {})
    else:
        assert server.silent_addresses == []
        assert server.refusing_addresses == {"::1": "no pg_hba.conf entry"}


def plan(environ: dict[str, str], threads: int | None = None, **given: int) -> Plan:
    """Return the plan of two hosts with four workers."""
    return Plan.of(settings(**given), environ, hosts=2, workers=4, threads=threads)


def test_a_plan_is_what_the_hooks_of_gunicorn_would_make() -> None:
    """Row 14: from max_size, else the threads, within the budget of the service."""
    assert plan({}).size == 20
    assert plan({}, threads=8).size == 8
    assert plan({}, threads=8, max_size=5).size == 5
    assert plan({"PGDBPOOL_TOTAL": "12"}, threads=8).size == 3
    assert plan({"PGDBPOOL_TOTAL": "12"}, threads=8).total == 12
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
        ("кот", None, ["???:5f0c.3", r"\xd0\xba\xd0\xbe\xd1\x82"], ["shop:5f0c.3"]),
        ("shop-кот", None, ["shop-???:5f0c.3"], ["shop:5f0c.3", "shop-dog"]),
        (None, "кот", ["???/web1/7:5f0c.3"], ["shop/web1/7:5f0c.3"]),
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

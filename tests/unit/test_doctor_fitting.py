"""Whether a service fits: row 14, what it wants against what there is."""

from typing import Any

import pytest

from pgdbpool.doctor.facts import Facts, Mode, Plan
from pgdbpool.doctor.findings import Finding, Severity
from pgdbpool.doctor.rules import findings_of
from tests.unit.scripted_servers import PLAN, primary, settings


def look(facts: Facts, plan: Plan = PLAN) -> dict[str, Finding]:
    """Return what is found, by the codes of the rules."""
    return {finding.code: finding for finding in findings_of(facts, settings(), plan)}


def troubles(facts: Facts, plan: Plan = PLAN) -> list[tuple[str, Severity]]:
    """Return what is found that is not fine."""
    return [
        (code, finding.severity)
        for code, finding in look(facts, plan).items()
        if finding.severity is not Severity.FINE
    ]


@pytest.mark.parametrize(
    ("different", "size", "found"),
    [
        ({}, 97, "rolling-restart"),
        ({}, 98, "connections"),
        ({"in_use": 50}, 48, "connections"),
        ({"in_use": 50}, 47, "rolling-restart"),
        ({"in_use": 50}, 23, None),
        ({"own": 90}, 48, None),
        ({"in_use": 200}, 1, "connections"),
        ({"role_limit": 10}, 11, "connections"),
        ({"role_limit": 10}, 6, "rolling-restart"),
        ({"database_limit": 10}, 11, "connections"),
        ({"database_limit": 10, "role_limit": 4}, 5, "connections"),
        ({"role_limit": 0}, 1, "connections"),
        ({"role_limit": 30, "role_in_use": 25}, 6, "connections"),
        ({"role_limit": 30, "role_in_use": 25}, 5, "rolling-restart"),
        ({"role_limit": 30, "role_in_use": 25}, 2, None),
        ({"role_limit": 5, "role_in_use": 9}, 1, "connections"),
        ({"database_limit": 10, "database_in_use": 6}, 8, "connections"),
        ({"database_limit": 10, "database_in_use": 6}, 2, None),
        ({"role_limit": -1, "role_in_use": 90}, 48, None),
        ({"max_connections": None}, 10_000, None),
        ({"pooler": Mode.SESSION}, 10_000, None),
    ],
)
def test_connections_fit_or_do_not(
    different: dict[str, Any], size: int, found: str | None
) -> None:
    """Row 14: what the service wants, against what the server and the role have."""
    severity = {"connections": Severity.WRONG, "rolling-restart": Severity.WARNING}
    expected = [] if found is None else [(found, severity[found])]
    assert troubles(primary(**different), Plan(1, 1, None, size)) == expected


def test_limits_of_roles_do_not_hold_for_superusers() -> None:
    """PostgreSQL lets them in."""
    facts = primary(superuser=True, role_limit=1, database_limit=1)
    assert troubles(facts) == [("privileges", Severity.WARNING)]


def test_what_does_not_fit_is_told_with_its_sum() -> None:
    """So that one sees which number to change."""
    finding = look(primary(in_use=10), Plan(3, 4, None, 20))["connections"]
    assert finding.text == (
        "3 hosts x 4 workers x 20 connections = 240; the server has 87 free "
        "(max_connections 100, 3 reserved, 10 in use by others): does not fit, the "
        "server will refuse connections"
    )


@pytest.mark.parametrize(
    ("different", "sum_of"),
    [
        (
            {"role_limit": 30, "role_in_use": 25},
            "the role has 5 free (CONNECTION LIMIT 30, 25 in use by others)",
        ),
        (
            {"database_limit": 10, "database_in_use": 6},
            "the database has 4 free (CONNECTION LIMIT 10, 6 in use by others)",
        ),
        (
            {"own": 60, "named": True, "in_use": 1},
            (
                "the server has 96 free (max_connections 100, 3 reserved, 1 in use by "
                "others, 60 taken for its own)"
            ),
        ),
        (
            {"own": 60, "named": False},
            (
                "the server has 97 free (max_connections 100, 3 reserved, 0 in use by "
                "others, 60 taken for its own: give PGDBPOOL_NAME)"
            ),
        ),
    ],
)
def test_the_sum_is_that_of_the_narrowest(
    different: dict[str, Any], sum_of: str
) -> None:
    """With all that was counted."""
    assert sum_of in look(primary(**different))["connections"].text


def test_sessions_that_have_no_name_may_be_others() -> None:
    """More of them than the service wants are hardly all its own."""
    finding = look(primary(own=60, named=False), Plan(1, 1, None, 20))["own"]
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith("60 connections there are taken for its own, and it")
    assert "PGDBPOOL_NAME" in finding.advice


@pytest.mark.parametrize(
    ("plan", "different", "said"),
    [
        (Plan(1, 8, 4, 5, 40), {}, None),
        (Plan(2, 8, 4, 5, 40), {}, None),
        (
            Plan(1, 8, 4, 10, 40),
            {},
            "80 connections of each host exceed PGDBPOOL_TOTAL=40",
        ),
        (
            Plan(1, 8, 4, 10, 40),
            {"max_connections": None},
            "80 connections of each host exceed PGDBPOOL_TOTAL=40",
        ),
        (
            Plan(1, 8, 4, 4, 98),
            {},
            (
                "PGDBPOOL_TOTAL=98 is more than there is: the server has 97 free "
                "(max_connections 100, 3 reserved, 0 in use by others)"
            ),
        ),
        (
            Plan(3, 8, 4, 4, 40),
            {},
            (
                "PGDBPOOL_TOTAL=40, 3 times, is more than there is: the server has 97 "
                "free (max_connections 100, 3 reserved, 0 in use by others)"
            ),
        ),
        (Plan(1, 8, 4, 4, 98), {"pooler": Mode.SESSION}, None),
    ],
)
def test_a_budget_is_to_be_kept_and_to_be_had(
    plan: Plan, different: dict[str, Any], said: str | None
) -> None:
    """Row 14, as the hooks of gunicorn say it at their start."""
    finding = look(primary(**different), plan)["budget"]
    if said is None:
        assert finding.severity is Severity.FINE
    else:
        assert (finding.severity, finding.text) == (Severity.WARNING, said)


def test_without_a_budget_nothing_is_said_of_it() -> None:
    """Most services have none."""
    assert "budget" not in look(primary())

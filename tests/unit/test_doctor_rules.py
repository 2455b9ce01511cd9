"""What the doctor says of one server follows from the facts, and only from them."""

from typing import Any

import pytest

from pgdbpool.doctor.facts import Facts, Mode, Plan, Trouble
from pgdbpool.doctor.findings import Finding, Severity, worst
from pgdbpool.doctor.reaching import TROUBLES
from pgdbpool.doctor.rules import WANTED, findings_of
from tests.unit.scripted_servers import PLAN, primary, settings, standby

SOUND = {
    "reach",
    "round-trip",
    "version",
    "tls",
    "privileges",
    "client-limits",
    "server-limits",
    "idle-sessions",
    "pooler",
    "connections",
    "rolling-restart",
}


def look(
    facts: Facts,
    plan: Plan = PLAN,
    **given: Any,  # noqa: ANN401 - settings
) -> dict[str, Finding]:
    """Return what is found, by the codes of the rules."""
    found = findings_of(facts, settings(**given), plan)
    by_code = {finding.code: finding for finding in found}
    assert len(by_code) == len(found), "a rule found two things"
    for finding in found:
        assert bool(finding.advice) == (finding.severity is not Severity.FINE)
    return by_code


def troubles(
    facts: Facts,
    plan: Plan = PLAN,
    **given: Any,  # noqa: ANN401 - settings
) -> list[tuple[str, Severity]]:
    """Return what is found that is not fine."""
    return [
        (code, finding.severity)
        for code, finding in look(facts, plan, **given).items()
        if finding.severity is not Severity.FINE
    ]


def test_a_sound_primary_is_fine() -> None:
    """By all rules but those about standbys and poolers."""
    assert look(primary()).keys() == SOUND | {"read-only"}
    assert troubles(primary()) == []


def test_a_sound_standby_is_fine() -> None:
    """Whether it may write is no question."""
    found = look(standby(lag=0.2, lag_bytes=10))
    assert found.keys() == SOUND | {"lag", "replication"}
    assert worst(list(found.values())) is Severity.FINE


@pytest.mark.parametrize("trouble", Trouble)
def test_who_cannot_be_examined_is_wrong_and_nothing_else(trouble: Trouble) -> None:
    """With what it said, and what to do about each kind of trouble."""
    (finding,) = look(Facts("db1:5432", trouble, "no, I will not")).values()
    assert finding.severity is Severity.WRONG
    assert finding.code == "reach"
    assert finding.text.endswith(": no, I will not")
    assert finding.advice == TROUBLES[trouble][1]


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"silent_addresses": ["::1"]}, "addresses"),
        ({"round_trip": 0.02}, "round-trip"),
        ({"version": 130022}, "version"),
        ({"read_only": True}, "read-only"),
        ({"tls": "TLSv1.1"}, "tls"),
        ({"sslmode": "require"}, "tls"),
        ({"sslmode": "prefer"}, "tls"),
        ({"tls": ""}, "tls"),
        ({"tls": "", "gss": False}, "tls"),
        ({"superuser": True}, "privileges"),
        ({"bypasses_rls": True}, "privileges"),
        ({"client": {"tcp_user_timeout": "20000"}}, "client-limits"),
        ({"client": {"connect_timeout": "5"}}, "client-limits"),
        (
            {
                "client": {
                    "connect_timeout": "5",
                    "tcp_user_timeout": "1",
                    "keepalives": "0",
                }
            },
            "client-limits",
        ),
        *(
            ({"limits": {**primary().limits, name: 0.0}}, "server-limits")
            for name in WANTED
        ),
        (
            {"limits": {**primary().limits, "idle_session_timeout": 600.0}},
            "idle-sessions",
        ),
        ({"pooler": Mode.UNKNOWN}, "pooler"),
        ({"max_connections": 18}, "rolling-restart"),
    ],
)
def test_a_warning_comes_alone(different: dict[str, Any], code: str) -> None:
    """Each difference from what is sound makes one warning, and no other."""
    assert troubles(primary(**different)) == [(code, Severity.WARNING)]


@pytest.mark.parametrize(
    "different",
    [
        {"silent_addresses": []},
        {"round_trip": 0.019},
        {"version": 140000},
        {"sslmode": "verify-ca"},
        {"tls": "", "gss": True},
        {"tls": "", "local": True, "client": {"connect_timeout": "5"}},
        {"sslmode": "prefer", "local": True},
        {"limits": {**primary().limits, "statement_timeout": 0.001}},
        {"pooler": Mode.SESSION},
        {"max_connections": 19},
    ],
)
def test_what_is_just_sound_is_fine(different: dict[str, Any]) -> None:
    """The other side of each border."""
    assert troubles(primary(**different)) == []


def test_what_is_not_known_is_no_finding() -> None:
    """A server that was asked, and did not say anything."""
    facts = Facts("db1:5432", client={"connect_timeout": "5", "tcp_user_timeout": "1"})
    assert look(facts).keys() == {"reach", "client-limits", "pooler"}
    assert troubles(facts) == []


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"paused": True}, "replication"),
        ({"streaming": False}, "replication"),
        ({"lag": 10.1, "lag_bytes": 5_000_000}, "lag"),
    ],
)
def test_a_warning_of_a_standby_comes_alone(
    different: dict[str, Any], code: str
) -> None:
    """As those of a primary."""
    assert troubles(standby(**different)) == [(code, Severity.WARNING)]


def test_lag_is_measured_by_the_settings() -> None:
    """With words for both of its measures."""
    late = standby(lag=60.0, lag_bytes=5_000_000)
    assert troubles(late, max_lag=60.0) == []
    assert troubles(late, max_lag=None) == []
    finding = look(late, max_lag=1.5)["lag"]
    assert finding.text == (
        "its data are 60.0 s old, and 4.8 MB of WAL are to be replayed: "
        "more than max_lag=1.5, so nobody reads from it"
    )


@pytest.mark.parametrize(
    ("mode", "via", "severity"),
    [
        (None, "direct", Severity.FINE),
        (None, "transaction-pooler", Severity.WARNING),
        (Mode.SESSION, "direct", Severity.FINE),
        (Mode.SESSION, "transaction-pooler", Severity.WARNING),
        (Mode.TRANSACTION, "direct", Severity.WRONG),
        (Mode.TRANSACTION, "transaction-pooler", Severity.FINE),
        (Mode.STATEMENT, "direct", Severity.WRONG),
        (Mode.STATEMENT, "transaction-pooler", Severity.WRONG),
        (Mode.UNKNOWN, "direct", Severity.WARNING),
        (Mode.UNKNOWN, "transaction-pooler", Severity.WARNING),
    ],
)
def test_via_is_to_say_what_is_in_between(
    mode: Mode | None, via: str, severity: Severity
) -> None:
    """And nothing else matters to that rule."""
    assert look(primary(pooler=mode), via=via)["pooler"].severity is severity


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


def test_idle_sessions_may_end_where_the_pool_ends_them_earlier() -> None:
    """Which it does with those above min_size."""
    facts = primary(limits={**primary().limits, "idle_session_timeout": 600.0})
    assert troubles(facts, min_size=0, max_idle=599.0) == []
    for given in ({"min_size": 1, "max_idle": 1.0}, {"min_size": 0, "max_idle": 600.0}):
        assert troubles(facts, **given) == [("idle-sessions", Severity.WARNING)]
    assert troubles(facts, min_size=0, max_idle=None) != []


def test_a_hook_may_set_what_the_server_does_not() -> None:
    """It is not called here, so nobody knows."""
    facts = primary(limits=dict.fromkeys(primary().limits, 0.0))
    assert (
        "unless configure sets them"
        in look(facts, configure=print)["server-limits"].text
    )
    assert "configure" not in look(facts)["server-limits"].text


@pytest.mark.parametrize(
    ("role", "quoted"),
    [("app", "app"), ("App", '"App"'), ('a"b', '"a""b"'), (None, "app")],
)
def test_sql_to_copy_names_the_role_as_sql_does(role: str | None, quoted: str) -> None:
    """Quoted where that is needed."""
    advice = look(primary(user=role, bypasses_rls=True))["privileges"].advice
    assert advice.startswith(f"ALTER ROLE {quoted} NOBYPASSRLS")

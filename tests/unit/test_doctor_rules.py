"""What the doctor says of one server follows from the facts, and only from them."""

from typing import Any

import pytest

from pgdbpool.doctor.facts import Facts, Mode, Plan, Trouble
from pgdbpool.doctor.findings import Finding, Severity, worst
from pgdbpool.doctor.limits import WANTED
from pgdbpool.doctor.reaching import TROUBLES
from pgdbpool.doctor.rules import findings_of
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
    "own",
    "connections",
    "rolling-restart",
}
ADVICE = {
    Trouble.UNREACHABLE: "listen_addresses",
    Trouble.SILENT: "--timeout",
    Trouble.LOGIN: "pg_hba.conf",
    Trouble.CREDENTIALS: "password provider",
    Trouble.FULL: "max_connections",
    Trouble.DATABASE: "CONNECT",
    Trouble.PARAMETER: "ignore_startup_parameters",
    Trouble.TLS: "sslrootcert",
    Trouble.STARTING: "hot_standby",
    Trouble.REFUSED: "what it says",
    Trouble.STRANGE: "listens there",
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
    assert ADVICE[trouble] in finding.advice
    assert finding.text != ": no, I will not"


def test_each_trouble_has_words_of_its_own() -> None:
    """Nobody is sent to look where nothing is."""
    assert len({what for what, _ in TROUBLES.values()}) == len(Trouble)
    assert len({advice for _, advice in TROUBLES.values()}) == len(Trouble)


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"silent_addresses": ["::1"]}, "addresses"),
        ({"round_trip": 0.02}, "round-trip"),
        ({"version": 130022}, "version"),
        ({"read_only": True}, "read-only"),
        ({"hosts": ["a", "b"]}, "service"),
        ({"tls": "TLSv1.1"}, "tls"),
        ({"sslmode": "require"}, "tls"),
        ({"sslmode": "prefer"}, "tls"),
        ({"sslmode": "prefer", "root_certificate": True}, "tls"),
        ({"tls": ""}, "tls"),
        ({"tls": "", "gss": False}, "tls"),
        ({"superuser": True}, "privileges"),
        ({"superusers": ["adm"]}, "privileges"),
        ({"bypasses_rls": True}, "privileges"),
        ({"own": 9, "named": False}, "own"),
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
        {"sslmode": "require", "root_certificate": True},
        {"own": 8, "named": False},
        {"own": 60, "named": True},
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
        ({"lag": 10.1, "reached": True}, "lag"),
        ({"lag": 10.1, "reached": False, "replayed": 0.5}, "lag"),
        ({"lag": 1.0, "reached": False, "replayed": 10.1}, "lag"),
        ({"lag": 1.0, "reached": False, "replayed": None}, "lag"),
    ],
)
def test_a_warning_of_a_standby_comes_alone(
    different: dict[str, Any], code: str
) -> None:
    """As those of a primary."""
    assert troubles(standby(**different)) == [(code, Severity.WARNING)]


def test_lag_is_measured_by_the_settings() -> None:
    """With words for what is certain, and for what only may be."""
    late = standby(lag=2.0, reached=True)
    assert troubles(late, max_lag=2.0) == troubles(late, max_lag=None) == []
    assert look(late, max_lag=1.5)["lag"].text == (
        "it has replayed within 2.0 s what the primary had written: more than "
        "max_lag=1.5; while it is so, the pool does not read from it"
    )
    stuck = standby(lag=1.0, reached=False, lag_bytes=5_000_000, replayed=60.0)
    assert troubles(stuck, max_lag=60.0) == troubles(stuck, max_lag=None) == []
    assert look(stuck, max_lag=10.0)["lag"].text == (
        "after 1.0 s it has 4.8 MB to replay yet, and its last commit is 60.0 s old: "
        "that may be more than max_lag=10, and then the pool does not read from it"
    )
    assert look(stuck, max_lag=0.5)["lag"].text == (
        "after 1.0 s it has 4.8 MB to replay yet, and its last commit is 60.0 s old: "
        "more than max_lag=0.5; while it is so, the pool does not read from it"
    )


def test_an_old_last_commit_alone_is_no_lag() -> None:
    """On an idle primary it grows older by the hour."""
    assert troubles(standby(lag=0.0, reached=True, replayed=3600.0)) == []


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


@pytest.mark.parametrize(
    ("different", "given", "words"),
    [
        ({"limits": dict.fromkeys(primary().limits, 0.0)}, {}, "server-limits"),
        (
            {"limits": {**primary().limits, "idle_session_timeout": 600.0}},
            {},
            "idle-sessions",
        ),
        ({"read_only": True}, {}, "read-only"),
    ],
)
def test_nobody_is_told_to_change_a_superuser(
    different: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    """VACUUM, CREATE INDEX and migrations would end by its limits."""
    advice = look(primary(user="postgres", superuser=True, **different), **given)
    assert "ALTER ROLE app SET" in advice[words].advice
    assert "postgres" not in advice[words].advice
    advice = look(primary(user="app", superuser=True, **different), **given)
    assert "ALTER ROLE application SET" in advice[words].advice
    assert "CREATE ROLE application LOGIN" in advice["privileges"].advice


def test_a_role_is_changed_on_the_primary() -> None:
    """A standby refuses it."""
    limits = {**dict.fromkeys(primary().limits, 0.0), "idle_session_timeout": 9.0}
    said = look(standby(limits=limits, bypasses_rls=True))
    for code in ("server-limits", "idle-sessions", "privileges"):
        assert "ALTER ROLE app " in said[code].advice
        assert "(on the primary)" in said[code].advice
        assert "primary" not in look(primary(limits=limits))[code].advice
    said = look(standby(superuser=True))
    assert "CREATE ROLE application LOGIN (on the primary)" in said["privileges"].advice


def test_limits_are_told_with_whom_they_meet() -> None:
    """New sessions, and of them not those of migrations."""
    advice = look(primary(limits=dict.fromkeys(primary().limits, 0.0)))["server-limits"]
    assert advice.advice.endswith(
        "ALTER ROLE app SET idle_in_transaction_session_timeout = '60s': or whatever "
        "suits the slowest request. It holds for new sessions; migrations begin with "
        "SET statement_timeout = 0."
    )
    without = {**primary().limits, "lock_timeout": 0.0}
    assert "migrations" not in look(primary(limits=without))["server-limits"].advice


def test_a_role_that_can_become_a_superuser_is_told_how() -> None:
    """It is as good as one."""
    finding = look(primary(superusers=["adm", "postgres"]))["privileges"]
    assert finding.text == "app can become a superuser by SET ROLE adm, postgres"


@pytest.mark.parametrize(
    ("mode", "whose"),
    [
        (None, "the pool's"),
        (Mode.SESSION, "the pool's"),
        (Mode.TRANSACTION, "the pooler's"),
        (Mode.STATEMENT, "the pooler's"),
        (Mode.UNKNOWN, "the pooler's"),
    ],
)
def test_idle_sessions_are_those_of_who_has_them(mode: Mode | None, whose: str) -> None:
    """Behind a pooler that lends them by the transaction they are not the pool's."""
    facts = primary(
        limits={**primary().limits, "idle_session_timeout": 600.0}, pooler=mode
    )
    finding = look(facts)["idle-sessions"]
    assert finding.text.endswith(f"and with them {whose}")
    assert ("server_idle_timeout" in finding.advice) == (whose == "the pooler's")


@pytest.mark.parametrize(
    ("different", "said"),
    [
        ({}, "none; the way to 127.0.0.1 stays on this machine"),
        ({"address": None}, "none; the way to its socket stays on this machine"),
        (
            {"pooler": Mode.TRANSACTION},
            "none, to a pooler on this machine; the way from there is its business",
        ),
    ],
)
def test_only_what_is_known_to_stay_on_this_machine_does(
    different: dict[str, Any], said: str
) -> None:
    """Behind a pooler, or at the end of a tunnel, nobody knows."""
    facts = {"tls": "", "local": True, "address": "127.0.0.1", **different}
    assert look(primary(**facts))["tls"].text == said


@pytest.mark.parametrize(
    ("number", "release"),
    [(90624, "9.6.24"), (90603, "9.6.3"), (100023, "10.23"), (180004, "18.4")],
)
def test_a_version_is_told_as_its_makers_do(number: int, release: str) -> None:
    """In three parts before PostgreSQL 10."""
    assert primary(version=number).release == release


def test_an_address_that_refuses_is_wrong() -> None:
    """To the next libpq does not go on, so connects fail there."""
    facts = primary(
        silent_addresses=["10.0.0.9"], refusing_addresses={"::1": "no pg_hba.conf"}
    )
    finding = look(facts)["addresses"]
    assert finding.severity is Severity.WRONG
    assert finding.text == "its name also leads to ::1, which refuses: no pg_hba.conf"


def test_a_long_way_is_not_shortened_by_longer_holds() -> None:
    """A hold is to be short."""
    advice = look(primary(round_trip=0.1))["round-trip"].advice
    assert "ping_idle" in advice
    assert "longer" not in advice

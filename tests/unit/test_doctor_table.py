"""A diagnosis in any width: what people read of it."""

import io

import pytest
from rich.console import Console

from pgdbpool.doctor.diagnosis import Diagnosis
from pgdbpool.doctor.facts import Facts, Mode, Trouble
from pgdbpool.doctor.findings import Severity
from pgdbpool.doctor.table import show
from tests.unit.scripted_servers import diagnosed, primary, standby

TROUBLED = [
    primary(superuser=True, tls=""),
    standby(lag=1.0, reached=False, replayed=3600.0, pooler=Mode.TRANSACTION),
    Facts("db3.example.com:5432", Trouble.LOGIN, "FATAL: no pg_hba.conf entry"),
]


def printed(diagnosis: Diagnosis, width: int) -> list[str]:
    """Return the lines that a terminal of that width shows."""
    out = io.StringIO()
    show(Console(file=out, width=width, markup=False), diagnosis, ["X: not used"])
    lines = out.getvalue().splitlines()
    assert [line.rstrip() for line in lines] == lines
    return lines


def test_a_sound_cluster_is_told_in_a_few_lines() -> None:
    """One for each server, and no finding."""
    lines = printed(diagnosed([primary(), standby()]), 80)
    assert lines == [
        "endpoint  role       lag  round trip  version  TLS           free",
        "db1:5432  primary             1.0 ms  18.1     TLSv1.3  97 of 100",
        "db2:5432  standby  0.0 s      1.0 ms  18.1     TLSv1.3  97 of 100",
        "",
        "Connections to each endpoint: 1 host x 2 workers x 4 connections = 8",
        "",
        "warning  X: not used",
        "         Do: Unset what is not meant; what only a .env file has, set in the",
        "         environment.",
        "",
        "0 wrong, 0 warnings, 18 fine",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_nothing_is_cut_off_in_a_narrow_terminal(width: int) -> None:
    """Long lines are folded: each finding and its advice are there, word by word."""
    diagnosis = diagnosed(TROUBLED)
    lines = printed(diagnosis, width)
    assert max(map(len, lines)) <= width
    words = "".join("".join(lines).split())
    bad = [f for f in diagnosis.all_findings if f.severity is not Severity.FINE]
    assert len(bad) >= 5
    for finding in bad:
        for text in (finding.text, finding.advice):
            assert "".join(text.split()) in words
    assert "2wrong,3warnings" in words


def test_what_is_wrong_stands_before_the_warnings() -> None:
    """Whichever server it is of."""
    kinds = [
        line.split()[0]
        for line in printed(diagnosed(TROUBLED), 200)
        if line.startswith(("wrong ", "warning "))
    ]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"wrong", "warning"}


def test_what_several_servers_have_in_common_is_told_once() -> None:
    """With their names, or as what all have."""
    late = {"lag": 60.0, "bypasses_rls": True}
    servers = [
        primary(superuser=True, version=130004),
        standby("db2:5432", version=130004, **late),
        standby("db3:5432", version=130004, **late),
    ]
    said = "\n".join(printed(diagnosed(servers), 200))
    assert "warning  all endpoints: PostgreSQL 13.4 is older" in said
    assert "warning  db1:5432: app is a superuser" in said
    assert "warning  db2:5432, db3:5432: app has BYPASSRLS" in said
    assert said.count("warning  ") == 5
    assert "0 wrong, 4 warnings" in said


def test_what_a_whole_cluster_is_to_change_is_told_once() -> None:
    """On the primary, from which its standbys have it."""
    limits = {**primary().limits, "lock_timeout": 0.0}
    servers = [primary(limits=limits), standby(limits=limits)]
    said = "\n".join(printed(diagnosed(servers), 200))
    assert said.count("lock_timeout not set") == 1
    assert "warning  all endpoints: no limit on waiting for a lock" in said
    assert "Do: ALTER ROLE app SET lock_timeout = '5s' (on the primary): or" in said


def test_only_the_severity_is_in_colour() -> None:
    """What follows it is as plain as the rest."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system="standard")
    show(console, diagnosed([primary(round_trip=1.0)]), [])
    (line,) = [line for line in out.getvalue().splitlines() if "warning  " in line]
    assert line.startswith("\x1b[33mwarning  \x1b[0mdb1:5432: a round trip")


def test_markup_in_what_a_server_says_is_not_obeyed() -> None:
    """It is printed as it is, emoji and all."""
    said = "[bold]FATAL[/bold] [link=x]:smile:"
    facts = Facts("db1:5432", Trouble.LOGIN, said)
    assert said in "\n".join(printed(diagnosed([facts]), 200))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_what_a_terminal_would_obey_is_not_printed(width: int) -> None:
    """Whatever a server calls its roles, or says, and in each part of the table."""
    bad = "a\x1b[31m\x9b2J\n\u202eb"
    limits = {**primary().limits, "lock_timeout": 0.0}
    servers = [
        primary(f"{bad}:1", user=bad, superusers=[bad], limits=limits, tls=bad),
        standby(f"{bad}:2", user=bad, superuser=True),
        Facts(f"{bad}:3", Trouble.LOGIN, bad, refusing_addresses={bad: bad}),
    ]
    lines = printed(diagnosed(servers), width)
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    assert "refusesthelogin:a?[31m?2J??b" in text
    assert "a?[31m?2J??bcanbecomeasuperuserbySETROLEa?[31m?2J??b" in text
    assert 'ALTERROLE"a?[31m?2J??b"SETlock_timeout' in text


@pytest.mark.parametrize("width", [30, 40, 60])
def test_where_a_table_has_no_place_each_server_has_a_block(width: int) -> None:
    """In which no word is split that has a place."""
    lines = printed(diagnosed(TROUBLED[:2]), width)
    assert lines[:7] == [
        "db1:5432",
        "  role        primary",
        "  round trip  1.0 ms",
        "  version     18.1",
        "  TLS         none",
        "  free        97 of 100",
        "db2:5432",
    ]
    assert "  lag         > 1.0 s" in lines
    assert "  version     18.1 pooled" in lines
    words = set("\n".join(printed(diagnosed(TROUBLED[:2]), 1000)).split())
    long = "".join(word for word in words if len(word) > width - len("warning  "))
    pieces = set("\n".join(lines[11:]).split()) - words
    assert all(piece in long for piece in pieces)


def test_a_table_is_as_wide_as_it_must_be() -> None:
    """Wide letters take two places each, and a name may be long."""
    servers = [primary("\N{CJK UNIFIED IDEOGRAPH-6570}" * 8), primary("db2:5432")]
    lines = printed(diagnosed(servers), 200)
    assert [line.index("primary") for line in lines[1:3]] == [10, 18]
    lines = printed(diagnosed([primary("d" * 70 + ":5432")]), 80)
    assert lines[:2] == ["d" * 70 + ":5432", "  role        primary"]


def test_the_free_places_are_those_of_the_narrowest() -> None:
    """Of server, role and database."""
    (_, line, *_) = printed(diagnosed([primary(role_limit=30, role_in_use=25)]), 80)
    assert line.endswith(" 5 of 30")

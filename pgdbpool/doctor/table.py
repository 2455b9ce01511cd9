"""A diagnosis for people, in any width."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from pgdbpool.doctor.facts import Facts, Mode
from pgdbpool.doctor.findings import Finding, Severity
from pgdbpool.doctor.fitting import room_of
from pgdbpool.doctor.words import milliseconds
from pgdbpool.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from pgdbpool.doctor.diagnosis import Diagnosis

# In this order.
STYLES: Final = {Severity.WRONG: "bold red", Severity.WARNING: "yellow"}
ALL: Final = "all endpoints"
INDENT: Final = len("warning  ")
HEADINGS: Final = (
    "endpoint",
    "role",
    "lag",
    "round trip",
    "version",
    "TLS",
    "free",
)
NUMBERS: Final = ("lag", "round trip", "free")
GAP: Final = "  "
# What `pgdbpool.environment` warns of is set, and does not count.
UNUSED: Final = (
    "Unset what is not meant; what only a .env file has, set in the environment."
)


def show(console: Console, diagnosis: Diagnosis, warnings: Sequence[str]) -> None:
    """Print the facts, then each finding that is not fine with what to do.

    Args:
        console: where to.
        diagnosis: what was found.
        warnings: of what was set and does not count.
    """
    _show_facts(console, diagnosis.servers)
    _print(console, f"\nConnections to each endpoint: {diagnosis.plan}\n")
    found = _places(diagnosis)
    for severity in STYLES:
        for finding, places in found.items():
            if finding.severity is severity:
                told = f"{places}: {finding.text}"
                _show_finding(console, severity, told, finding.advice)
    for warning in warnings:
        _show_finding(console, Severity.WARNING, warning, UNUSED)
    _print(console, _sum([*found]))


def _places(diagnosis: Diagnosis) -> dict[Finding, str]:
    """Return each finding once, with the endpoints it is about.

    What a standby is told to change on the primary holds for the primary as well.
    """
    same: dict[Finding, list[tuple[str, Finding]]] = {}
    for one, found in zip(diagnosis.servers, diagnosis.findings, strict=True):
        for finding in found:
            key = dataclasses.replace(finding, advice="")
            same.setdefault(key, []).append((one.name, finding))
    places = {}
    for several in same.values():
        fullest = max((finding for _, finding in several), key=_length_of_advice)
        is_all = 1 < len(several) == len(diagnosis.servers)
        places[fullest] = ALL if is_all else ", ".join(name for name, _ in several)
    everybody = ", ".join(one.name for one in diagnosis.servers)
    where = ALL if len(diagnosis.servers) > 1 else everybody
    return {**places, **dict.fromkeys(diagnosis.general, where)}


def _length_of_advice(finding: Finding) -> int:
    return len(finding.advice)


def _show_finding(console: Console, severity: Severity, text: str, advice: str) -> None:
    beginning = Text.assemble((severity.value.ljust(INDENT), STYLES[severity]))
    for part in (text, f"Do: {advice}"):
        for line in _folded(console, part, INDENT):
            console.print(beginning + line, soft_wrap=True)
            beginning = Text(" " * INDENT)
    console.print()


def _print(console: Console, text: str) -> None:
    for line in text.split("\n"):
        for part in _folded(console, line):
            console.print(part, soft_wrap=True)


def _folded(console: Console, text: str, indent: int = 0) -> Iterator[Text]:
    """Yield the lines of a text; all that is shown comes through here.

    Nothing in it is markup, or anything that a terminal obeys, whoever has said it.
    """
    width = max(1, console.width - indent)
    for line in Text(printable(text)).wrap(console, width, overflow="fold"):
        line.rstrip()
        yield line


def _sum(findings: Sequence[Finding]) -> str:
    wrong, warnings, fine = (
        sum(finding.severity is severity for finding in findings)
        for severity in (Severity.WRONG, Severity.WARNING, Severity.FINE)
    )
    noun = "warning" if warnings == 1 else "warnings"
    return f"{wrong} wrong, {warnings} {noun}, {fine} fine"


def _show_facts(console: Console, servers: Sequence[Facts]) -> None:
    """Print a table, or a block for each server where there is no place for one."""
    rows = [HEADINGS, *(tuple(map(printable, _cells(one))) for one in servers)]
    lines = list(_lines(rows))
    if max(map(cell_len, lines)) <= console.width:
        for line in lines:
            _print(console, line)
        return
    longest = max(map(len, HEADINGS))
    for row in rows[1:]:
        _print(console, row[0])
        for heading, cell in zip(HEADINGS[1:], row[1:], strict=True):
            if cell:
                _print(console, f"{GAP}{heading:{longest}}{GAP}{cell}")


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for heading, cell, width in zip(HEADINGS, row, widths, strict=True):
            pad = " " * (width - cell_len(cell))
            cells.append(pad + cell if heading in NUMBERS else cell + pad)
        yield GAP.join(cells).rstrip()


def _cells(one: Facts) -> Iterator[str]:
    yield one.name
    yield one.role or (one.trouble.value if one.trouble else "")
    yield _lag(one)
    yield "" if one.round_trip is None else milliseconds(one.round_trip)
    yield one.release + _behind(one.pooler) if one.answers else ""
    yield "" if one.tls is None else one.tls or "none"
    room = room_of(one)
    yield "" if room is None else f"{room.free} of {room.limit}"


def _lag(one: Facts) -> str:
    if one.lag is None:
        return ""
    return f"{one.lag:.1f} s" if one.reached else f"> {one.lag:.1f} s"


def _behind(pooler: Mode | None) -> str:
    return "" if pooler is None else " pooled"

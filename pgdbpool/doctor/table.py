"""A diagnosis for people, in any width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from pgdbpool.doctor.facts import Facts, Mode
from pgdbpool.doctor.findings import Finding, Severity
from pgdbpool.doctor.fitting import free_of
from pgdbpool.doctor.rules import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from pgdbpool.doctor.diagnosis import Diagnosis

# In this order.
STYLES: Final = {Severity.WRONG: "bold red", Severity.WARNING: "yellow"}
ALL: Final = "all endpoints"
INDENT: Final = len("warning  ")


def show(console: Console, diagnosis: Diagnosis, warnings: Sequence[str]) -> None:
    """Print the facts, then each finding that is not fine with what to do.

    Args:
        console: where to.
        diagnosis: what was found.
        warnings: of what was set and does not count.
    """
    console.print(_facts(diagnosis.servers))
    console.print(f"\nConnections to each endpoint: {diagnosis.plan}\n")
    found = _places(diagnosis)
    for severity in STYLES:
        for finding, places in found.items():
            if finding.severity is severity:
                _show_finding(console, places, finding)
    for warning in warnings:
        console.print(f"warning  {warning}\n")
    console.print(_sum([*found]))


def _places(diagnosis: Diagnosis) -> dict[Finding, str]:
    """Return each finding once, with the endpoints it is about."""
    names: dict[Finding, list[str]] = {}
    for one, found in zip(diagnosis.servers, diagnosis.findings, strict=True):
        for finding in found:
            names.setdefault(finding, []).append(one.name)
    everybody = [one.name for one in diagnosis.servers]
    names.update((finding, everybody) for finding in diagnosis.general)
    number = len(everybody)
    return {
        finding: ALL if 1 < len(several) == number else ", ".join(several)
        for finding, several in names.items()
    }


def _show_finding(console: Console, places: str, finding: Finding) -> None:
    grid = Table.grid()
    grid.add_column(width=INDENT)
    grid.add_column(overflow="fold")
    severity = Text(finding.severity.value, style=STYLES[finding.severity])
    # Texts, in which nothing is markup, whoever has said it.
    grid.add_row(severity, Text(f"{places}: {finding.text}"))
    grid.add_row("", Text(f"Do: {finding.advice}"))
    console.print(grid)
    console.print()


def _sum(findings: Sequence[Finding]) -> str:
    wrong, warnings, fine = (
        sum(finding.severity is severity for finding in findings)
        for severity in (Severity.WRONG, Severity.WARNING, Severity.FINE)
    )
    noun = "warning" if warnings == 1 else "warnings"
    return f"{wrong} wrong, {warnings} {noun}, {fine} fine"


def _facts(servers: Sequence[Facts]) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("endpoint", "role", "lag", "round trip", "version", "TLS", "free")
    for heading in headings:
        is_number = heading in ("lag", "round trip", "free")
        table.add_column(
            heading, overflow="fold", justify="right" if is_number else "left"
        )
    for one in servers:
        table.add_row(*map(Text, (one.name, *_cells(one))))
    return table


def _cells(one: Facts) -> Iterator[str]:
    yield one.role or (one.trouble.value if one.trouble else "")
    yield "" if one.lag is None else f"{one.lag:.1f} s"
    yield "" if one.round_trip is None else milliseconds(one.round_trip)
    yield one.release + _behind(one.pooler) if one.answers else ""
    yield "" if one.tls is None else one.tls or "none"
    is_known = one.max_connections is not None
    yield f"{free_of(one)} of {one.max_connections}" if is_known else ""


def _behind(pooler: Mode | None) -> str:
    return "" if pooler is None else " pooled"

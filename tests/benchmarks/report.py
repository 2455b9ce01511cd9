"""The reports as tables on a terminal, and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from tests.benchmarks.measure import Check, Report


def show(console: Console, report: Report) -> None:
    """Print one report: the figures, then the promises, then the notes."""
    console.print()
    if report.series:
        console.print(_figures(report))
    else:
        console.print(f"[bold]{escape(report.name)}[/]: {escape(report.title)}")
    for note in report.notes:
        console.print(f"  {escape(note)}", style="dim", soft_wrap=True)


def _figures(report: Report) -> Table:
    table = Table(title=f"{report.name}: {report.title}", title_justify="left")
    table.add_column("variant", no_wrap=True)
    for heading in (f"median, {report.unit}", "least to most", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("to", no_wrap=True)
    for variant, values in report.series.items():
        ratio = report.ratio(variant)
        table.add_row(
            variant,
            _number(statistics.median(values)),
            f"{_number(min(values))} to {_number(max(values))}",
            "" if ratio is None else f"{ratio:.2f}",
            report.reference.get(variant, ""),
        )
    return table


def show_checks(console: Console, reports: Sequence[Report]) -> None:
    """Print every promise of every report with what was measured."""
    table = Table(title="promises", title_justify="left")
    for heading in ("benchmark", "measured"):
        table.add_column(heading, no_wrap=heading == "benchmark")
    for heading in ("value", "target", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for report in reports:
        for check in report.checks:
            table.add_row(report.name, check.what, *_judged(check))
    if table.row_count:
        console.print()
        console.print(table)


def _judged(check: Check) -> tuple[str, str, str]:
    sign = "<=" if check.at_most else ">="
    verdict = "[green]met[/]" if check.is_met else "[bold red]missed[/]"
    return (
        f"{check.value:.2f} {check.unit}",
        f"{sign} {check.limit:g} {check.unit}",
        verdict,
    )


def _number(value: float) -> str:
    """Return three or more significant digits, thousands set apart."""
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
    return f"{value:,.{digits}f}"


def write_json(path: Path, reports: Sequence[Report], versions: dict[str, str]) -> None:
    """Write everything that was measured, each round included."""
    whole = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions,
        "benchmarks": [_plain(report) for report in reports],
    }
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "title": report.title,
        "unit": report.unit,
        "variants": {
            variant: {
                "median": statistics.median(values),
                "rounds": values,
                "ratio": report.ratio(variant),
                "against": report.reference.get(variant),
            }
            for variant, values in report.series.items()
        },
        "promises": [
            {
                "what": check.what,
                "value": check.value,
                "target": check.limit,
                "at_most": check.at_most,
                "unit": check.unit,
                "met": check.is_met,
            }
            for check in report.checks
        ],
        "notes": list(report.notes),
    }

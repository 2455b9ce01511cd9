"""The reports as pictures: every variant's figure, and the promises beside them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.measure import Check, Report

mpl.use("Agg")

from matplotlib import pyplot as plt

OURS = "#1f77b4"
FLOOR = "#5c6670"
FLOORS = ("floor", "bare", "no middleware")
WIDEST_PART = 2.0
THEIRS = "#b8bec6"
MET = "#2e8b57"
MISSED = "#c0392b"
INK = "#30363d"


def draw(report: Report, directory: Path) -> Path | None:
    """Draw one report as ``NAME.png`` and return the file, if there is anything."""
    if not report.series:
        return None
    both = bool(report.checks)
    rows = max(len(report.series), 2 * len(report.checks), 3)
    figure, axes = plt.subplots(
        1,
        2 if both else 1,
        figsize=(13 if both else 8, 1.2 + 0.42 * rows),
        width_ratios=[3, 2] if both else [1],
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(report.title, fontsize=11, color=INK)
    _figures(axes[0][0], report)
    if both:
        _promises(axes[0][1], report)
    path = directory / f"{report.name}.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _figures(ax: Any, report: Report) -> None:  # noqa: ANN401 - matplotlib's Axes
    """Draw a bar a variant, from its median, with the quartiles of its rounds."""
    names = list(report.series)
    medians = [statistics.median(report.series[name]) for name in names]
    colours = [_colour(name) for name in names]
    ax.barh(names, medians, color=colours)
    for row, name in enumerate(names):
        low, high = _quartiles(report.series[name])
        ax.plot([low, high], [row, row], color=INK, linewidth=1)
        ratio = report.ratio(name)
        text = f" {_number(medians[row])}" + (
            "" if ratio is None else f"  ({ratio:.2f} x)"
        )
        ax.text(max(high, medians[row]), row, text, va="center", fontsize=8, color=INK)
    ax.invert_yaxis()
    ax.margins(x=0.22)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"{report.unit} (median; line: middle half of the rounds)")
    _plain(ax)


def _colour(name: str) -> str:
    if name.startswith("pgdbpool"):
        return OURS
    return FLOOR if name.startswith(FLOORS) else THEIRS


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _promises(ax: Any, report: Report) -> None:  # noqa: ANN401 - matplotlib's Axes
    """Draw each promise as a part of its target, which is the line at 1.

    A bar that reaches the right edge goes on; the text has the value.
    """
    parts = [min(_part(check), WIDEST_PART) for check in report.checks]
    colours = [MET if check.is_met else MISSED for check in report.checks]
    ax.barh(range(len(parts)), parts, color=colours, height=0.35)
    ax.axvline(1.0, color=INK, linestyle="--", linewidth=1)
    for row, check in enumerate(report.checks):
        sign = "≤" if check.at_most else "≥"
        verdict = "met" if check.is_met else "missed"
        text = (
            f"{check.what}: {check.value:.2f}, target {sign} {check.limit:g}"
            f" {check.unit}, {verdict}"
        )
        ax.text(0.01, row - 0.28, text, fontsize=8, color=INK, backgroundcolor="white")
    ax.set_ylim(len(parts) - 0.4, -0.7)
    ax.set_yticks([])
    ax.set_xlim(0, WIDEST_PART)
    ax.set_xlabel("value / target (dashed line: the target)")
    _plain(ax)


def _part(check: Check) -> float:
    """Return the value as a part of its target; a target of zero has none."""
    if check.limit:
        return check.value / check.limit
    return 0.0 if check.is_met else 1.0 + check.value


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _plain(ax: Any) -> None:  # noqa: ANN401 - matplotlib's Axes
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=8)

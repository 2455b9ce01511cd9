"""Run the benchmarks: ``python -m tests.benchmarks [--only NAME] [--quick]``."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.benchmarks import (
    contention,
    contention_alone,
    cycle,
    observing,
    ping,
    plain,
    plots,
    recovery,
    report,
    routing,
    served,
    server,
    size,
    spike,
    watched,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.benchmarks.measure import Report
    from tests.benchmarks.server import Setup

BENCHMARKS = {
    module.NAME: module
    for module in (
        *(cycle, size, routing, observing, ping, contention, contention_alone),
        *(served, plain, watched, spike, recovery),
    )
}
WIDTH_OF_A_FILE = 120
DISTRIBUTIONS = (
    "pgdbpool",
    "psycopg2-binary",
    "psycopg2",
    "psycopg",
    "psycopg-pool",
    "SQLAlchemy",
    "DBUtils",
    "gunicorn",
    "prometheus-client",
    "opentelemetry-sdk",
)


def options(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="pgdbpool beside its peers and the floor, measured in one run.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(BENCHMARKS),
        help="run this one (may be given more than once)",
    )
    parser.add_argument("--quick", action="store_true", help="a rough answer, sooner")
    parser.add_argument(
        "--rounds", type=_positive, help="rounds of each, instead of its own number"
    )
    parser.add_argument(
        "--tcp",
        action="store_true",
        help="reach the embedded server by 127.0.0.1, not by its Unix socket",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        default=Path("build/benchmarks"),
        help="where the pictures go (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        reason = "at least 1"
        raise argparse.ArgumentTypeError(reason)
    return number


def main(arguments: list[str]) -> int:
    """Run what is asked for; print tables, draw pictures, write JSON. Blocks."""
    asked = options(arguments)
    asked.plots.mkdir(parents=True, exist_ok=True)
    console = _console()
    # What pools say of a server that restarts is not the question here.
    logging.disable(logging.CRITICAL)
    reports: list[Report] = []
    with _running(asked) as setup:
        for name in asked.only or BENCHMARKS:
            started = time.monotonic()
            with console.status(f"{name} ..."):
                found = BENCHMARKS[name].run(setup)
            reports.append(found)
            report.show(console, found)
            console.print(f"  took {time.monotonic() - started:.0f} s", style="dim")
    report.show_checks(console, reports)
    for found in reports:
        plots.draw(found, asked.plots)
    console.print(f"pictures: {asked.plots}/")
    if asked.json is not None:
        report.write_json(asked.json, reports, _versions())
    return 0


def _running(asked: argparse.Namespace) -> AbstractContextManager[Setup]:
    return server.running(quick=asked.quick, rounds=asked.rounds, tcp=asked.tcp)


def _console() -> Console:
    """Return the terminal, or something wide enough for a file."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)


def _versions() -> dict[str, str]:
    """Return the versions of what was compared, as far as it is installed."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The same contention with all threads of the client on one core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks import contention
from tests.benchmarks.measure import Report, one_core

if TYPE_CHECKING:
    from tests.benchmarks.server import Setup

NAME = "contention-alone"


def run(setup: Setup) -> Report:
    """Measure as `contention.run` does; the server has the other cores."""
    with one_core():
        title = f"{contention.THREADS} threads on one core, as above"
        return contention.measured(setup, NAME, title)

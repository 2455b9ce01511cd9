"""Runs a script of the tests in an interpreter of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(
    source: str, *arguments: object, timeout: float = 30.0, is_measured: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run Python source with arguments; warnings are errors. Blocks until it ends.

    Args:
        source: the script.
        *arguments: its arguments.
        timeout: seconds.
        is_measured: whether coverage may trace it, where it measures.
    """
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *map(str, arguments)],
        env=environ(is_measured=is_measured),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def environ(*, is_measured: bool) -> dict[str, str]:
    """Return the environment of such an interpreter; see `run`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if is_measured or not name.startswith("COVERAGE_")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}

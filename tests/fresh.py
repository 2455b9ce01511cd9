"""A fresh Python, for what depends on what has been imported before."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

Ended = subprocess.CompletedProcess[str]


def python(
    *arguments: str,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Ended:
    """Run the interpreter with such arguments to its end. Blocks.

    Args:
        arguments: of its command line.
        cwd: its directory; None: ours.
        environ: its environment; None: ours.
        timeout: seconds, after which the test has failed.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def run(program: str, *arguments: str, without: Iterable[str] = ()) -> Ended:
    """Run a program to its end, where some modules are not to be had. Blocks."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({list(without)!r})); "
    return python("-c", hidden + program, *arguments)

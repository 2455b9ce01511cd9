"""Seeded faults: each must make a test fail. `python -m tests.faults`.

The package and its tests are copied to a folder of their own; there one line at
a time is made wrong and the unit tests of the core are run. A fault that no test
notices survives: a promise is not tested. Takes one to two minutes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fault_limit import SHARED
from tests.fault_metrics import METRICS
from tests.fault_observed import OBSERVED
from tests.fault_roster import ROSTER
from tests.fault_table import PURE, WITH_SERVER, Fault

FAULTS = [*PURE, *ROSTER, *SHARED, *OBSERVED, *METRICS, *WITH_SERVER]

ROOT = Path(__file__).parent.parent
COPIED = ("pgdbpool", "tests", "pyproject.toml")

# The layers above the core have tests of their own, which take longer.
ABOVE_THE_CORE = (
    *("wsgi", "gunicorn", "demo", "compat", "benchmarks", "documentation"),
    *("check", "doctor", "metrics", "status"),
)

PYTEST = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line"),
    *("-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=0"),
    "--timeout=20",
)

LONGEST_RUN = 300.0


def main() -> int:
    """Try every fault that was asked for; return 1 if one survived."""
    options = parse()
    faults = [
        fault
        for number, fault in enumerate(FAULTS, 1)
        if (not options.only or number in options.only)
        and (options.integration or not fault.needs_server)
    ]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copy = Path(folder)
        copy_to(copy)
        targets = [*unit_tests(copy), *options.integration]
        if not passes(copy, targets):
            say("the tests fail without any fault: mend that first")
            return 1
        survivors = [fault for fault in faults if not is_noticed(copy, fault, targets)]
    say(f"{len(faults)} faults, {len(survivors)} survived")
    return int(bool(survivors))


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument(
        "--integration",
        nargs="+",
        default=[],
        metavar="TEST",
        help="also run these tests, and try the faults that need a server",
    )
    parser.add_argument(
        "--only", nargs="+", type=int, default=[], help="numbers of faults to try"
    )
    return parser.parse_args()


def copy_to(copy: Path) -> None:
    """Copy the package and its tests."""
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=unwanted)
        else:
            shutil.copy(source, copy / name)


def unit_tests(copy: Path) -> Iterator[str]:
    """Yield the unit tests of the core."""
    for path in sorted((copy / "tests/unit").glob("test_*.py")):
        if path.stem.split("_")[1] not in ABOVE_THE_CORE:
            yield str(path.relative_to(copy))


def is_noticed(copy: Path, fault: Fault, targets: list[str]) -> bool:
    """Make one line wrong, run the tests, make it right again."""
    path = copy / "pgdbpool" / fault.file
    right = path.read_text()
    said = f"{FAULTS.index(fault) + 1:3} {fault.file}: {fault.breaks}"
    if right.count(fault.old) != 1:
        say(f"STALE    {said} ({fault.old!r} is there {right.count(fault.old)} times)")
        return False
    try:
        path.write_text(right.replace(fault.old, fault.new))
        survived = passes(copy, targets)
    finally:
        path.write_text(right)
    say(f"{'SURVIVED' if survived else 'noticed '} {said}")
    return not survived


def say(line: str) -> None:
    """Tell it at once, also through a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def passes(copy: Path, targets: list[str]) -> bool:
    """Run tests in the copy; who takes too long has not passed."""
    # Compiled files are told apart by second and size, and faults are as quick.
    changed = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            [*PYTEST, *targets],
            cwd=copy,
            env=os.environ | changed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_RUN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

"""One command for every interpreter of the machine: `nox` (or `nox -s unit`)."""

import os
import subprocess
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

nox.needs_version = ">=2025.10"
nox.options.sessions = ["unit"]
# Also where CI is set, which would make it an error: a missing one is said.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"


def pyenv_versions() -> Path | None:
    """Return where pyenv keeps its interpreters, if there is a pyenv."""
    try:
        said = subprocess.run(
            ["pyenv", "root"],  # noqa: S607 - the user's own, wherever it is
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return Path(said.stdout.strip()) / "versions"


def put_pyenv_on_path() -> None:
    """Make nox find pyenv's real interpreters before its shims.

    A shim of a version that is installed but not selected is found and then fails.
    """
    versions = pyenv_versions()
    if versions is None:
        return
    found = [
        str(path)
        for python in PYTHONS
        for path in sorted(versions.glob(f"{python}.*/bin"), key=_patch, reverse=True)
    ]
    os.environ["PATH"] = os.pathsep.join([*found, os.environ.get("PATH", "")])


def _patch(path: Path) -> int:
    digits = path.parent.name.split(".")[2]
    return int(digits) if digits.isdecimal() else -1  # a pre-release comes last


put_pyenv_on_path()


@nox.session(python=PYTHONS)
def unit(session: nox.Session) -> None:
    """Run the unit tests on each interpreter that is found."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/unit", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, with the coverage of branches."""
    session.install("-e", ".[test]")
    session.run(
        "pytest", "--slow", "--cov", "--cov-report=term-missing", *session.posargs
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Look at format, rules, types, layers and spelling."""
    session.install("-e", ".[test,dev]")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("mypy")
    session.run("lint-imports")
    session.run("codespell")

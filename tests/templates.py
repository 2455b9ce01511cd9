"""What initdb makes, made once for all servers of the tests: they begin with copies.

It takes more than a second, a copy a tenth. The WAL comes in small segments, because
a server that joins a cluster, or comes back to it, is sent whole ones.
"""

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgdbpool.demo.programs import Programs

# Where they are, also for the processes that tests start. Empty: initdb is run.
VARIABLE = "PGDBPOOL_TEST_TEMPLATES"
SMALL_WAL = "--wal-segsize=1"

_run = Programs.run


@contextlib.contextmanager
def templates() -> Iterator[None]:
    """Let initdb run once with the same arguments, for the time of a block."""
    with tempfile.TemporaryDirectory(prefix="pgdbpool-templates-") as directory:
        os.environ[VARIABLE] = directory
        install()
        try:
            yield
        finally:
            Programs.run = _run  # type: ignore[method-assign]
            del os.environ[VARIABLE]


def install() -> None:
    """Have this process begin its servers with copies, if it has been told where."""
    if os.environ.get(VARIABLE):
        Programs.run = _run_or_copy  # type: ignore[method-assign]


def _run_or_copy(self: Programs, name: str, *arguments: str, cwd: Path) -> None:
    """Do what `Programs.run` does."""
    where, *how = arguments
    if name != "initdb" or not how or any("--pwfile" in one for one in how):
        _run(self, name, *arguments, cwd=cwd)
        return
    data = Path(where.removeprefix("--pgdata="))
    called = hashlib.sha256(repr([self.tree.name, *how]).encode()).hexdigest()
    template = Path(os.environ[VARIABLE]) / called
    if not template.exists():
        _run(self, name, *arguments, SMALL_WAL, cwd=cwd)
        _copy(data, template)
        return
    _copy(template, data)


def _copy(data: Path, to: Path) -> None:
    """Copy a data directory, and who owns it, which shutil would not."""
    begun = to.with_name(f"{to.name}-{os.getpid()}")
    subprocess.run(["cp", "-pR", str(data), str(begun)], check=True)  # noqa: S607 - any
    with contextlib.suppress(OSError):  # another process was quicker
        begun.rename(to)

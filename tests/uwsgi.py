"""A real uWSGI, of Debian's packages `uwsgi-core` and `uwsgi-plugin-python3`.

Where one is missing, the tests that need it are skipped and say so.
"""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pgdbpool.demo.postgres import HOST
from tests.hosts import APP, PYTHON_PATH, Host, lacks_debian_python

PLUGINS = Path("/usr/lib/uwsgi/plugins")
PROGRAM = shutil.which(
    "uwsgi-core", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin"])
)


def _lacks() -> Iterator[str]:
    if PROGRAM is None:
        yield "uWSGI is missing: apt-get install uwsgi-core"
    elif not (PLUGINS / "python3_plugin.so").exists():
        yield "uWSGI has no Python: apt-get install uwsgi-plugin-python3"
    else:
        yield from lacks_debian_python()


_missing = list(_lacks())
needs_uwsgi = pytest.mark.skipif(bool(_missing), reason="; ".join(_missing))


class Uwsgi(Host):
    """A uWSGI with a master and some workers."""

    stop_signal = signal.SIGTERM
    # What it is told beside where to listen and what to import.
    options: tuple[str, ...] = ("--processes=8", "--lazy-apps")
    app = f"{APP}:application"
    # How often the application is loaded; one that ends meanwhile leaves a traceback.
    loaded = 8

    def _serves(self) -> bool:
        return super()._serves() and self.log.count("\nWSGI app 0 ") >= self.loaded

    def command(self) -> Sequence[str]:
        """Return what starts it."""
        assert PROGRAM is not None
        return [
            PROGRAM,
            "--plugin=python3",
            "--master",
            "--die-on-term",
            "--need-app",
            f"--http-socket={HOST}:{self.port}",
            *(f"--pythonpath={path}" for path in PYTHON_PATH),
            f"--module={self.app}",
            *self.options,
        ]


class ForkedUwsgi(Uwsgi):
    """Makes the application, and so its pool, in the master, before it forks."""

    options = ("--processes=8",)
    loaded = 1


class ThreadedUwsgi(Uwsgi):
    """Two processes with four threads each.

    A worker that is to end waits in a signal handler for its threads. If its main
    thread has the GIL then, none of them gets on until the master kills it: one reload
    in ten under load, one in three of an application that only computes (2.0.21).
    """

    options = (
        "--processes=2",
        "--threads=4",
        "--enable-threads",
        "--lazy-apps",
        "--worker-reload-mercy=5",
    )
    loaded = 2
    is_graceful = False


class StarvingUwsgi(Uwsgi):
    """One process whose threads run only while it serves a request."""

    options = ("--processes=1", "--lazy-apps")
    loaded = 1


class ExampleUwsgi(Uwsgi):
    """That of the example, as it stands."""

    def command(self) -> Sequence[str]:
        """Return what starts it."""
        assert PROGRAM is not None
        return [
            PROGRAM,
            "--plugin=python3",
            *(f"--pythonpath={path}" for path in PYTHON_PATH),
            f"--http-socket={HOST}:{self.port}",
            "--ini=examples/uwsgi/uwsgi.ini",
        ]

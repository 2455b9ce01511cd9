"""A real Apache with mod_wsgi, of Debian's `apache2` and `libapache2-mod-wsgi-py3`.

Where one is missing, the tests that need it are skipped and say so. Apache serves
nothing as root, so a test of root's runs it as the account `nobody`.
"""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pgdbpool.demo.postgres import HOST
from pgdbpool.demo.programs import is_open_to_all, unprivileged_account
from tests.hosts import PYTHON_PATH, ROOT, Host, lacks_debian_python

MODULES = Path("/usr/lib/apache2/modules")
PROGRAM = shutil.which(
    "apache2", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
)
SCRIPT = "from tests.hosted_app import application\n"
BASE = """
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/pid
ServerName localhost
Listen {host}:{port}
ErrorLog {directory}/log
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
WSGISocketPrefix {directory}/wsgi
"""
OURS = """
WSGIScriptAlias / {directory}/app.wsgi
WSGIApplicationGroup %{{GLOBAL}}
<Directory {directory}>
    Require all granted
</Directory>
"""


def _lacks() -> Iterator[str]:
    if PROGRAM is None:
        yield "Apache is missing: apt-get install apache2"
    elif not (MODULES / "mod_wsgi.so").exists():
        yield "Apache has no mod_wsgi: apt-get install libapache2-mod-wsgi-py3"
    else:
        yield from lacks_debian_python()
        yield from _hides()


def _hides() -> Iterator[str]:
    """Yield what the account that Apache is run by cannot read."""
    if unprivileged_account() is not None:
        for path in PYTHON_PATH:
            if not is_open_to_all(Path(path)):
                yield f"{path} cannot be read by the account `nobody`, as Apache must"


_missing = list(_lacks())
needs_mod_wsgi = pytest.mark.skipif(bool(_missing), reason="; ".join(_missing))


class ModWsgi(Host):
    """An Apache that has daemons of mod_wsgi's serve."""

    stop_signal = signal.SIGTERM
    reload_signal = signal.SIGUSR1  # "graceful"
    is_unprivileged = True
    # Apache's "graceful" ends the daemons as they are: see doc/servers.md.
    is_graceful = False
    mpm = "event"
    conf = (
        OURS
        + """
WSGIDaemonProcess app processes=8 threads=1 home={directory} \\
    python-path={python_path}
WSGIProcessGroup app
"""
    )

    def command(self) -> Sequence[str]:
        """Write its configuration, and return what starts it."""
        assert PROGRAM is not None
        values = {
            "directory": self.directory,
            "host": HOST,
            "port": self.port,
            "mpm": self.mpm,
            "modules": MODULES,
            "python_path": ":".join(PYTHON_PATH),
            "root": ROOT,
        }
        conf = self.directory / "apache.conf"
        conf.write_text((BASE + self.conf).format(**values))
        (self.directory / "app.wsgi").write_text(SCRIPT)
        return [PROGRAM, "-f", str(conf), "-D", "FOREGROUND"]


class ThreadedModWsgi(ModWsgi):
    """Two daemons with five threads each."""

    conf = (
        OURS
        + """
WSGIDaemonProcess app processes=2 threads=5 home={directory} \\
    python-path={python_path}
WSGIProcessGroup app
"""
    )


class EmbeddedModWsgi(ModWsgi):
    """Apache's own processes serve, with one thread each."""

    is_graceful = True
    mpm = "prefork"
    conf = (
        OURS
        + """
WSGIPythonPath {python_path}
StartServers 4
ServerLimit 4
MaxRequestWorkers 4
MinSpareServers 4
MaxSpareServers 4
"""
    )


class ExampleModWsgi(ModWsgi):
    """That of the example, as it stands."""

    conf = "Include {root}/examples/mod_wsgi/apache.conf\n"

    def command(self) -> Sequence[str]:
        """Say where things are, and return what starts it."""
        self.environ["NOTES"] = str(ROOT / "examples" / "mod_wsgi")
        self.environ["NOTES_PYTHON"] = ":".join(PYTHON_PATH)
        return super().command()

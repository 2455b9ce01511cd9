"""Servers that replay another's WAL: a standby made by pg_basebackup, or by order."""

import os
from pathlib import Path

from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.programs import Programs


class Standby(EmbeddedPostgres):
    """A hot standby that streams from a running primary.

    Args:
        primary: the server to follow; it must let the superuser replicate, as the
            embedded one does.
    """

    def __init__(self, primary: EmbeddedPostgres) -> None:
        super().__init__(primary.version)
        self._primary = primary

    def _make_data(self, directory: Path, programs: Programs) -> None:
        data = directory / "data"
        programs.run(
            "pg_basebackup",
            f"--pgdata={data}",
            f"--dbname={self._primary.dsn()}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            cwd=directory,
        )
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{directory}'\n")


def demote(server: EmbeddedPostgres) -> None:
    """Restart a server as a hot standby that follows nobody. Blocks.

    ``pg_promote()`` makes it a primary again.
    """
    assert server.directory is not None, "the server has never been started"
    server.stop("fast")
    signal = server.directory / "data" / "standby.signal"
    signal.touch()
    owner = server.directory.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)
    server.start()

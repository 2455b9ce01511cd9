"""Standbys: servers that replay another's WAL, and how one becomes such.

A role is no property of an `EmbeddedPostgres`: any of them can be promoted, be
demoted, or follow another. All roads end in two places, `standby.signal` and
`primary_conninfo` (PostgreSQL 18 manual, 26.2.4 "Setting Up a Standby Server").
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from pgdbpool.demo import guardian
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres, quoted
from pgdbpool.demo.programs import EmbeddedPostgresError, Programs

# The last primary_conninfo in it is the one that counts.
_CONF = "postgresql.auto.conf"


class Standby(EmbeddedPostgres):
    """A server that begins as a hot standby and streams from a running primary.

    Args:
        primary: The server to follow; it must let the superuser replicate, as the
            embedded one does. Its settings are the standby's.
    """

    def __init__(self, primary: EmbeddedPostgres) -> None:
        super().__init__(primary.version)
        self._primary = primary

    def _make_data(self, directory: Path, programs: Programs) -> None:
        programs.run("pg_basebackup", *_copying(self, self._primary), cwd=directory)


def follow(server: EmbeddedPostgres, primary: EmbeddedPostgres) -> None:
    """Let a standby, or a server that is stopped, follow `primary`. Blocks.

    A stopped one does so from its next start on. It must not have written, or
    replayed, what `primary` does not have: see `rewind` and `copy`.
    """
    conninfo = _conninfo(server, primary)
    if server.is_running:
        change = sql.SQL("ALTER SYSTEM SET primary_conninfo = {}")
        ask(server, change.format(sql.Literal(conninfo)))
        ask(server, "SELECT pg_reload_conf()")
        return
    with (server.data / _CONF).open("a") as file:
        file.write(f"primary_conninfo = {quoted(conninfo)}\n")
    _signal(server)


def demote(server: EmbeddedPostgres) -> None:
    """Restart a server as a hot standby that follows nobody. Blocks.

    ``pg_promote()`` makes it a primary again.
    """
    server.stop("fast")
    _signal(server)
    server.start()


def rewind(server: EmbeddedPostgres, primary: EmbeddedPostgres) -> None:
    """Undo what a stopped server has and `primary` has not; then `follow`. Blocks.

    It may have been killed. Both need full_page_writes, and wal_log_hints or data
    checksums (PostgreSQL 18 manual, pg_rewind).

    Raises:
        EmbeddedPostgresError: It cannot be done; the data may be damaged.
    """
    # Where pg_rewind learns the timeline of one that was promoted just now.
    ask(primary, "CHECKPOINT")
    server.run(
        "pg_rewind",
        f"--target-pgdata={server.data}",
        f"--source-server={primary.dsn()}",
        "--no-sync",
    )


def copy(server: EmbeddedPostgres, primary: EmbeddedPostgres) -> None:
    """Replace the data of a stopped server by a copy of `primary`'s. Blocks.

    Raises:
        EmbeddedPostgresError: It cannot be done; there are no data then.
    """
    guardian.remove_shared_memory(server.data)  # of one that was killed
    shutil.rmtree(server.data)
    server.run("pg_basebackup", *_copying(server, primary))


def ask(
    server: EmbeddedPostgres, query: str | sql.Composed, *parameters: object
) -> Any:  # noqa: ANN401 - whatever the database has
    """Return the first value of the answer, over a session of its own. Blocks.

    None is returned where there is no answer.

    Raises:
        EmbeddedPostgresError: The server refused, or, frozen, did not accept the
            session within 5 s.
    """
    try:
        conn = psycopg2.connect(server.dsn(connect_timeout=5))
        with contextlib.closing(conn), conn.cursor() as cur:
            conn.autocommit = True
            cur.execute(query, parameters or None)
            row = cur.fetchone() if cur.description else None
            return row[0] if row else None
    except psycopg2.Error as error:
        raise EmbeddedPostgresError(f"{server!r}: {str(error).strip()}") from error


def _copying(server: EmbeddedPostgres, primary: EmbeddedPostgres) -> list[str]:
    """Return the arguments of the pg_basebackup that makes `server` a standby."""
    return [
        f"--pgdata={server.data}",
        f"--dbname={_conninfo(server, primary)}",
        "--write-recovery-conf",
        "--checkpoint=fast",
        "--no-sync",
    ]


def _conninfo(server: EmbeddedPostgres, primary: EmbeddedPostgres) -> str:
    """Return how `server` reaches `primary`, where it goes by its own address."""
    return primary.dsn(application_name=f"{HOST}:{server.port}")


def _signal(server: EmbeddedPostgres) -> None:
    """Let a stopped server start as a standby."""
    signal = server.data / "standby.signal"
    signal.touch()
    owner = server.data.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)

"""A primary and its streaming standbys: what a failover is tried on.

`Cluster` makes them of embedded servers, and changes who is the primary: as
planned (`switch_over`) or because the primary died (`fail_over`).
"""

import time
from collections.abc import Mapping

from psycopg2.extensions import make_dsn

from pgdbpool.demo.postgres import HOST, EmbeddedPostgres
from pgdbpool.demo.programs import EmbeddedPostgresError
from pgdbpool.demo.running import Running
from pgdbpool.demo.standby import Standby, ask, copy, follow, rewind

SETTINGS: Mapping[str, object] = {
    # An acknowledged commit is on its way to the standbys, not to be written soon.
    "synchronous_commit": "on",
    # pg_rewind insists on both.
    "full_page_writes": "on",
    "wal_log_hints": "on",
    # Who was away for a while finds what it missed.
    "wal_keep_size": "128MB",
    # How often a standby without a primary looks for one.
    "wal_retrieve_retry_interval": "100ms",
}
# A commit waits until one standby has it, whichever; a standby ignores this.
SYNCHRONOUS: Mapping[str, object] = {"synchronous_standby_names": "ANY 1 (*)"}

_TIMEOUT = 30.0
_POLL = 0.02

_STREAM = "SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'"
_RECEIVED = """
    SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'
"""
_WRITTEN = "SELECT pg_current_wal_lsn()"
_REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %s"
_PROMOTE = "SELECT pg_promote(true, 30)"


class Cluster(Running):
    """A primary and its hot standbys; to be used by one thread at a time.

    Every server keeps its port, whatever its role. They end with their owner, as
    every `EmbeddedPostgres` does.

    Args:
        standbys: How many.
        synchronous: Whether a commit waits until a standby has it too, so that no
            acknowledged one is lost with the primary. It waits for ever where no
            standby is left.
        version: The major version, 18 or 16.
        settings: Lines of postgresql.conf for all, after those of `SETTINGS`.
    """

    def __init__(
        self,
        standbys: int = 2,
        *,
        synchronous: bool = False,
        version: int = 18,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        own = {**SETTINGS, **(SYNCHRONOUS if synchronous else {}), **(settings or {})}
        self._primary = EmbeddedPostgres(version, settings=own)
        self._standbys: list[EmbeddedPostgres] = [
            Standby(self._primary) for _ in range(standbys)
        ]
        self.servers = [self._primary, *self._standbys]

    def _begin(self) -> None:
        """Start all servers and wait until the standbys stream. Blocks."""
        for server in self.servers:
            server.start()
        self._wait_until_followed()

    def switch_over(self) -> None:
        """Make the most advanced standby the primary, as planned. Blocks.

        The primary is shut down, by which the standbys get all it has written; one
        of them is promoted, and the old primary follows it as the others do.

        Raises:
            EmbeddedPostgresError: The primary or all standbys do not run, or a
                step took longer than 30 s.
        """
        old, candidates = self._primary, self._candidates()
        if not old.is_running:
            raise EmbeddedPostgresError(f"there is nothing to switch from: {old!r}")
        self._wait_until_followed()
        old.stop("fast")
        self._promote(candidates)
        self.rejoin(old)

    def fail_over(self) -> None:
        """Make the most advanced standby the primary: the old one is dead. Blocks.

        It is killed in case it only seems so, or there would be two. `rejoin`
        brings it back.

        Raises:
            EmbeddedPostgresError: No standby runs, or a step took longer than 30 s.
        """
        candidates = self._candidates()
        self._primary.kill()
        self._promote(candidates)
        self._wait_until_followed()

    def rejoin(self, server: EmbeddedPostgres) -> None:
        """Start a server that has ended, as a standby of the primary. Blocks.

        What it has and the primary has not is gone afterwards.

        Raises:
            EmbeddedPostgresError: It runs, is the primary, or does not stream
                within 30 s.
        """
        if server.is_running or server is self._primary:
            raise EmbeddedPostgresError(f"{server!r} has not left the cluster")
        try:
            rewind(server, self._primary)
        except EmbeddedPostgresError:
            copy(server, self._primary)
        follow(server, self._primary)
        server.start(_TIMEOUT)
        if server not in self._standbys:
            self._standbys.append(server)
        self._wait_until_followed()

    def wait_until_replayed(self) -> None:
        """Block until all standbys show what the primary has written before.

        Raises:
            EmbeddedPostgresError: That took longer than 30 s.
        """
        written = ask(self._primary, _WRITTEN)
        for server in self._running_standbys():
            _wait(server, f"has replayed {written}", _REPLAYED, written)

    def close(self) -> None:
        """End all servers and remove their directories; may be called twice."""
        for server in reversed(self.servers):
            server.close()

    @property
    def primary(self) -> EmbeddedPostgres:
        """Who takes the writes, or took them when it ended."""
        return self._primary

    @property
    def standbys(self) -> list[EmbeddedPostgres]:
        """Who follows the primary, or will when it is started again."""
        return [server for server in self.servers if server in self._standbys]

    def dsn(
        self, dbname: str = "postgres", user: str = "postgres", **more: object
    ) -> str:
        """Return a connection string with the addresses of all servers.

        Args:
            dbname: The database.
            user: Who logs in.
            more: Further parameters of libpq.
        """
        addresses = {
            "host": ",".join(HOST for _ in self.servers),
            "port": ",".join(str(server.port) for server in self.servers),
        }
        return make_dsn(None, **addresses, dbname=dbname, user=user, **more)

    def __repr__(self) -> str:
        ports = ", ".join(f":{server.port}" for server in self._standbys)
        return f"<Cluster of :{self._primary.port}, standbys {ports or 'none'}>"

    def _candidates(self) -> list[EmbeddedPostgres]:
        """Return who can be promoted: at least one."""
        if running := self._running_standbys():
            return running
        raise EmbeddedPostgresError("no standby runs that could be promoted")

    def _promote(self, candidates: list[EmbeddedPostgres]) -> None:
        """Promote who has received most, and let the other standbys follow it."""
        for server in candidates:
            # What the old primary sent may still be on its way to the disk.
            _wait(server, "has no stream any more", f"SELECT NOT EXISTS ({_STREAM})")
        best = max(candidates, key=lambda server: ask(server, _RECEIVED))
        if not ask(best, _PROMOTE):
            raise EmbeddedPostgresError(f"{best!r} was not promoted")
        self._primary = best
        self._standbys.remove(best)
        for server in self._standbys:
            follow(server, best)

    def _wait_until_followed(self) -> None:
        """Block until every standby that runs streams from the primary."""
        stream = f"SELECT EXISTS ({_STREAM} AND sender_port = %s)"
        for server in self._running_standbys():
            _wait(server, "streams from the primary", stream, self._primary.port)

    def _running_standbys(self) -> list[EmbeddedPostgres]:
        return [server for server in self.standbys if server.is_running]


def _wait(server: EmbeddedPostgres, what: str, query: str, *parameters: object) -> None:
    """Block until a server answers with true, 30 s at most."""
    deadline = time.monotonic() + _TIMEOUT
    while not ask(server, query, *parameters):
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"not within {_TIMEOUT:g} s: {server!r} {what}")
        time.sleep(_POLL)

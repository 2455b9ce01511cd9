"""The database of the demo: one of its own, a cluster of its own, or the user's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.errors import DemoError
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.programs import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self


# For so long a freeze lasts, seconds.
FROZEN = 5.0


class Database:
    """A PostgreSQL, started for the demo unless the user has given one.

    Entering it starts the servers, leaving it ends them. The user's own is neither
    started, disturbed nor ended. To disturb is to restart the only server, or to
    switch over to a standby where there is one.
    """

    def __init__(self, given_dsn: str | None, standbys: int = 0) -> None:
        """Take the user's DSN, or None for servers of the demo's own.

        Args:
            given_dsn: What the user gave.
            standbys: How many follow the primary of the demo's own.
        """
        self.restarts = 0
        self.switch_overs = 0
        self.freezes = 0
        self._given_dsn = given_dsn
        self._own: EmbeddedPostgres | Cluster | None = None
        if given_dsn is None:
            self._own = Cluster(standbys) if standbys else EmbeddedPostgres()
        self._disturbing: threading.Thread | None = None
        self._is_over = threading.Event()
        self._failure: EmbeddedPostgresError | None = None

    def __enter__(self) -> Self:
        """Start the servers, if they are ours. Blocks for a few seconds."""
        if self._own is not None:
            self._own.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the servers and remove their directories, if they are ours. Blocks."""
        self._is_over.set()
        if self._disturbing is not None:
            self._disturbing.join()
        if self._own is not None:
            self._own.__exit__(kind, error, traceback)

    @property
    def is_ours(self) -> bool:
        """Whether the demo may disturb it."""
        return self._own is not None

    @property
    def has_standbys(self) -> bool:
        """Whether it is a cluster of ours."""
        return isinstance(self._own, Cluster)

    @property
    def dsn(self) -> str:
        """Where to find it."""
        return self._given_dsn or (self._own.dsn() if self._own else "")

    @property
    def is_disturbed(self) -> bool:
        """Whether a restart, a switch-over or a freeze is under way."""
        return self._disturbing is not None and self._disturbing.is_alive()

    def begin_disturbance(self) -> None:
        """Restart (``-m fast``) or switch over, in a thread, if it is ours and runs."""
        self._begin(self._disturb)

    def begin_freeze(self) -> None:
        """Have the server, or the primary, do nothing for `FROZEN` seconds."""
        self._begin(self._freeze)

    def _begin(self, disturb: Callable[[], None]) -> None:
        if self.is_ours and not self.is_disturbed:
            self._disturbing = threading.Thread(target=disturb)
            self._disturbing.start()

    def check(self) -> None:
        """Raise `DemoError` when a restart or a switch-over has failed."""
        if self._failure is not None:
            raise DemoError(f"PostgreSQL did not come back: {self._failure}")

    def wait_until_replayed(self) -> None:
        """Block until the standbys, if there are any, show what has been written."""
        if isinstance(self._own, Cluster):
            self._own.wait_until_replayed()

    def _freeze(self) -> None:
        own = self._own
        server = own.primary if isinstance(own, Cluster) else own
        if server is None:
            return
        server.freeze()
        try:
            self._is_over.wait(FROZEN)
        finally:
            server.thaw()
            self.freezes += 1

    def _disturb(self) -> None:
        try:
            if isinstance(self._own, Cluster):
                self._own.switch_over()
                self.switch_overs += 1
            elif self._own is not None:
                self._own.restart("fast")
                self.restarts += 1
        except EmbeddedPostgresError as error:
            self._failure = error

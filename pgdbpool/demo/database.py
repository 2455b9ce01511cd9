"""The database of the demo: one of its own, or the user's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pgdbpool.demo.errors import DemoError
from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.demo.programs import EmbeddedPostgresError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Database:
    """A PostgreSQL, started for the demo unless the user has given one.

    Entering it starts the server, leaving it ends the server. The user's own is
    neither started, restarted nor ended.
    """

    def __init__(self, given_dsn: str | None) -> None:
        """Take the user's DSN, or None for a server of the demo's own."""
        self.restarts = 0
        self._given_dsn = given_dsn
        self._server = EmbeddedPostgres() if given_dsn is None else None
        self._restart: threading.Thread | None = None
        self._failure: EmbeddedPostgresError | None = None

    def __enter__(self) -> Self:
        """Start the server, if it is ours. Blocks for a few seconds."""
        if self._server is not None:
            self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the server and remove its directory, if it is ours. Blocks."""
        if self._restart is not None:
            self._restart.join()
        if self._server is not None:
            self._server.__exit__(kind, error, traceback)

    @property
    def is_ours(self) -> bool:
        """Whether the demo may restart it."""
        return self._server is not None

    @property
    def dsn(self) -> str:
        """Where to find it."""
        return self._given_dsn or (self._server.dsn() if self._server else "")

    @property
    def is_restarting(self) -> bool:
        """Whether a restart is under way."""
        return self._restart is not None and self._restart.is_alive()

    def begin_restart(self) -> None:
        """Restart it (``-m fast``) in a thread, if it is ours and runs."""
        if self.is_ours and not self.is_restarting:
            self._restart = threading.Thread(target=self._do_restart)
            self._restart.start()

    def check(self) -> None:
        """Raise `DemoError` when a restart has failed."""
        if self._failure is not None:
            raise DemoError(f"PostgreSQL did not come back: {self._failure}")

    def _do_restart(self) -> None:
        if self._server is None:
            return
        try:
            self._server.restart("fast")
        except EmbeddedPostgresError as error:
            self._failure = error
        else:
            self.restarts += 1

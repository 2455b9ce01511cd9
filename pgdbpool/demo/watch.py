"""An eye on the database beside the pool: is it up, how many connections."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import psycopg2

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pgdbpool.demo.shop import Shop

INTERVAL = 0.2
# The name begins with the shop's; the hooks of gunicorn append each worker's token.
COUNT = """
    SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, %s)
"""


class Watch:
    """Looks five times a second, in a thread and on a session of its own."""

    def __init__(self, shop: Shop) -> None:
        """Take the shop whose connections are counted."""
        self.is_up = True  # the shop has just been filled
        self.connections = 0
        self._shop = shop
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop looking; waits 5 s at most, which a frozen server may use up."""
        self._stopping.set()
        self._thread.join(5.0)

    def _look_on(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(psycopg2.Error):
                self._look_until_lost()
            self.is_up = False
            self.connections = 0
            self._stopping.wait(INTERVAL)

    def _look_until_lost(self) -> None:
        conn = self._shop.connect(timeout=2)
        try:
            conn.autocommit = True
            with conn.cursor() as cur:
                while not self._stopping.is_set():
                    cur.execute(COUNT, (self._shop.name,))
                    self.connections = sum(count for (count,) in cur)
                    self.is_up = True
                    self._stopping.wait(INTERVAL)
        finally:
            conn.close()

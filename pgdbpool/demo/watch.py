"""An eye on each server beside the pool: what it is, how many connections it has."""

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
LOOK = """
    SELECT count(*), pg_is_in_recovery()
    FROM pg_stat_activity WHERE starts_with(application_name, %s)
"""
PRIMARY, STANDBY, DOWN = "primary", "standby", "down"


class Watch:
    """Looks at all servers of a shop, each five times a second."""

    def __init__(self, shop: Shop) -> None:
        """Take the shop whose connections are counted."""
        self._eyes = [Eye(shop, address) for address in shop.addresses]

    def __enter__(self) -> Self:
        """Begin to look."""
        for eye in self._eyes:
            eye.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop looking; waits 5 s a server at most, which a frozen one may use up."""
        for eye in self._eyes:
            eye.close()

    @property
    def is_up(self) -> bool:
        """Whether some server takes writes."""
        return any(eye.role == PRIMARY for eye in self._eyes)

    @property
    def connections(self) -> int:
        """How many connections the shop has, to all servers together."""
        return sum(eye.connections for eye in self._eyes)

    @property
    def servers(self) -> str:
        """Who is what, or nothing where there is only one."""
        if len(self._eyes) == 1:
            return ""
        return " · ".join(f"{eye.name} {eye.role}" for eye in self._eyes)


class Eye:
    """Looks at one server, in a thread and on a session of its own."""

    def __init__(self, shop: Shop, address: dict[str, str]) -> None:
        """Take whose connections are counted, and where."""
        self.name = f"{address.get('host', '')}:{address.get('port', '')}"
        self.name = self.name.removeprefix("127.0.0.1")
        self.role = PRIMARY  # there is one, the shop has just been filled
        self.connections = 0
        self._shop = shop
        self._address = address
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def open(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; waits 5 s at most."""
        self._closing.set()
        self._thread.join(5.0)

    def _look_on(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(psycopg2.Error):
                self._look_until_lost()
            self.role = DOWN
            self.connections = 0
            self._closing.wait(INTERVAL)

    def _look_until_lost(self) -> None:
        conn = self._shop.connect(connect_timeout=2, **self._address)
        try:
            conn.autocommit = True
            with conn.cursor() as cur:
                while not self._closing.is_set():
                    cur.execute(LOOK, (self._shop.name,))
                    for self.connections, is_standby in cur:
                        self.role = STANDBY if is_standby else PRIMARY
                    self._closing.wait(INTERVAL)
        finally:
            conn.close()

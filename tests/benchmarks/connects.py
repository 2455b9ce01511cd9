"""The pool that is wanted, and connects that are counted and take their time."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg2
import psycopg2.extensions

if TYPE_CHECKING:
    from collections.abc import Callable


class Connects:
    """Counts the connects of one pool and makes each take ``delay`` longer."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.count = 0
        self._lock = threading.Lock()

    def made(self) -> None:
        """Count one, and block for the delay."""
        with self._lock:
            self.count += 1
        time.sleep(self.delay)

    def of_psycopg2(self) -> type[Any]:
        """Return a connection class for psycopg2 that counts and delays."""
        counter = self

        class Slow(psycopg2.extensions.connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
                counter.made()
                super().__init__(*args, **kwargs)

        return Slow

    def of_psycopg(self) -> type[Any]:
        """Return a connection class for psycopg 3 that counts and delays."""
        counter = self

        class Slow(psycopg.Connection[Any]):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
                counter.made()
                return super().connect(*args, **kwargs)

        return Slow


@dataclass(frozen=True)
class Spec:
    """The pool that is wanted, the same for every peer.

    Attributes:
        dsn: Where to connect.
        size: The most connections it may have.
        minimum: How many it opens at once; None means all of them.
        connect: Makes the connections of peers built on psycopg2, if not libpq.
        connects: Counts and delays the connects, if that is wanted.
    """

    dsn: str
    size: int
    minimum: int | None = None
    connect: Callable[[], Any] | None = None
    connects: Connects | None = None

    @property
    def idle(self) -> int:
        """Return how many connections stand ready at the start."""
        return self.size if self.minimum is None else self.minimum

    @property
    def maker(self) -> Callable[[], Any]:
        """Return what makes a psycopg2 connection."""
        if self.connect is not None:
            return self.connect
        return functools.partial(psycopg2.connect, self.dsn, **self.arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of a psycopg2 connect."""
        if self.connects is None:
            return {}
        return {"connection_factory": self.connects.of_psycopg2()}

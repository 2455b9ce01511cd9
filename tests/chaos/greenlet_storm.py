"""Five hundred greenlets, and others that strike them wherever they are."""

import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator

import gevent
from psycopg2.extensions import parse_dsn

from pgdbpool import ConnectionPool, PooledConnection
from pgdbpool.endpoint.entry import Hold
from tests.chaos.patched import ENOUGH, PLACES, SIZE
from tests.chaos.ticking import sockets_to
from tests.soundness import assert_sound

CROWD = 500

# For how long it may go on until every place was struck, seconds.
LONGEST = 20.0


class StormedPool(ConnectionPool):
    """A pool that knows which greenlets are where, so that each place is struck."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, max_size=SIZE, timeout=30.0)
        self.at: dict[gevent.Greenlet, str] = {}

    @contextlib.contextmanager
    def being(self, place: str) -> Iterator[None]:
        """Have the greenlet that runs be somewhere for the time of a block."""
        me = gevent.getcurrent()
        before = self.at.get(me)
        self.at[me] = place
        try:
            yield
        finally:
            if before is None:
                del self.at[me]
            else:
                self.at[me] = before

    def _stand_in_line(
        self, hold: Hold, asked: float, deadline: float, *, again: bool
    ) -> PooledConnection:
        with self.being("line"):
            return super()._stand_in_line(hold, asked, deadline, again=again)

    def _check_and_ping(self, conn: PooledConnection) -> None:
        with self.being("ping"):
            super()._check_and_ping(conn)

    def commit(self, conn: PooledConnection, *, is_last: bool = False) -> None:
        """Commit, and be seen doing so."""
        with self.being("commit"):
            super().commit(conn, is_last=is_last)

    def release(self, conn: PooledConnection, hold: Hold, *, keep: bool = True) -> bool:
        """Release, and be seen doing so."""
        with self.being("release"):
            return super().release(conn, hold, keep=keep)


class Warnings(logging.Handler):
    """What the pool complains of, such as a connection that was not released.

    Attributes:
        said: the messages.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        logging.getLogger("pgdbpool").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.said.append(record.getMessage())


class Storm:
    """Greenlets that hold connections, while others strike them.

    Args:
        dsn: of the server.
        table: to write to.
    """

    def __init__(self, dsn: str, table: str) -> None:
        self.pool = StormedPool(dsn)
        self.warnings = Warnings()
        self.errors: list[str] = []
        self.acknowledged: list[int] = []
        self.counts: Counter[str] = Counter()
        self.most_sockets = 0
        self._insert = f"INSERT INTO {table} (id) VALUES (%s)"
        self._port = int(parse_dsn(dsn)["port"])
        self._owners: dict[int, object] = {}
        self._numbers = iter(range(10**9))
        self._is_over = False
        self._crowd: list[gevent.Greenlet] = []

    def rage(self, seconds: float) -> None:
        """Strike for so long, and until every place was struck; then let all end."""
        looking = gevent.spawn(self._look)
        began = time.monotonic()
        while time.monotonic() - began < seconds or not self._is_enough:
            alive = [one for one in self._crowd if not one.dead]
            missing = CROWD - len(alive)
            self._crowd = alive + [gevent.spawn(self._live) for _ in range(missing)]
            for place in ("line", random.choice((*PLACES, "release"))):
                self._strike(place)
            gevent.sleep(0.005)
            if time.monotonic() - began > seconds + LONGEST or self.errors:
                break
        self._is_over = True
        gevent.joinall(self._crowd, timeout=20.0)
        looking.kill()

    @property
    def _is_enough(self) -> bool:
        return all(self.counts[f"killed in {place}"] >= ENOUGH for place in PLACES)

    def _strike(self, place: str) -> None:
        found = [one for one, at in self.pool.at.items() if at == place and one]
        for victim in random.sample(
            found, min(len(found), 4 if place == "line" else 1)
        ):
            victim.kill(block=False)
            self.counts["kills"] += 1
            self.counts[f"killed in {place}"] += 1

    def _look(self) -> None:
        while True:
            assert_sound(self.pool)
            self.most_sockets = max(self.most_sockets, sockets_to(self._port))
            gevent.sleep(0.05)

    def _live(self) -> None:
        while not self._is_over:
            limit = random.random() * 0.6 if random.random() < 0.3 else None
            timeout = gevent.Timeout.start_new(limit)
            try:
                self._hold()
                self.counts["holds"] += 1
            except gevent.Timeout as struck:
                if struck is not timeout:
                    raise
                self.counts["timeouts"] += 1
            except RuntimeError:  # as an application has them
                self.counts["own errors"] += 1
            except Exception as error:  # noqa: BLE001 - told at the end
                self.errors.append(f"{type(error).__name__}: {error}")
            finally:
                timeout.close()

    def _hold(self) -> None:
        number, me = next(self._numbers), object()
        with self.pool.connection() as conn, self.pool.being("query"):
            backend = conn.info.backend_pid
            if self._owners.setdefault(backend, me) is not me:
                self.errors.append(f"two holders of {backend}")
            try:
                self._work(conn, number)
            finally:
                if self._owners.pop(backend, None) is not me:
                    self.errors.append(f"two holders of {backend}")
        if number % 3 == 0:
            self.acknowledged.append(number)

    def _work(self, conn: PooledConnection, number: int) -> None:
        with conn.cursor() as cur:
            cur.execute("SELECT %s, pg_backend_pid()", (number,))
            if cur.fetchone() != (number, conn.info.backend_pid):
                self.errors.append("the answer of another query")
            if number % 3 == 0:
                cur.execute(self._insert, (number,))
            if number % 5 == 0:
                cur.execute("SELECT pg_sleep(0.005)")
            if number % 4 == 0:
                raise RuntimeError

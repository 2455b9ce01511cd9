"""A roster without a server, a clock or threads: the test says what happens.

What the pool would do after unlocking is written down instead, in `begun` and
`closed`, and the test lets connects succeed or fail.
"""

import functools
import sys
import threading
import weakref
from collections import deque
from typing import Any, cast

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold
from pgdbpool.endpoint.host import Host
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.planning import Acts, Job
from pgdbpool.settings import Settings
from pgdbpool.upkeep import TendedRoster
from pgdbpool.waiters import Waiter
from tests.soundness import complaints

REFUSED = OSError("Connection refused")
START = 1000.0


class FakeConnection:
    """What a roster needs of a connection: that it has an entry and a hold."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.hold: Hold | None = None
        self.is_renewed = self.is_touched = False


class InOrder(dict[Entry, None]):
    """A set that is gone through in order, so that nothing depends on chance."""

    def add(self, entry: Entry) -> None:
        """Add as a set does."""
        self[entry] = None

    def discard(self, entry: Entry) -> None:
        """Remove as a set does."""
        self.pop(entry, None)


class ScriptedRoster(TendedRoster):
    """A roster that is open and does nothing by itself.

    Args:
        hosts: its servers; `ScriptedCluster` knows what to do with several.
        need: what a plain hold needs where there are several.
        **given: settings of the pool.

    Attributes:
        now: the time, which only the test moves.
        endpoint: its only one, or the first.
        begun: the connects that were begun and have not ended, oldest first.
        closed: the connections that were closed, and why.
        warnings: what an operator is told.
        probes: what was reserved to ask a server with.
        resolving: the names that were to be resolved.
        visiting: the addresses that were to be visited at.
    """

    def __init__(
        self, *hosts: str, need: Need | None = Need.ANY, **given: object
    ) -> None:
        settings = Settings.of("", given)
        endpoints = [
            Endpoint({"host": host, "connect_timeout": "5"}, {}, settings)
            for host in hosts or ("db1",)
        ]
        for endpoint in endpoints:
            endpoint.entries = cast("Any", InOrder())
        self.endpoint = endpoints[0]
        self.warnings: list[str] = []
        self.probes: list[tuple[Entry, PooledConnection]] = []
        acts = Acts(
            self._begin,
            self._write_down,
            self._ask,
            self._look_up,
            self._visit,
            self._write_warning,
        )
        super().__init__(endpoints, settings, need, acts)
        self.is_open = True
        self.now = START
        self.resolving: list[Host] = []
        self.visiting: list[str] = []
        self.begun: deque[Entry] = deque()
        self.closed: list[tuple[FakeConnection, Reason]] = []
        self.settle()

    def settle(self) -> None:
        """Let it be known where the names lead: to one server each."""
        for endpoint in self.endpoints:
            if endpoint.host is not None:
                endpoint.host.is_met = True
        self._settle_down(self.now)

    def _begin(self, entry: Entry) -> Job:
        def begin() -> None:
            if not entry.has_begun:
                entry.has_begun = True
                self.begun.append(entry)

        return begin

    def _write_down(self, conn: PooledConnection, reason: Reason) -> Job:
        return functools.partial(self.closed.append, (cast("Any", conn), reason))

    def _ask(self, entry: Entry, conn: PooledConnection) -> Job:
        return functools.partial(self.probes.append, (entry, conn))

    def _look_up(self, host: Host) -> Job:
        return functools.partial(self.resolving.append, host)

    def _visit(self, _endpoint: Endpoint, address: str) -> Job:
        return functools.partial(self.visiting.append, address)

    def _write_warning(self, text: str) -> Job:
        return functools.partial(self.warnings.append, text)

    def act(self) -> None:
        """Do the jobs that were decided, and see that all is in order."""
        while self.jobs:
            self.jobs.popleft()()
        found = self.complaints()
        assert not found, "; ".join(found)

    def complaints(self) -> list[str]:
        """Return what is not in order."""
        return list(complaints(self, has_shrunk=True))

    @property
    def reasons(self) -> list[Reason]:
        """Why connections were closed, in order."""
        return [reason for _, reason in self.closed]

    # What callers do.

    def new_hold(self, request: str | None = None, *, is_block: bool = True) -> Hold:
        """Return the hold of a new caller."""
        return Hold(self.now, sys._getframe(), request, is_block)

    def acquire(
        self, request: str | None = None, *, is_block: bool = True, thread: int = 0
    ) -> Waiter:
        """Acquire as the pool does; who need not wait comes back awake."""
        hold = self.new_hold(request, is_block=is_block)
        return self.ask_for(hold, thread=thread)

    def ask_for(self, hold: Hold, *, thread: int = 0) -> Waiter:
        """Acquire for a hold as the pool does."""
        hold.thread = thread or threading.get_ident()
        conn = self.take(hold, self.now)
        if conn is None:
            waiter = self.join(hold, self.now, again=False)
        else:
            waiter = Waiter(hold)
            waiter.conn = conn
            waiter.wake()
        self.act()
        return waiter

    def release(self, waiter: Waiter, *, reason: Reason | None = None) -> bool:
        """Release what a waiter was given, as clean or as unfit for a reason."""
        hold, conn = waiter.hold, waiter.conn
        assert hold is not None
        assert conn is not None
        entry = self.end(hold, conn, self.now, reason is None)
        if entry is not None and reason is not None:
            self.fail(entry, conn, reason, self.now)
        self.act()
        return entry is not None

    # What the server does.

    def connect(self, entry: Entry | None = None) -> FakeConnection:
        """Let a connect succeed, the oldest unless told which."""
        if entry is None:
            entry = self.begun.popleft()
        else:
            self.begun.remove(entry)
        conn = FakeConnection(entry)
        if entry.state is State.CONNECTING:
            entry.reference = cast("Any", weakref.ref(conn))
            self.introduce(entry)
        self.connected(entry, cast("Any", conn), 0.01, self.now)
        self.act()
        return conn

    def introduce(self, entry: Entry) -> None:
        """Let a new session tell who its server is."""

    def refuse(
        self, error: BaseException = REFUSED, entry: Entry | None = None
    ) -> None:
        """Let a connect fail, the oldest unless told which."""
        if entry is None:
            entry = self.begun.popleft()
        else:
            self.begun.remove(entry)
        self.connect_failed(entry, error, self.now)
        self.act()

    def fill(self, size: int) -> list[Waiter]:
        """Acquire as often as that, and let the server answer."""
        waiters = [self.acquire() for _ in range(size)]
        while self.begun:
            self.connect()
        return waiters

    # What time does.

    def pass_time(self, seconds: float) -> float:
        """Let time pass and upkeep come by; return when it wants to come again."""
        self.now += seconds
        due = self.upkeep(self.now)
        self.act()
        return due

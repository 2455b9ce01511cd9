"""A roster of several servers, of which the test says who is what."""

import sys
from dataclasses import replace

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry, Hold, Reading, StrictReading
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Finding, Role
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.waiters import Waiter
from tests.unit.scripted_roster import REFUSED, ScriptedRoster

HOSTS = ("db1", "db2", "db3")
POSITION = 1000


def primary_at(position: int | None, timeline: int | None = 1) -> Finding:
    """Return what the probe of a primary finds."""
    return Finding(Role.PRIMARY, position, timeline, 0.001)


def standby_at(position: int | None) -> Finding:
    """Return what the probe of a standby finds."""
    return Finding(Role.STANDBY, position, None, 0.001)


class ScriptedCluster(ScriptedRoster):
    """A roster of a primary, which is the first host, and its standbys.

    Args:
        hosts: the servers.
        need: what a plain hold needs.
        is_met: whether all have introduced themselves, each with one idle connection.
        **given: settings of the pool.

    Attributes:
        says: what each server says of itself, at its first connect and when probed.
        callers: all who ever asked, so that no connection is lost with its holder.
    """

    def __init__(
        self,
        *hosts: str,
        need: Need | None = Need.PRIMARY,
        is_met: bool = True,
        **given: object,
    ) -> None:
        super().__init__(*(hosts or HOSTS), need=need, **given)
        self.callers: list[Waiter] = []
        first, *others = self.endpoints
        self.says = {first: primary_at(POSITION)}
        self.says |= dict.fromkeys(others, standby_at(POSITION))
        if is_met:
            self.line.leave(self.write())
            while self.begun:
                self.connect()

    def complaints(self) -> list[str]:
        """Return what is not in order; who waits may not have everything idle."""
        found = [text for text in super().complaints() if " wait while " not in text]
        for waiter in self.line:
            assert waiter.hold is not None
            # A reader that the primary may serve from now on is served at the next
            # upkeep: the slow start of a standby can end what it may have any time.
            spared = self.monitor.primary if waiter.hold.is_reading else None
            found += [
                f"{waiter.hold!r} waits while {endpoint.name} is idle"
                for endpoint in self.chooser.order(waiter.hold, self.now)
                if endpoint.shelf and endpoint is not spared
            ]
        return found

    # What callers do.

    def ask_for(self, hold: Hold, *, thread: int = 0) -> Waiter:
        """Acquire for a hold as the pool does."""
        waiter = super().ask_for(hold, thread=thread)
        self.callers.append(waiter)
        return waiter

    def write(self, *, thread: int = 0) -> Waiter:
        """Acquire as `connection()` does."""
        return self.acquire(thread=thread)

    def new_reading(
        self, *, is_strict: bool = False, after: int | None = None
    ) -> Reading:
        """Return the hold of a new caller who only reads."""
        kind = StrictReading if is_strict else Reading
        return kind(self.now, sys._getframe(), None, True, after)

    def read(
        self, *, is_strict: bool = False, after: int | None = None, thread: int = 0
    ) -> Waiter:
        """Acquire as `connection(read_only=True)` does."""
        hold = self.new_reading(is_strict=is_strict, after=after)
        return self.ask_for(hold, thread=thread)

    # What the servers do.

    def introduce(self, entry: Entry) -> None:
        """Let a server that is not known say who it is, as the pool asks it to."""
        endpoint = entry.endpoint
        finding = None if endpoint.standing.is_known else self.says[endpoint]
        self.learned(endpoint, finding, self.says[endpoint].role, self.now)

    def connect_to(self, endpoint: Endpoint) -> None:
        """Let all connects to one server succeed."""
        for entry in tuple(self.begun):
            if entry.endpoint is endpoint:
                self.connect(entry)

    def refuse_at(self, endpoint: Endpoint, error: BaseException = REFUSED) -> None:
        """Let all connects to one server fail."""
        for entry in tuple(self.begun):
            if entry.endpoint is endpoint:
                self.refuse(error, entry)

    def answer(self) -> list[Endpoint]:
        """Let all probes be answered; return whose they were."""
        asked = [entry.endpoint for entry, _ in self.probes]
        while self.probes:
            entry, conn = self.probes.pop(0)
            self.probed(entry, conn, self.says[entry.endpoint], self.now)
            self.act()
        return asked

    def lose(self, endpoint: Endpoint) -> None:
        """Let a server end all its idle sessions, as one that crashes does."""
        if endpoint.shelf:
            conn = endpoint.shelf[-1]
            self.hung_up(conn.entry, conn, self.now)
            self.act()

    def break_off(self, waiter: Waiter) -> None:
        """Let a holder find that its server is gone, and release."""
        self.release(waiter, reason=Reason.LOST)

    def promote(self, endpoint: Endpoint) -> None:
        """Let a standby become the primary of a new timeline."""
        timeline = max(finding.timeline or 0 for finding in self.says.values()) + 1
        was = self.says[endpoint]
        self.says[endpoint] = replace(was, role=Role.PRIMARY, timeline=timeline)

    def pass_and_answer(self, seconds: float) -> None:
        """Let time pass in steps of upkeep, and all probes be answered."""
        end = self.now + seconds
        while self.now < end:
            self.pass_time(min(0.1, end - self.now))
            self.answer()


def endpoint_of(waiter: Waiter) -> Endpoint:
    """Return by whom a caller was served."""
    assert waiter.conn is not None, "it waits"
    return waiter.conn.entry.endpoint


def idle_at(endpoint: Endpoint) -> list[PooledConnection]:
    """Return what is on the shelf of one server."""
    assert endpoint.count(State.IDLE) == len(endpoint.shelf)
    return list(endpoint.shelf)

"""Whatever happens to a cluster, a roster stays sound, and forgets nobody."""

import psycopg2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.planning import MOST_CONNECTING
from pgdbpool.waiters import Waiter
from tests.unit.scripted_cluster import (
    POSITION,
    ScriptedCluster,
    endpoint_of,
    primary_at,
    standby_at,
)
from tests.unit.scripted_roster import REFUSED

SILENCE = psycopg2.OperationalError("timeout expired")
TOO_MANY = OSError("FATAL:  sorry, too many clients already")
ANY = st.integers(0, 99)
PATIENCE = 30.0  # seconds in which whoever can be served is


class AnyFate(RuleBasedStateMachine):
    """A cluster's life without a plan.

    Attributes:
        waiting: who stands in line, in the order in which they joined it.
        held: who was served and has not released.
        down: the servers that answer nobody.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Waiter] = []
        self.held: list[Waiter] = []
        self.down: set[Endpoint] = set()

    @initialize(
        hosts=st.integers(2, 4),
        min_size=st.integers(0, 2),
        max_size=st.integers(2, 4),
        balance=st.sampled_from(["least_in_use", "round_robin", "nearest"]),
        max_lag=st.sampled_from([None, 10.0]),
    )
    def make(
        self,
        hosts: int,
        min_size: int,
        max_size: int,
        balance: str,
        max_lag: float | None,
    ) -> None:
        """Begin with a pool that nobody has used."""
        self.roster = ScriptedCluster(
            *(f"db{number}" for number in range(1, hosts + 1)),
            is_met=False,
            min_size=min_size,
            max_size=max_size,
            balance=balance,
            max_lag=max_lag,
            grace=5.0,
        )

    def one(self, which: int) -> Endpoint:
        """Return some server."""
        return self.roster.endpoints[which % len(self.roster.endpoints)]

    # What callers do.

    @rule(thread=st.integers(1, 5))
    def write(self, thread: int) -> None:
        """Somebody wants to write."""
        self.waiting.append(self.roster.write(thread=thread))

    @rule(
        thread=st.integers(1, 5),
        is_strict=st.booleans(),
        after=st.sampled_from([None, None, POSITION, POSITION + 1]),
    )
    def read(self, thread: int, after: int | None, *, is_strict: bool) -> None:
        """Somebody wants to read."""
        waiter = self.roster.read(is_strict=is_strict, after=after, thread=thread)
        self.waiting.append(waiter)

    @precondition(lambda self: self.held)
    @rule(
        which=ANY,
        reason=st.sampled_from(
            [None, None, None, Reason.DIRTY, Reason.LOST, Reason.WRONG_ROLE]
        ),
    )
    def release(self, which: int, reason: Reason | None) -> None:
        """A hold ends."""
        waiter = self.held.pop(which % len(self.held))
        assert self.roster.release(waiter, reason=reason)

    @precondition(lambda self: self.waiting)
    @rule(which=ANY)
    def lose_patience(self, which: int) -> None:
        """The time of somebody in line is up."""
        waiter = self.waiting.pop(which % len(self.waiting))
        self.roster.line.leave(waiter)

    # What the servers do.

    @precondition(lambda self: self.roster.begun)
    @rule(which=ANY, is_refused=st.sampled_from([False, False, False, True]))
    def connect(self, which: int, *, is_refused: bool) -> None:
        """A connect ends, as the server is."""
        entry = self.roster.begun[which % len(self.roster.begun)]
        if entry.endpoint in self.down:
            self.roster.refuse(REFUSED, entry)
        elif is_refused:
            self.roster.refuse(TOO_MANY, entry)
        else:
            self.roster.connect(entry)

    @precondition(lambda self: self.roster.probes)
    @rule()
    def answer(self) -> None:
        """The oldest probe ends, as the server is."""
        roster = self.roster
        entry, conn = roster.probes.pop(0)
        if entry.endpoint in self.down:
            entry.endpoint.health.ping_lost(SILENCE, roster.now)
            roster.fail(entry, conn, Reason.PING_FAILED, roster.now)
        else:
            roster.probed(entry, conn, roster.says[entry.endpoint], roster.now)

    @rule(which=ANY)
    def hang_up(self, which: int) -> None:
        """A server ends an idle session."""
        self.roster.lose(self.one(which))

    @rule(which=ANY)
    def go_down(self, which: int) -> None:
        """A server answers nobody any more."""
        self.down.add(self.one(which))

    @rule(which=ANY)
    def come_up(self, which: int) -> None:
        """A server answers again, as what it was."""
        self.down.discard(self.one(which))

    @rule(which=ANY)
    def promote(self, which: int) -> None:
        """A server becomes the primary; who was it may not know."""
        self.roster.promote(self.one(which))

    @rule(which=ANY, position=st.sampled_from([None, 0, POSITION, POSITION + 1]))
    def follow(self, which: int, position: int | None) -> None:
        """A server becomes a standby, or is another one."""
        self.roster.says[self.one(which)] = standby_at(position)

    @rule(which=ANY, position=st.integers(POSITION, POSITION + 9))
    def move_on(self, which: int, position: int) -> None:
        """A primary writes."""
        said = self.roster.says[self.one(which)]
        if said.timeline is not None:
            self.roster.says[self.one(which)] = primary_at(position, said.timeline)

    # What the pool does.

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0, 7.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes, and upkeep always comes later than now."""
        assert self.roster.pass_time(seconds) > self.roster.now

    # What is always so.

    @invariant()
    def all_is_well(self) -> None:
        """The states add up, and whatever else `complaints` looks for."""
        self.roster.act()
        self._who_is_served_is_served_by_the_right_one()
        self._every_hold_has_exactly_one_connection()
        self._no_server_has_more_than_it_can_bear()
        self._the_primary_says_so()

    def _who_is_served_is_served_by_the_right_one(self) -> None:
        for waiter in self._newly_served():
            assert waiter.hold is not None
            if not waiter.hold.is_reading:
                assert endpoint_of(waiter) is self.roster.monitor.primary

    def _newly_served(self) -> list[Waiter]:
        # In order of arrival among those who write.
        writers = [
            waiter
            for waiter in self.waiting
            if waiter.hold is not None and not waiter.hold.is_reading
        ]
        served = [waiter for waiter in writers if waiter.is_awake]
        assert served == writers[: len(served)]
        awake = [waiter for waiter in self.waiting if waiter.is_awake]
        self.waiting = [waiter for waiter in self.waiting if not waiter.is_awake]
        assert list(self.roster.line) == self.waiting
        newly = [waiter for waiter in awake if waiter.conn is not None]
        self.held += newly
        return newly

    def _every_hold_has_exactly_one_connection(self) -> None:
        conns = [waiter.conn for waiter in self.held]
        holds = {id(waiter.hold) for waiter in self.held}
        assert len({id(conn) for conn in conns}) == len(conns)
        assert {id(hold) for hold in self.roster.holds()} == holds

    def _no_server_has_more_than_it_can_bear(self) -> None:
        for endpoint in self.roster.endpoints:
            assert len(endpoint.entries) <= self.roster.max_size
            assert endpoint.count(State.CONNECTING) <= MOST_CONNECTING

    def _the_primary_says_so(self) -> None:
        # And nobody who was asked says so of a higher timeline.
        primary = self.roster.monitor.primary
        if primary is None:
            return
        timeline = primary.standing.timeline or 0
        assert primary.standing.is_known
        assert timeline >= max(self.roster.monitor._highest.values(), default=0)

    def teardown(self) -> None:
        """Once all servers are well again, whoever waits is served or refused."""
        if not hasattr(self, "roster"):
            return
        roster = self.roster
        self.down.clear()
        first, *others = roster.endpoints
        roster.promote(first)
        roster.says[first] = primary_at(POSITION + 10, roster.says[first].timeline)
        roster.says |= dict.fromkeys(others, standby_at(POSITION + 10))
        end = roster.now + PATIENCE
        while roster.now < end and (self.waiting or self.held):
            for waiter in self.held:
                roster.release(waiter)
            self.held.clear()
            while roster.begun:
                roster.connect()
            roster.pass_and_answer(0.1)
            self._newly_served()
        assert not self.waiting


TestAnyFate = AnyFate.TestCase
TestAnyFate.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)

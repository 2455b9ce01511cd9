"""Whatever happens to a roster, in whatever order, it stays sound."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pgdbpool.endpoint.connection import PooledConnection
from pgdbpool.endpoint.state import Reason, State, move
from pgdbpool.planning import MOST_CONNECTING
from pgdbpool.waiters import Waiter
from tests.unit.scripted_roster import REFUSED, ScriptedRoster

SIZES = st.tuples(st.integers(0, 3), st.integers(1, 6)).filter(lambda s: s[0] <= s[1])
ERRORS = st.sampled_from([REFUSED, OSError("FATAL: sorry, too many clients already")])
UNFIT = [Reason.DIRTY, Reason.LOST, Reason.WRONG_ROLE]
UNTOLD_UNFIT = st.sampled_from([None, None, None, *UNFIT])
ANY = st.integers(0, 99)


class AnyOrder(RuleBasedStateMachine):
    """A pool's life without a plan.

    Attributes:
        waiting: who stands in line, in the order in which they joined it.
        held: who was served and has not released.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Waiter] = []
        self.held: list[Waiter] = []
        self.reserved: list[PooledConnection] = []

    @initialize(
        sizes=SIZES,
        order=st.sampled_from(["lifo", "fifo"]),
        max_idle=st.sampled_from([None, 5.0]),
        max_lifetime=st.sampled_from([None, 20.0]),
    )
    def make(
        self,
        sizes: tuple[int, int],
        order: str,
        max_idle: float | None,
        max_lifetime: float | None,
    ) -> None:
        """Begin with a pool that nobody has used."""
        self.roster = ScriptedRoster(
            min_size=sizes[0],
            max_size=sizes[1],
            order=order,
            max_idle=max_idle,
            max_lifetime=max_lifetime,
            grace=5.0,
        )

    # What callers do.

    @precondition(lambda self: self.roster.is_open)
    @rule(thread=st.integers(1, 5))
    def acquire(self, thread: int) -> None:
        """Somebody wants a connection, and gets one if one is idle."""
        idle = self.roster.count(State.IDLE)
        waiter = self.roster.acquire(thread=thread)
        self.waiting.append(waiter)
        assert waiter.is_awake or idle == 0 or self.roster.closed

    @precondition(lambda self: self.held)
    @rule(which=ANY, reason=UNTOLD_UNFIT)
    def release(self, which: int, reason: Reason | None) -> None:
        """A hold ends; a second release of it changes nothing."""
        waiter = self.held.pop(which % len(self.held))
        assert self.roster.release(waiter, reason=reason)
        assert not self.roster.release(waiter)

    @precondition(lambda self: self.held)
    @rule(which=ANY)
    def lose(self, which: int) -> None:
        """A holder forgets its connection, which is collected."""
        waiter = self.held.pop(which % len(self.held))
        assert waiter.conn is not None
        entry, waiter.conn = waiter.conn.entry, None
        self.roster.retire(entry, None, Reason.ABANDONED)
        self.roster.plan(self.roster.now)

    @precondition(lambda self: self.waiting)
    @rule(which=ANY)
    def lose_patience(self, which: int) -> None:
        """The time of somebody in line is up."""
        waiter = self.waiting.pop(which % len(self.waiting))
        self.roster.line.leave(waiter)

    # What the server does.

    @precondition(lambda self: self.roster.begun)
    @rule(which=ANY)
    def connect(self, which: int) -> None:
        """A connect succeeds, in time or not."""
        begun = self.roster.begun
        self.roster.connect(begun[which % len(begun)])

    @precondition(lambda self: self.roster.begun)
    @rule(error=ERRORS)
    def refuse(self, error: OSError) -> None:
        """A connect fails."""
        self.roster.refuse(error)

    @rule(which=ANY)
    def hang_up(self, which: int) -> None:
        """The server ends a session."""
        conns = [entry.conn for entry in self.roster.endpoint.entries if entry.conn]
        if conns:
            conn = conns[which % len(conns)]
            self.roster.hung_up(conn.entry, conn, self.roster.now)

    # What the pool does.

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 7.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.roster.pass_time(seconds)

    @precondition(lambda self: self.roster.endpoint.shelf)
    @rule()
    def reserve(self) -> None:
        """The pool begins to check what is idle."""
        conn = self.roster.endpoint.shelf.pop()
        move(conn.entry, State.RESERVED)
        self.reserved.append(conn)

    @precondition(lambda self: self.reserved)
    @rule(reason=UNTOLD_UNFIT)
    def give_back(self, reason: Reason | None) -> None:
        """The check is over."""
        conn = self.reserved.pop()
        if reason is None:
            self.roster.give(conn.entry, conn, self.roster.now)
        else:
            self.roster.fail(conn.entry, conn, reason, self.roster.now)

    @rule()
    def drain(self) -> None:
        """The pool replaces everything."""
        self.roster.condemn(self.roster.endpoint, Reason.DRAINED)
        self.roster.plan(self.roster.now)

    @rule()
    def rotate(self) -> None:
        """New logins are to be other ones."""
        self.roster.rotate()
        self.roster.upkeep(self.roster.now)

    @rule(sizes=SIZES)
    def resize(self, sizes: tuple[int, int]) -> None:
        """The pool is made larger or smaller."""
        self.roster.resize(*sizes, self.roster.now)

    @precondition(lambda self: self.roster.closed)
    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        """The pool is closed, now and then."""
        if really == 0 and not self.roster.was_closed:
            self.roster.close()

    # What is always so.

    @invariant()
    def all_is_well(self) -> None:
        """The states add up, and whatever else `complaints` looks for."""
        self.roster.act()
        self._the_line_is_served_in_order()
        self._every_hold_has_exactly_one_connection()
        self._a_closed_connection_is_nobodys()
        self._no_more_connect_than_the_server_can_bear()
        self._who_waits_waits_for_something()

    def _the_line_is_served_in_order(self) -> None:
        # Who was served stood before who was not.
        served = [waiter for waiter in self.waiting if waiter.is_awake]
        assert served == self.waiting[: len(served)]
        del self.waiting[: len(served)]
        self.held += [waiter for waiter in served if waiter.conn is not None]
        assert list(self.roster.line) == self.waiting

    def _every_hold_has_exactly_one_connection(self) -> None:
        # And no connection has two holds, or is closed while it is held.
        conns = [waiter.conn for waiter in self.held]
        holds = {id(waiter.hold) for waiter in self.held}
        assert len({id(conn) for conn in conns}) == len(conns)
        assert {id(hold) for hold in self.roster.holds()} == holds
        for waiter in self.held:
            assert waiter.conn is not None
            assert waiter.conn.hold is waiter.hold

    def _a_closed_connection_is_nobodys(self) -> None:
        # It is closed once, and neither held nor idle nor checked.
        closed = [id(conn) for conn, _ in self.roster.closed]
        alive = [waiter.conn for waiter in self.held] + self.reserved
        alive += self.roster.endpoint.shelf
        assert len(set(closed)) == len(closed)
        assert not set(closed) & {id(conn) for conn in alive}

    def _no_more_connect_than_the_server_can_bear(self) -> None:
        # At any moment.
        assert self.roster.count(State.CONNECTING) <= MOST_CONNECTING

    def _who_waits_waits_for_something(self) -> None:
        # There is a connect under way, or to come, or no room for one.
        roster = self.roster
        if not roster.line or roster.size() >= roster.max_size:
            return
        if roster.endpoint.health.is_down:
            is_trying = roster.count(State.CONNECTING) > 0
            assert is_trying or roster.endpoint.health.retry_at > roster.now
        else:
            connecting = roster.count(State.CONNECTING)
            wanted = min(len(roster.line), roster.max_size - roster.size())
            assert connecting >= min(wanted, MOST_CONNECTING)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

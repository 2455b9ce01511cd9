"""What is so of a pool at every moment, and at rest: the end of every storm."""

from collections.abc import Iterator
from time import monotonic

from pgdbpool import ConnectionPool
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Entry
from pgdbpool.endpoint.state import State
from pgdbpool.roster import Roster
from tests.waiting import until

Complaints = Iterator[str]


def assert_sound(pool: ConnectionPool, *, has_shrunk: bool = False) -> None:
    """Fail unless the pool is sound; may be asked at any moment, by any thread.

    Args:
        pool: the pool.
        has_shrunk: its ``max_size`` was lowered while connections were in use:
            those that are to go at their release do not count.
    """
    with pool._lock:
        found = list(complaints(pool._roster, has_shrunk=has_shrunk))
    assert not found, f"{pool!r} is not sound: {'; '.join(found)}"


def assert_at_rest(pool: ConnectionPool, timeout: float = 10.0) -> None:
    """Fail unless the pool is sound and nobody holds, waits or connects any more.

    Blocks until it is so, at most ``timeout`` seconds.
    """

    def commotion() -> list[str]:
        with pool._lock:
            return list(_commotion(pool._roster))

    until(lambda: not commotion(), timeout, f"{pool!r} is at rest")
    assert_sound(pool)


def complaints(roster: Roster, *, has_shrunk: bool = False) -> Complaints:
    """Yield what is wrong with a roster; the pool's lock is held."""
    for endpoint in roster.endpoints:
        yield from _of_sizes(endpoint, roster.max_size, has_shrunk=has_shrunk)
        yield from _of_shelf(endpoint)
        for entry in endpoint.entries:
            yield from _of_entry(endpoint, entry)
    yield from _of_holds(roster)
    yield from _of_line(roster)
    if not roster.is_open:
        yield from _of_closed(roster)


def _of_sizes(endpoint: Endpoint, max_size: int, *, has_shrunk: bool) -> Complaints:
    size = len(endpoint.entries)
    counts = {state: endpoint.count(state) for state in State}
    if counts[State.CLOSED]:
        yield f"{counts[State.CLOSED]} closed entries are still counted"
    if sum(counts.values()) != size:
        yield f"the states add up to {sum(counts.values())}, not to {size}"
    if has_shrunk:
        max_size = max(max_size, size - counts[State.IDLE])
    if size > max_size:
        yield f"{size} entries where {max_size} are allowed"


def _of_shelf(endpoint: Endpoint) -> Complaints:
    shelved = [conn.entry for conn in endpoint.shelf]
    idle = {entry for entry in endpoint.entries if entry.state is State.IDLE}
    if len(set(shelved)) != len(shelved):
        yield "a connection is on the shelf twice"
    if set(shelved) != idle:
        yield f"the shelf has {shelved!r}, but idle are {idle!r}"
    for conn in endpoint.shelf:
        if conn.entry.conn is not conn:
            yield f"{conn.entry!r} has another connection than the shelf"
        if conn.hold is not None:
            yield f"the shelf has a connection with a {conn.hold!r}"


def _of_entry(endpoint: Endpoint, entry: Entry) -> Complaints:
    if entry.endpoint is not endpoint:
        yield f"{entry!r} is counted by another endpoint"
    if entry.generation > endpoint.generation:
        yield f"{entry!r} is of a generation to come"
    if entry.state is not State.IN_USE:
        if entry.hold is not None:
            yield f"{entry!r} is not in use and has a hold"
        return
    hold, conn = entry.hold, entry.conn
    if hold is None:  # it is being released
        return
    if hold.entry is not entry:
        yield f"{entry!r} has a hold on {hold.entry!r}"
    if conn is not None and conn.hold is not hold:
        yield f"{entry!r} has a connection with the hold {conn.hold!r}"


def _of_holds(roster: Roster) -> Complaints:
    holds = roster.holds()
    if len(set(map(id, holds))) != len(holds):
        yield "a hold has two connections"
    conns = [
        entry.conn
        for endpoint in roster.endpoints
        for entry in endpoint.entries
        if entry.conn is not None
    ]
    if len(set(map(id, conns))) != len(conns):
        yield "a connection fills two entries"


def _of_line(roster: Roster) -> Complaints:
    now = monotonic()
    for endpoint in roster.endpoints:
        # Who came back gets more to do by and by, which nobody waits for.
        is_starting = endpoint.standing.returned_at is not None
        if roster.line and endpoint.shelf and (roster.is_single or not is_starting):
            hold = roster.next_for(endpoint, now)
            if hold is not None:
                yield f"{hold!r} waits while {endpoint!r} could serve it"
    for waiter in roster.line:
        if waiter.is_awake or waiter.conn is not None:
            yield f"a waiter was served and still waits ({waiter.hold!r})"
        # One who was served a dead connection has had an entry before.
        had = getattr(waiter.hold, "entry", None)
        if waiter.hold is None or (had is not None and had.hold is waiter.hold):
            yield f"what waits has something already ({waiter.hold!r})"


def _of_closed(roster: Roster) -> Complaints:
    if roster.count(State.IDLE):
        yield "it is closed and has idle connections"
    if roster.line:
        yield f"it is closed and {len(roster.line)} wait"


def _commotion(roster: Roster) -> Complaints:
    for state in (State.CONNECTING, State.IN_USE, State.RESERVED):
        if roster.count(state):
            yield f"{roster.count(state)} {state.name}"
    if roster.line:
        yield f"{len(roster.line)} wait"
    if roster.jobs:
        yield f"{len(roster.jobs)} jobs are not done"

"""One place in the pool: who owns its connection, and what its hold says."""

import gc
import sys

from pgdbpool.endpoint.entry import Hold
from tests.unit.scripted_roster import FakeConnection, ScriptedRoster


def test_the_entry_does_not_keep_a_connection_alive_that_was_lost() -> None:
    """In use it is its holder's alone, so that losing it can be noticed."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    assert holder.conn is not None
    entry = holder.conn.entry

    holder.conn = None
    gc.collect()

    assert entry.conn is None


def test_the_shelf_keeps_its_connections_alive() -> None:
    """What is idle is owned by the shelf alone."""
    roster = ScriptedRoster(max_size=1)
    (holder,) = roster.fill(1)
    roster.release(holder)
    holder.conn = None
    gc.collect()

    again = roster.acquire()

    assert isinstance(again.conn, FakeConnection)


# The hold.


def test_a_hold_knows_its_place() -> None:
    """File and line of the caller, with the folder that tells which file."""
    hold = Hold(0.0, sys._getframe(), None, True)

    line = sys._getframe().f_lineno - 2
    assert hold.place == f"unit/test_entry.py:{line}"


def test_the_place_is_that_of_the_acquire_not_of_what_came_after() -> None:
    """The frame goes on; the hold stays where it was taken."""
    frame = sys._getframe()
    holds = [
        Hold(0.0, frame, None, True),
        Hold(0.0, frame, None, True),
    ]

    first, second = (int(hold.place.rsplit(":")[1]) for hold in holds)

    assert second == first + 1


def test_a_hold_says_who_holds() -> None:
    """With the request, where there is one."""
    hold = Hold(0.0, sys._getframe(), "GET /report", True)
    nameless = Hold(0.0, sys._getframe(), None, True)

    assert repr(hold) == f"hold by GET /report, acquired at {hold.place}"
    assert repr(nameless) == f"hold, acquired at {nameless.place}"


def test_a_hold_keeps_no_variable_of_its_caller_alive() -> None:
    """It remembers the code, not the frame."""

    def acquire() -> tuple[Hold, int]:
        local = FakeConnection.__new__(FakeConnection)
        return Hold(0.0, sys._getframe(), None, True), id(local)

    hold, local = acquire()
    gc.collect()

    assert not any(id(thing) == local for thing in gc.get_referents(hold))
    assert not any(type(thing).__name__ == "frame" for thing in gc.get_referents(hold))

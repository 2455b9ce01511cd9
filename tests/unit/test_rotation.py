"""New credentials: every connection is replaced, and nobody waits for that."""

from pgdbpool.endpoint.state import Reason
from tests.unit.scripted_roster import REFUSED, ScriptedRoster


def rotated(size: int, **given: int) -> ScriptedRoster:
    """Return a roster of so many idle connections, all outdated."""
    roster = ScriptedRoster(min_size=1, **given)
    for waiter in roster.fill(size):
        roster.release(waiter)
    roster.rotate()
    roster.pass_time(0.0)
    return roster


def generations(roster: ScriptedRoster) -> list[int]:
    """Return of which generation each idle connection is, sorted."""
    return sorted(conn.entry.generation for conn in roster.endpoint.shelf)


def test_idle_connections_are_replaced_one_at_a_time() -> None:
    """The new one first: as many as there were can serve all the while."""
    roster = rotated(3, max_size=8)
    for old in (3, 2, 1):
        assert len(roster.begun) == 1
        assert generations(roster) == [0] * old + [1] * (3 - old)
        roster.connect()
        roster.pass_time(0.0)

    assert generations(roster) == [1] * 3
    assert not roster.begun
    assert roster.reasons == [Reason.ROTATED] * 3


def test_a_full_pool_has_one_less_at_most() -> None:
    """The limit holds also for a moment."""
    roster = rotated(3, max_size=3)
    while roster.begun:
        assert roster.size() <= 3
        assert len(roster.endpoint.shelf) >= 1
        roster.connect()
        roster.pass_time(0.0)

    assert set(generations(roster)) == {1}


def test_what_is_outdated_serves_until_it_is_replaced() -> None:
    """Its session lives: a server asks for the password at the login only."""
    roster = rotated(2, max_size=2)
    waiter = roster.acquire()
    assert waiter.conn is not None
    assert waiter.conn.entry.generation == 0

    roster.release(waiter)
    assert roster.reasons[-1] is Reason.ROTATED


def test_who_is_busy_goes_at_its_release() -> None:
    """No transaction is cut."""
    roster = ScriptedRoster(max_size=2)
    (waiter,) = roster.fill(1)
    roster.rotate()
    roster.pass_time(0.0)
    assert roster.reasons == []

    roster.release(waiter)
    assert roster.reasons == [Reason.ROTATED]


def test_a_login_that_fails_leaves_what_there_is() -> None:
    """Whoever has a session goes on, and it is tried again."""
    roster = rotated(2, max_size=4)
    roster.refuse(REFUSED)
    roster.pass_time(1.0)
    assert generations(roster) == [0, 0]

    while roster.begun:
        roster.connect()
        roster.pass_time(0.0)
    roster.pass_time(0.0)
    while roster.begun:
        roster.connect()
        roster.pass_time(0.0)
    assert set(generations(roster)) == {1}


def test_a_pool_that_keeps_nothing_open_opens_nothing() -> None:
    """As that of gunicorn's arbiter."""
    roster = ScriptedRoster(min_size=0, max_size=2)
    roster.rotate()
    roster.pass_time(0.0)

    assert not roster.begun

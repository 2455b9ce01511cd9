"""Whether a pool is saturated, and what is known of its servers; without a server."""

import sys

import pytest

from pgdbpool import ConnectionPool
from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.snapshot import EndpointState
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.snapshot import (
    MOST_WAITING,
    Holder,
    PoolHealth,
    PoolState,
    Seen,
    Sight,
)
from pgdbpool.waiters import Waiter
from tests.unit.scripted_cluster import ScriptedCluster
from tests.unit.scripted_roster import ScriptedRoster


def health_of(roster: ScriptedRoster) -> PoolHealth:
    """Return how it is doing at this moment."""
    return PoolHealth.of(roster, roster.now)


def told_of(endpoint: Endpoint) -> tuple[str, Role | None]:
    """Return the state and the role that are shown of a server."""
    seen = EndpointState.of(endpoint, 1)
    return seen.state, seen.role


def exhaust(roster: ScriptedCluster, endpoint: Endpoint) -> list[Waiter]:
    """Hold all that a server can have."""
    held = []
    while endpoint.count(State.IN_USE) < roster.max_size:
        is_primary = endpoint is roster.monitor.primary
        held.append(roster.write() if is_primary else roster.read(is_strict=True))
        roster.connect_to(endpoint)
    return held


# Saturated.


def test_a_primary_that_is_full_saturates_the_pool_though_a_standby_is_idle() -> None:
    """For who asks plainly has to wait, and five of them do."""
    roster = ScriptedCluster("db1", "db2", max_size=2)
    primary, standby = roster.endpoints
    assert not health_of(roster).saturated

    held = exhaust(roster, primary)
    assert health_of(roster).saturated
    for _ in range(5):
        roster.write()
    found = health_of(roster)

    assert standby.count(State.IDLE)
    assert found.saturated
    assert found.write_ready
    assert found.reasons == ("2 connections are all in use",)
    for waiter in held:
        roster.release(waiter)
    assert health_of(roster).saturated  # the next two have them
    assert len(roster.line) == 3


def test_standbys_that_are_full_do_not_as_long_as_nobody_waits_for_them() -> None:
    """The primary has all that a plain acquire needs."""
    roster = ScriptedCluster("db1", "db2", max_size=2)
    exhaust(roster, roster.endpoints[1])
    assert not health_of(roster).saturated

    roster.read(is_strict=True)

    assert health_of(roster).saturated
    assert health_of(roster).reasons == ("2 connections are all in use",)


def test_where_any_server_does_all_have_to_be_full() -> None:
    """One with room serves everybody."""
    roster = ScriptedCluster("db1", "db2", max_size=1, need=Need.ANY)
    roster.write()
    assert not health_of(roster).saturated

    roster.write()

    assert health_of(roster).saturated


def test_who_waits_for_a_connect_does_not_saturate_the_pool() -> None:
    """There is room, and something is on its way."""
    roster = ScriptedRoster(max_size=2)
    roster.acquire()
    assert not health_of(roster).saturated
    roster.connect()
    roster.acquire()
    assert len(roster.line) == 1
    assert not health_of(roster).saturated


def test_without_a_primary_nothing_is_full() -> None:
    """Writers wait for a server, not for a connection."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    roster.lose(roster.endpoints[0])
    roster.refuse_at(roster.endpoints[0])
    roster.write()

    found = health_of(roster)

    assert not found.write_ready
    assert not found.saturated


# Up.


def test_a_server_that_tells_no_role_is_up_when_it_has_answered() -> None:
    """Poolers do not, nor PostgreSQL before 14."""
    roster = ScriptedRoster()
    assert told_of(roster.endpoint) == ("unknown", None)
    waiter = roster.acquire()
    assert told_of(roster.endpoint) == ("unknown", None)

    roster.connect()

    assert told_of(roster.endpoint) == ("up", None)
    assert health_of(roster).write_ready
    roster.release(waiter, reason=Reason.DIRTY)
    assert roster.endpoint.count(State.IDLE, State.IN_USE) == 0
    assert told_of(roster.endpoint) == ("up", None)
    assert health_of(roster).write_ready


def test_a_server_that_has_answered_is_down_when_it_does_no_more() -> None:
    """Until it does again."""
    roster = ScriptedRoster()
    roster.acquire()
    roster.refuse()
    assert told_of(roster.endpoint) == ("down", None)
    roster.pass_time(10.0)
    roster.connect()
    assert told_of(roster.endpoint) == ("up", None)


def test_a_server_of_several_is_as_its_probe_says() -> None:
    """With its role."""
    roster = ScriptedCluster("db1", "db2", is_met=False)
    primary, standby = roster.endpoints
    assert told_of(primary) == told_of(standby) == ("unknown", None)
    roster.write()
    while roster.begun:
        roster.connect()
    assert told_of(primary) == ("up", Role.PRIMARY)
    standby.standing.is_astray = True
    assert told_of(standby) == ("astray", Role.STANDBY)


# Who has a connection, and who waits.


def test_a_hold_that_began_after_the_look_has_lasted_for_no_time() -> None:
    """Its thread writes down when it began, and asks nobody for the lock."""
    roster = ScriptedRoster()
    hold = roster.new_hold()
    waiter = roster.ask_for(hold)
    roster.connect()
    assert waiter.conn is not None
    hold.entry.reference = None  # whose session it is does not matter
    hold.began = roster.now + 0.001

    assert Holder.of(Seen.of(hold.entry, roster.now), hold).seconds == 0.0


@pytest.mark.parametrize("number", [0, 3, MOST_WAITING, MOST_WAITING + 700])
def test_so_many_who_wait_are_told_and_all_are_counted(number: int) -> None:
    """The first of them: a line can be long, and everybody waits for the look."""
    roster = ScriptedRoster(max_size=1)
    roster.fill(1)
    holds = [
        Hold(roster.now, sys._getframe(), f"GET /{i}", True) for i in range(number)
    ]
    for hold in holds:
        roster.ask_for(hold, thread=1)

    counts = {"requests_waiting": len(roster.line)}
    outline = PoolState.outline("shop", roster, counts, ({}, None))
    seen = outline.filled(Sight.of(roster, roster.now))

    assert seen.counts["requests_waiting"] == number
    told = [waiting.request for waiting in seen.waiting]
    assert told == [hold.request for hold in holds[:MOST_WAITING]]


@pytest.mark.parametrize(
    ("settings", "tells"),
    [
        ({}, False),
        ({"leak_warn_after": 1.0}, True),
        ({"observe": True}, True),
        ({"sql_comments": True}, True),
    ],
)
def test_routes_are_asked_for_where_somebody_is_told(
    settings: dict[str, object], *, tells: bool
) -> None:
    """Of a histogram, a warning, or a comment."""
    pool = ConnectionPool("", open=False, **settings)
    assert pool.tells_routes is tells

"""A roster of several servers: who waits for whom, discovery, probes, failover."""

import math
import random

import pytest

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.state import Reason, State
from pgdbpool.errors import EndpointDown, NoPrimary
from pgdbpool.planning import MOST_CONNECTING
from pgdbpool.routing.monitor import INTERVAL
from pgdbpool.waiters import Waiter
from tests.unit.scripted_cluster import (
    POSITION,
    ScriptedCluster,
    endpoint_of,
    idle_at,
    standby_at,
)
from tests.unit.scripted_roster import REFUSED

TOO_MANY = OSError("FATAL:  sorry, too many clients already")


@pytest.fixture(autouse=True)
def _known_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same every time."""
    draw = random.Random(4711).random
    monkeypatch.setattr("pgdbpool.routing.choose.random", draw)


def connects(roster: ScriptedCluster) -> list[Endpoint]:
    """Return to whom the connects are that are under way."""
    return [entry.endpoint for entry in roster.begun]


def exhaust(roster: ScriptedCluster, endpoint: Endpoint) -> list[Waiter]:
    """Hold all that an endpoint can have."""
    held = []
    while endpoint.count(State.IN_USE) < roster.max_size:
        is_primary = endpoint is roster.monitor.primary
        held.append(roster.write() if is_primary else roster.read(is_strict=True))
        roster.connect_to(endpoint)
    return held


def lose_primary(roster: ScriptedCluster) -> Endpoint:
    """Let the primary crash, and refuse all connects from then on."""
    primary = roster.monitor.primary
    assert primary is not None
    roster.lose(primary)
    roster.refuse_at(primary)
    assert roster.monitor.primary is None
    return primary


# Who is served by whom.


def test_writes_and_reads_are_served_by_different_servers() -> None:
    """From what is idle there."""
    roster = ScriptedCluster()
    primary, *standbys = roster.endpoints

    assert endpoint_of(roster.write()) is primary
    assert endpoint_of(roster.read()) in standbys
    assert endpoint_of(roster.read(is_strict=True)) in standbys
    assert not roster.begun


def test_the_limit_is_for_each_endpoint() -> None:
    """A standby has as many as the primary."""
    roster = ScriptedCluster("db1", "db2", max_size=2)
    primary, standby = roster.endpoints

    exhaust(roster, primary)
    exhaust(roster, standby)

    assert len(primary.entries) == len(standby.entries) == 2


def test_a_release_serves_the_first_whom_its_server_may_serve() -> None:
    """Who waits for another server is passed over, and keeps its place."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    primary, standby = roster.endpoints
    writer, reader = exhaust(roster, primary) + exhaust(roster, standby)
    waiting_writer = roster.write()
    waiting_reader = roster.read()

    roster.release(reader)
    assert endpoint_of(waiting_reader) is standby
    assert waiting_writer.conn is None
    assert list(roster.line) == [waiting_writer]

    roster.release(writer)
    assert endpoint_of(waiting_writer) is primary


def test_nobody_is_overtaken_by_who_needs_the_same() -> None:
    """First come, first served, each within its need."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    primary, standby = roster.endpoints
    (writer,), (reader,) = exhaust(roster, primary), exhaust(roster, standby)
    line = [roster.read() if number % 3 else roster.write() for number in range(9)]
    writers = [waiter for waiter in line if not waiter.hold.is_reading]  # type: ignore[union-attr]
    readers = [waiter for waiter in line if waiter.hold.is_reading]  # type: ignore[union-attr]

    for queue, holder in ((readers, reader), (writers, writer)):
        last = holder
        for waiter in queue:
            assert waiter.conn is None
            roster.release(last)
            assert waiter.conn is holder.conn
            last = waiter

    assert not roster.line


def test_a_new_connection_serves_the_first_whom_its_server_may_serve() -> None:
    """As a release does."""
    roster = ScriptedCluster("db1", "db2", max_size=2)
    primary, standby = roster.endpoints
    held = [roster.write(), roster.read()]
    writer, reader = roster.write(), roster.read()
    assert {endpoint_of(waiter) for waiter in held} == {primary, standby}

    roster.connect_to(standby)
    assert endpoint_of(reader) is standby
    assert writer.conn is None

    roster.connect_to(primary)
    assert endpoint_of(writer) is primary


def test_connects_are_planned_to_who_serves() -> None:
    """Two writers and three readers: so many to each."""
    roster = ScriptedCluster("db1", "db2", max_size=9)
    primary, standby = roster.endpoints
    for _ in range(3):
        roster.write()
    for _ in range(4):
        roster.read()

    assert connects(roster).count(primary) == 2
    assert connects(roster).count(standby) == 3


def test_no_more_connect_at_a_time_than_each_server_can_bear() -> None:
    """The limit is that of a server, so each has its own."""
    roster = ScriptedCluster("db1", "db2")
    primary, standby = roster.endpoints
    for _ in range(10):
        roster.write()
        roster.read()

    assert connects(roster).count(primary) == MOST_CONNECTING
    assert connects(roster).count(standby) == MOST_CONNECTING


def test_where_a_server_has_no_room_another_that_serves_is_connected_to() -> None:
    """Where none of those that serve has room, none is."""
    roster = ScriptedCluster(max_size=1, min_size=0)
    full = endpoint_of(roster.read())
    (other,) = set(roster.monitor.standbys) - {full}
    (conn,) = idle_at(other)
    roster.retire_idle(conn.entry, Reason.IDLE_TIME)

    roster.read()
    assert connects(roster) == [other]

    roster.read()
    assert connects(roster) == [other]


def test_a_reader_is_served_by_the_primary_when_no_standby_qualifies() -> None:
    """It need not wait for one."""
    roster = ScriptedCluster()
    primary, *standbys = roster.endpoints
    for standby in standbys:
        standby.standing.lag = 60.0

    assert endpoint_of(roster.read()) is primary
    assert roster.read(is_strict=True).conn is None


def test_a_reader_of_its_own_writes_is_served_by_who_has_them() -> None:
    """From a standby only when it has replayed them."""
    roster = ScriptedCluster()
    primary, _, third = roster.endpoints
    third.standing.position = POSITION + 1

    assert endpoint_of(roster.read(after=POSITION + 1)) is third
    assert endpoint_of(roster.read(after=POSITION + 2)) is primary


def test_who_waits_for_a_standby_gets_one_that_caught_up() -> None:
    """A probe changes who may be served by what is idle."""
    roster = ScriptedCluster("db1", "db2")
    standby = roster.endpoints[1]
    reader = roster.read(is_strict=True, after=POSITION + 1)
    assert reader.conn is None

    roster.says[standby] = standby_at(POSITION + 1)
    roster.pass_and_answer(INTERVAL + 0.1)

    assert endpoint_of(reader) is standby


# Discovery.


def test_the_first_who_waits_has_all_servers_asked_who_they_are() -> None:
    """One connect to each: nobody is the primary before it was asked."""
    roster = ScriptedCluster(is_met=False, min_size=0)
    writer = roster.write()
    assert connects(roster) == list(roster.endpoints)

    _, second, third = roster.endpoints
    roster.connect_to(second)
    roster.connect_to(third)
    assert writer.conn is None
    assert roster.monitor.standbys == (second, third)

    roster.connect_to(roster.endpoint)
    assert endpoint_of(writer) is roster.endpoint


def test_a_reader_is_served_by_the_first_standby_that_answers() -> None:
    """Once it is known where the primary is, how far the others are is known."""
    roster = ScriptedCluster(is_met=False, min_size=0)
    primary, second, _ = roster.endpoints
    reader = roster.read()

    roster.connect_to(second)
    assert reader.conn is None

    roster.connect_to(primary)
    assert endpoint_of(reader) is second


def test_a_server_that_does_not_answer_keeps_nobody_waiting() -> None:
    """Who serves has been found."""
    roster = ScriptedCluster(is_met=False)
    writer = roster.write()

    roster.refuse_at(roster.endpoints[2])
    roster.connect_to(roster.endpoint)

    assert endpoint_of(writer) is roster.endpoint


def test_a_server_without_connections_is_asked_when_someone_waits() -> None:
    """It may be the new primary."""
    roster = ScriptedCluster("db1", "db2", min_size=0)
    _, standby = roster.endpoints
    (conn,) = idle_at(standby)
    roster.retire_idle(conn.entry, Reason.IDLE_TIME)
    lose_primary(roster)

    roster.write()

    assert standby in connects(roster)


@pytest.mark.parametrize("reason", ["session ended", "promotion"])
def test_a_server_whose_connections_are_all_in_use_is_asked_too(reason: str) -> None:
    """A long hold must not keep the primary from being found."""
    roster = ScriptedCluster("db1", "db2", grace=5.0)
    primary, standby = roster.endpoints
    if reason == "session ended":
        long_hold, other = exhaust_two(roster)
        roster.release(other)
        roster.lose(primary)
    else:
        long_hold = roster.read()
        roster.promote(standby)
        lose_primary(roster)
        primary = standby

    writer = roster.write()
    for _ in range(60):
        roster.connect_to(primary)
        roster.pass_and_answer(0.1)

    assert endpoint_of(writer) is primary
    assert long_hold.conn is not None


def exhaust_two(roster: ScriptedCluster) -> tuple[Waiter, Waiter]:
    """Hold two connections to the primary."""
    held = roster.write(), roster.write()
    roster.connect_to(roster.endpoint)
    return held


# Probes.


def test_a_probe_reserves_an_idle_connection_and_gives_it_back() -> None:
    """Nobody else has it meanwhile, and it is idle as long as before."""
    roster = ScriptedCluster("db1", "db2")
    primary, standby = roster.endpoints
    (conn,) = idle_at(primary)
    idle_since = conn.entry.since
    roster.pass_time(INTERVAL)

    assert conn.entry.state is State.RESERVED
    assert {entry.endpoint for entry, _ in roster.probes} == {primary, standby}
    assert roster.take(roster.new_hold(), roster.now) is None

    roster.answer()
    assert idle_at(primary) == [conn]
    assert conn.entry.since == idle_since


def test_nobody_is_probed_before_it_is_due() -> None:
    """Once a second each, and by one probe at a time."""
    roster = ScriptedCluster("db1", "db2", min_size=0)
    for waiter in [roster.read() for _ in range(2)]:
        roster.connect_to(roster.endpoints[1])
        roster.release(waiter)
    roster.pass_time(INTERVAL - 0.01)
    assert not roster.probes

    for _ in range(5):
        roster.pass_time(0.1)
    assert len(roster.probes) == 2

    roster.answer()
    roster.pass_time(INTERVAL - 0.01)
    assert not roster.probes


def test_upkeep_comes_for_the_next_probe_of_a_server() -> None:
    """And not in between, and not for one that is under way."""
    roster = ScriptedCluster("db1", "db2", max_idle=None, max_lifetime=None)

    assert roster.pass_time(0.25) == roster.now - 0.25 + INTERVAL

    roster.pass_time(INTERVAL)
    assert len(roster.probes) == 2
    assert roster.pass_time(0.0) == math.inf


def test_with_all_in_use_the_next_release_probes() -> None:
    """Before it serves anyone: it may not be the primary any more."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    (holder,) = exhaust(roster, roster.endpoint)
    writer = roster.write()
    roster.pass_time(INTERVAL)

    roster.release(holder)
    assert writer.conn is None
    assert holder.conn is not None
    assert holder.conn.entry.state is State.RESERVED

    roster.answer()
    assert writer.conn is holder.conn


def test_a_probe_that_finds_a_standby_does_not_serve_who_writes() -> None:
    """What was found decides, not what was planned."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    (holder,) = exhaust(roster, roster.endpoint)
    writer = roster.write()
    roster.pass_time(INTERVAL)
    roster.says[roster.endpoint] = standby_at(POSITION)

    roster.release(holder)
    roster.answer()

    assert writer.conn is None
    assert len(idle_at(roster.endpoint)) == 1


def test_the_answer_to_a_probe_given_up_changes_nothing() -> None:
    """Its entry is another's by now, or nobody's."""
    roster = ScriptedCluster("db1", "db2")
    roster.pass_time(INTERVAL)
    entry, conn = roster.probes[0]
    roster.retire(entry, conn, Reason.ABANDONED)
    roster.act()
    closed = len(roster.closed)

    roster.says[entry.endpoint] = standby_at(0)
    roster.answer()

    assert len(roster.closed) == closed
    assert roster.monitor.primary is roster.endpoint


def test_a_probe_that_is_answered_ends_an_outage() -> None:
    """A server that answers lives, whatever the last connect said."""
    roster = ScriptedCluster("db1", "db2")
    standby = roster.endpoints[1]
    standby.health.ping_lost(REFUSED, roster.now)

    roster.pass_time(INTERVAL)
    roster.answer()

    assert not standby.health.is_down


def test_a_probe_of_a_condemned_connection_is_its_last() -> None:
    """What was drained meanwhile does not come back."""
    roster = ScriptedCluster("db1", "db2", min_size=0)
    roster.pass_time(INTERVAL)
    for endpoint in roster.endpoints:
        roster.condemn(endpoint, Reason.DRAINED)

    roster.answer()

    assert roster.reasons == [Reason.DRAINED] * 2


def test_a_frozen_server_is_asked_by_one_probe_at_a_time() -> None:
    """Also while there is no primary and all are asked all the time."""
    roster = ScriptedCluster("db1", "db2")
    standby = roster.endpoints[1]
    held = [roster.read() for _ in range(4)]
    roster.connect_to(standby)
    for waiter in held:
        roster.release(waiter)
    lose_primary(roster)

    for _ in range(10):
        roster.pass_time(0.1)

    asked = [entry for entry, _ in roster.probes if entry.endpoint is standby]
    assert len(asked) == 1


# Failover.


def test_a_lost_primary_makes_writers_wait_and_readers_go_on() -> None:
    """Reads do not need it."""
    roster = ScriptedCluster()
    lose_primary(roster)

    writer, reader = roster.write(), roster.read()

    assert writer.conn is None
    assert roster.refuses(roster.new_hold(), roster.now) is None
    assert endpoint_of(reader) in roster.monitor.standbys


def test_a_promotion_serves_who_waits() -> None:
    """From what is idle at the new primary, as soon as it was asked."""
    roster = ScriptedCluster()
    old = lose_primary(roster)
    writer = roster.write()
    new = roster.endpoints[1]

    roster.promote(new)
    roster.pass_and_answer(0.3)

    assert endpoint_of(writer) is new
    assert roster.monitor.standbys == (roster.endpoints[2],)
    assert not any(e is old for e in connects(roster)) or old.health.is_down


def test_a_promotion_serves_all_whom_something_idle_can_serve() -> None:
    """At once, and not one after the other."""
    roster = ScriptedCluster("db1", "db2")
    new = roster.endpoints[1]
    for waiter in [roster.read() for _ in range(3)]:
        roster.connect_to(new)
        roster.release(waiter)
    lose_primary(roster)
    writers = [roster.write() for _ in range(3)]
    roster.promote(new)
    roster.pass_time(0.1)
    roster.pass_time(0.1)

    roster.answer()

    assert {endpoint_of(writer) for writer in writers} == {new}


def test_the_old_primary_comes_back_as_a_standby() -> None:
    """By itself; nothing is restarted."""
    roster = ScriptedCluster("db1", "db2", grace=60.0)
    old = lose_primary(roster)
    new = roster.endpoints[1]
    roster.promote(new)
    roster.pass_and_answer(0.3)
    assert roster.monitor.primary is new
    roster.says[old] = standby_at(POSITION)

    for _ in range(30):
        roster.pass_and_answer(0.1)
        roster.connect_to(old)

    assert roster.monitor.standbys == (old,)
    assert endpoint_of(roster.read(is_strict=True)) is old
    assert roster.warnings == []


def test_an_old_primary_that_comes_back_as_one_is_not_written_to() -> None:
    """An operator is told, once."""
    roster = ScriptedCluster("db1", "db2", grace=60.0)
    old = lose_primary(roster)
    new = roster.endpoints[1]
    roster.promote(new)

    for _ in range(30):
        roster.pass_and_answer(0.1)
        roster.connect_to(old)

    assert roster.monitor.primary is new
    assert endpoint_of(roster.write()) is new
    (warning,) = roster.warnings
    assert warning.startswith("db1:5432 says it is the primary, on timeline 1")


def test_a_lost_connection_in_use_loses_the_primary() -> None:
    """Its holder found out; who comes next does not write to it unasked."""
    roster = ScriptedCluster("db1", "db2", min_size=0)
    writer = roster.write()

    roster.break_off(writer)

    assert roster.monitor.primary is None
    assert roster.monitor.leaderless_since == roster.now


def test_a_connection_of_the_wrong_role_leaves_the_others() -> None:
    """It is closed alone, and says nothing of its server."""
    roster = ScriptedCluster("db1", "db2", min_size=0)
    held = exhaust_two(roster)

    for waiter in held:
        roster.release(waiter, reason=None if waiter is held[0] else Reason.WRONG_ROLE)

    assert roster.reasons == [Reason.WRONG_ROLE]
    assert roster.monitor.primary is roster.endpoint
    assert len(idle_at(roster.endpoint)) == 1


# Refusal.


def test_the_grace_ends_for_writers_while_readers_are_served() -> None:
    """They wake with nothing, and find out why."""
    roster = ScriptedCluster(grace=5.0, max_size=1)
    old = lose_primary(roster)
    writer = roster.write()
    held = [roster.read(), roster.read()]
    reader = roster.read()

    for _ in range(49):
        roster.pass_and_answer(0.1)
        roster.refuse_at(old)
    assert not writer.is_awake

    for _ in range(2):
        roster.pass_and_answer(0.1)
    assert writer.is_awake
    assert writer.conn is None
    assert roster.refuses(roster.new_hold(), roster.now) is NoPrimary

    assert roster.refuses(roster.new_reading(), roster.now) is None
    assert list(roster.line) == [reader]
    roster.release(held[0])
    roster.answer()
    assert reader.conn is not None


def test_upkeep_comes_when_the_grace_of_writers_is_over() -> None:
    """Whatever else is due."""
    roster = ScriptedCluster("db1", "db2", grace=5.0, max_size=1)
    exhaust(roster, roster.endpoints[1])
    lose_primary(roster)
    roster.write()
    roster.endpoint.health.retry_at = math.inf

    assert roster.pass_time(4.5) == pytest.approx(roster.now + 0.5)


def test_without_grace_writers_wait_for_as_long_as_they_like() -> None:
    """`grace=None` is never over."""
    roster = ScriptedCluster("db1", "db2", grace=None)
    lose_primary(roster)
    writer = roster.write()

    roster.pass_and_answer(60.0)

    assert not writer.is_awake
    assert roster.refuses(roster.new_hold(), roster.now) is None


def test_a_standby_that_is_down_refuses_nobody() -> None:
    """However long: others serve, also who only reads."""
    roster = ScriptedCluster(grace=1.0)
    standby = roster.endpoints[1]
    roster.lose(standby)
    for _ in range(30):
        roster.pass_and_answer(0.1)
        roster.refuse_at(standby)
    assert standby.health.has_lasted(1.0, roster.now)

    assert roster.refuses(roster.new_hold(), roster.now) is None
    assert roster.refuses(roster.new_reading(), roster.now) is None
    assert roster.read().conn is not None


def test_a_standby_that_is_down_does_not_hasten_upkeep() -> None:
    """Its grace is over, which refused nobody: it does not come all the time."""
    roster = ScriptedCluster("db1", "db2", grace=1.0, max_size=1)
    standby = roster.endpoints[1]
    exhaust(roster, roster.endpoint)
    roster.lose(standby)
    roster.write()
    for _ in range(30):
        roster.pass_time(0.1)
        roster.refuse_at(standby)
    standby.health.retry_at = roster.now + 1.5

    assert roster.pass_time(0.0) >= roster.now + 0.5


def test_when_all_are_down_everyone_is_refused() -> None:
    """After the grace, whatever is needed."""
    roster = ScriptedCluster("db1", "db2", grace=1.0)
    for endpoint in roster.endpoints:
        roster.lose(endpoint)
    writer, reader = roster.write(), roster.read()
    for _ in range(12):
        for endpoint in roster.endpoints:
            roster.refuse_at(endpoint)
        roster.pass_time(0.1)

    assert writer.is_awake
    assert reader.is_awake
    assert roster.refuses(roster.new_hold(), roster.now) is EndpointDown
    assert roster.refuses(roster.new_reading(), roster.now) is EndpointDown


def test_a_refused_login_is_no_lost_primary() -> None:
    """Behind living connections callers wait for a release, as with one server."""
    roster = ScriptedCluster("db1", "db2", max_size=3, grace=5.0)
    held = exhaust_two(roster)
    writer = roster.write()

    for _ in range(60):
        roster.refuse_at(roster.endpoint, TOO_MANY)
        roster.pass_and_answer(0.1)
    assert roster.monitor.primary is roster.endpoint
    assert not writer.is_awake

    roster.release(held[0])
    roster.answer()
    assert writer.conn is held[0].conn


def test_a_primary_that_cannot_be_reached_is_lost() -> None:
    """Whoever holds a connection to it: it may have been replaced."""
    roster = ScriptedCluster("db1", "db2", max_size=3)
    exhaust_two(roster)
    roster.write()

    roster.refuse_at(roster.endpoint)

    assert roster.monitor.primary is None


# The ping that comes along with a COMMIT.


def test_a_connection_is_renewed_for_a_waiter_that_writes() -> None:
    """And that may have it."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    (writer,) = exhaust(roster, roster.endpoint)
    assert writer.conn is not None
    assert not roster.is_wanted(writer.conn, roster.now)

    waiting = roster.write()

    assert roster.is_wanted(writer.conn, roster.now)
    assert roster.next_for(roster.endpoint, roster.now) is waiting.hold


def test_a_connection_is_not_renewed_for_a_waiter_of_another_server() -> None:
    """It would be idle in a transaction."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    primary, standby = roster.endpoints
    (writer,), _ = exhaust(roster, primary), exhaust(roster, standby)
    assert writer.conn is not None

    roster.read()

    assert not roster.is_wanted(writer.conn, roster.now)


def test_a_connection_is_not_renewed_for_a_waiter_that_reads() -> None:
    """The transaction begun with the COMMIT is one that writes."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    primary, standby = roster.endpoints
    standby.standing.lag = 60.0
    (writer,) = exhaust(roster, primary)
    assert writer.conn is not None

    reader = roster.read()
    assert roster.next_for(primary, roster.now) is reader.hold
    assert not roster.is_wanted(writer.conn, roster.now)

    roster.write()  # who comes later is not the next
    assert not roster.is_wanted(writer.conn, roster.now)


# Deadlock.


def new_write(roster: ScriptedCluster, thread: int) -> bool:
    """Return whether a thread that wants to write could never be served."""
    hold = roster.new_hold()
    hold.thread = thread
    return roster.is_deadlocked(hold, roster.now)


def test_a_nested_write_where_all_that_serve_are_its_own_is_a_deadlock() -> None:
    """That a standby is idle does not help who writes."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    roster.write(thread=1)

    assert len(idle_at(roster.endpoints[1])) == 1
    assert new_write(roster, thread=1)


def test_a_nested_read_is_no_deadlock_while_a_standby_has_room() -> None:
    """Only when that is full as well, of holds that wait."""
    roster = ScriptedCluster("db1", "db2", max_size=2)
    _, standby = roster.endpoints
    roster.write(thread=1)
    roster.read(thread=1)
    hold = roster.new_reading()
    hold.thread = 1
    assert not roster.is_deadlocked(hold, roster.now)

    roster.read(thread=1)
    roster.connect_to(standby)

    assert roster.is_deadlocked(hold, roster.now)


def test_two_threads_that_want_what_the_other_holds_are_a_deadlock() -> None:
    """One has the primary and waits for the standby, one the other way round."""
    roster = ScriptedCluster("db1", "db2", max_size=1)
    roster.write(thread=1)
    roster.read(is_strict=True, thread=2)
    assert not new_write(roster, thread=2)
    roster.read(is_strict=True, thread=1)

    assert new_write(roster, thread=2)


def test_without_a_primary_a_nested_write_is_no_deadlock() -> None:
    """It waits for one, as everybody does."""
    roster = ScriptedCluster("db1", "db2", max_size=1, min_size=0)
    roster.read(thread=1)
    lose_primary(roster)

    assert not new_write(roster, thread=1)


def test_who_waits_for_a_server_that_has_room_is_not_stuck() -> None:
    """A holder of the primary that is about to get a standby will release both."""
    roster = ScriptedCluster("db1", "db2", max_size=2)
    primary, standby = roster.endpoints
    for _ in range(2):
        roster.write(thread=1)
        roster.connect_to(primary)
    roster.read(is_strict=True, thread=2)
    roster.read(is_strict=True, thread=1)
    assert connects(roster) == [standby]

    assert not new_write(roster, thread=2)


# One server is as it was.


def test_a_single_server_is_never_probed() -> None:
    """It costs nothing that a pool could have several."""
    roster = ScriptedCluster("db1")
    assert roster.read(is_strict=True).conn is not None
    assert roster.write().conn is None

    for _ in range(30):
        roster.pass_time(0.1)

    assert not roster.probes

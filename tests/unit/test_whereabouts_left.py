"""Names that are resolved again: what vanished, who left, and the surveys."""

from pgdbpool.endpoint.host import ANSWERS, Addresses, Host, Presence
from pgdbpool.endpoint.names import INTERVAL
from pgdbpool.endpoint.state import Reason
from tests.unit.scripted_cluster import endpoint_of
from tests.unit.scripted_name import (
    OTHER,
    PRIMARY,
    STANDBY,
    A,
    B,
    C,
    D,
    Named,
    place_of,
)

# Resolving.


def test_a_pool_that_has_and_wants_nothing_resolves_nothing() -> None:
    """Nothing wakes it for that."""
    roster = Named({A: PRIMARY})

    roster.pass_time(INTERVAL * 3)

    assert roster.resolving == []


def test_a_name_is_resolved_at_the_first_use_and_again_after_a_while() -> None:
    """Not while it is being resolved."""
    roster = Named({A: PRIMARY})
    roster.hold(A)

    roster.pass_time(0.0)
    assert roster.resolving == [roster.host]
    roster.pass_time(INTERVAL * 2)
    assert roster.resolving == [roster.host]

    roster.look_up()
    roster.pass_time(INTERVAL - 0.1)
    assert roster.resolving == [roster.host]
    roster.pass_time(0.1)
    assert roster.resolving == [roster.host] * 2


def test_a_name_that_nobody_can_resolve_is_where_it_was() -> None:
    """A resolver that is down takes nothing away, and is asked again."""
    roster = Named({A: PRIMARY})
    roster.release(roster.hold(A))
    roster.pass_time(0.0)

    for _ in range(2 * ANSWERS):
        roster.resolved(roster.host, None, roster.now)
        roster.pass_time(INTERVAL)

    assert roster.reasons == []
    assert len(roster.resolving) == 2 * ANSWERS + 1


def test_endpoints_of_one_name_resolve_it_once() -> None:
    """And not once for each."""
    roster = Named({A: PRIMARY, B: STANDBY})
    for address in (A, B):
        roster.hold(address)
    roster.look_up()
    roster.resolving.clear()

    roster.pass_time(INTERVAL)

    assert roster.resolving == [roster.host]


# Vanished addresses.


def test_what_leads_to_a_vanished_address_goes() -> None:
    """An idle connection at once, one in use at its release, a new one not."""
    roster = Named({B: PRIMARY})
    idle, busy, moved = (roster.hold(address) for address in (A, A, B))
    roster.release(idle)

    for _ in range(ANSWERS):
        assert roster.reasons == []
        roster.look_up()
    assert roster.reasons == [Reason.MOVED]

    roster.release(busy)
    assert roster.reasons == [Reason.MOVED] * 2

    roster.release(moved)
    assert roster.reasons == [Reason.MOVED] * 2


def test_a_name_that_answers_by_turns_costs_no_connection() -> None:
    """As that of a cloud's readers, which gives one of them each time."""
    roster = Named({A: STANDBY, B: OTHER})
    for waiter in [roster.hold(address) for address in (A, B)]:
        roster.release(waiter)

    for address in (A, B) * ANSWERS:
        roster.leads_to = frozenset({address})
        roster.look_up()

    assert roster.reasons == [Reason.MOVED]  # what was opened before it was known
    assert roster.at == [{A}, {B}]


# Who left.


def test_who_left_goes_with_its_last_connection() -> None:
    """Whoever holds one is left alone, and can release it."""
    roster = Named({A: PRIMARY, B: STANDBY})
    waiter = roster.hold(A)
    roster.look_up()
    old = roster.endpoint

    roster.leads_to = frozenset({B})
    roster.look_up(2 * ANSWERS)
    assert old.is_leaving
    assert old in roster.endpoints
    assert roster.monitor.primary is None

    assert roster.release(waiter)
    roster.pass_time(0.0)
    assert roster.reasons == [Reason.DRAINED]
    assert old not in roster.endpoints
    assert roster.is_single


def test_who_left_with_nothing_in_use_does_not_take_others_along() -> None:
    """A connection to another that left can be released yet."""
    roster = Named({A: PRIMARY, B: STANDBY, C: OTHER})
    waiter = roster.hold(A)
    roster.look_up()

    roster.leads_to = frozenset({B})
    roster.look_up(2 * ANSWERS)
    while roster.begun:
        roster.connect()
    roster.pass_time(0.0)

    assert len(roster.endpoints) == 2
    assert endpoint_of(waiter) in roster.endpoints
    assert roster.release(waiter)


def test_who_left_may_come_back() -> None:
    """As a server whose address is given out again."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    roster.look_up()
    roster.leads_to = frozenset({A})
    roster.look_up(2 * ANSWERS)
    assert roster.at == [{A}]

    roster.leads_to = frozenset({A, B})
    assert roster.look_up() == [B, A]
    assert roster.at == [{A}, {B}]


def test_nothing_is_opened_to_who_is_leaving() -> None:
    """Not for min_size either."""
    roster = Named({A: PRIMARY, B: STANDBY})
    waiter = roster.hold(A)
    roster.look_up()
    roster.leads_to = frozenset({B})
    roster.look_up(2 * ANSWERS)

    roster.resize(2, 4, roster.now)
    roster.pass_time(0.0)

    assert {entry.endpoint.addresses for entry in roster.begun} == {frozenset({B})}
    roster.release(waiter)


def test_the_last_of_a_name_goes_where_the_name_goes() -> None:
    """Also when nobody answers at the new address yet."""
    roster = Named({A: PRIMARY, B: PRIMARY})
    roster.hold(A)
    roster.look_up()
    assert roster.endpoint.addresses == {A, B}

    roster.leads_to = frozenset({C})
    roster.look_up(2 * ANSWERS)

    assert roster.at == [set()]
    assert place_of(roster.endpoint) == ("db", None, None)


# Surveys.


def test_a_survey_tells_servers_by_when_they_were_started() -> None:
    """Whoever does not answer is nobody."""
    host = Host("db")
    host.answered(frozenset({A, B, C, D}), 0.0)
    assert host.visit_next() == {A, B, C, D}

    host.presences = {A: PRIMARY, B: STANDBY, C: PRIMARY, D: None}

    found: dict[Addresses, Presence] = {
        frozenset({A, C}): PRIMARY,
        frozenset({B}): STANDBY,
    }
    assert host.servers() == found
    assert host.visit_next() == frozenset()


def test_a_resolution_during_a_survey_does_not_begin_another() -> None:
    """The addresses it brings are visited at after it."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    roster.resolved(roster.host, frozenset({A, B}), roster.now)
    roster.act()
    assert roster.visiting == [A, B]

    roster.resolved(roster.host, frozenset({A, B, C}), roster.now)
    roster.act()
    assert roster.visiting == [A, B]

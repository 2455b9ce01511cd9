"""A name of several servers: each is an endpoint."""

from collections.abc import Mapping

import pytest

from pgdbpool.endpoint.host import ANSWERS, Presence
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.state import Reason
from tests.unit.scripted_cluster import endpoint_of, primary_at
from tests.unit.scripted_name import OTHER, PRIMARY, STANDBY, A, B, C, Named, place_of

# Several addresses.


def test_a_name_of_several_servers_is_several_endpoints() -> None:
    """Each with its role, from the survey on; the first keeps its connections."""
    roster = Named({A: STANDBY, B: PRIMARY, C: OTHER})
    waiter = roster.hold(B)

    assert sorted(roster.look_up()) == [A, B, C]

    assert roster.at == [{A}, {B}, {C}]
    assert roster.monitor.primary is roster.endpoint is endpoint_of(waiter)
    assert roster.endpoint.addresses == {B}
    assert {e.name for e in roster.monitor.standbys} == {
        f"db({A}):5432",
        f"db({C}):5432",
    }
    roster.release(waiter)
    assert roster.reasons == []
    assert not roster.is_single


def test_what_was_opened_before_the_survey_ended_is_where_it_belongs() -> None:
    """Or goes: an endpoint has no session of another server."""
    roster = Named({A: PRIMARY, B: STANDBY})
    waiter = roster.acquire()
    roster.look_up()
    assert roster.endpoint.addresses == {A}

    (entry,) = (one for one in roster.begun if one.endpoint is roster.endpoint)
    entry.address = B
    roster.connect(entry)

    assert roster.reasons == [Reason.MOVED]
    assert waiter.conn is None


def test_two_addresses_of_one_server_are_one_endpoint() -> None:
    """As those of IPv4 and IPv6; libpq tries them in order."""
    roster = Named({A: PRIMARY, B: PRIMARY})
    roster.release(roster.hold(A))

    assert sorted(roster.look_up()) == [A, B]
    assert roster.look_up(2 * ANSWERS) == []

    assert roster.is_single
    assert roster.at == [{A, B}]
    assert roster.endpoint.name == "db:5432"
    assert place_of(roster.endpoint) == ("db,db", f"{A},{B}", None)
    assert roster.reasons == []


def test_a_name_with_one_address_is_not_visited() -> None:
    """Nothing is asked of who has but one server."""
    roster = Named({A: PRIMARY})
    roster.hold(A)

    assert roster.look_up(2 * ANSWERS) == []
    assert place_of(roster.endpoint) == ("db", None, None)


def test_the_two_addresses_of_localhost_are_one() -> None:
    """Without asking."""
    roster = Named({"127.0.0.1": PRIMARY, "::1": STANDBY})
    roster.hold("::1")

    assert roster.look_up() == []


def test_an_address_where_nobody_answers_is_visited_again() -> None:
    """It alone, and the others only when it answers, to compare."""
    roster = Named({A: PRIMARY, B: STANDBY})
    del roster.where[B]
    roster.hold(A)

    assert sorted(roster.look_up()) == [A, B]
    assert roster.at == [{A}]
    assert place_of(roster.endpoint) == ("db", A, None)
    assert roster.endpoint.name == "db:5432"
    assert roster.look_up() == [B]

    roster.where[B] = STANDBY
    assert roster.look_up() == [B, A]
    assert roster.at == [{A}, {B}]
    assert roster.look_up() == []


def test_a_server_that_is_new_at_the_name_is_one_more() -> None:
    """As one that was added, or the new primary of a failover by DNS."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    roster.look_up()

    roster.where[C] = OTHER
    roster.leads_to = frozenset({A, B, C})
    roster.look_up()

    assert roster.at == [{A}, {B}, {C}]
    assert len(roster.monitor.standbys) == 2


def test_a_failover_by_dns_is_seen_at_the_first_answer() -> None:
    """Though the old server still answers: the new one has the higher timeline."""
    roster = Named({A: PRIMARY})
    roster.release(roster.hold(A))
    roster.look_up(2 * ANSWERS)

    roster.where[B] = Presence("900.0", primary_at(1001, timeline=2))
    roster.leads_to = frozenset({B})
    roster.look_up()
    waiter = roster.acquire()
    roster.connect()
    assert endpoint_of(waiter).addresses == {B}
    roster.release(waiter)

    roster.look_up(2 * ANSWERS)
    assert roster.at == [{B}]
    assert roster.is_single
    assert roster.reasons == [Reason.MOVED]
    waiter = roster.acquire()
    assert endpoint_of(waiter).addresses == {B}


def test_a_server_with_a_new_address_keeps_its_endpoint() -> None:
    """What is open at the old one goes when that has vanished."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    roster.look_up()

    roster.where[C] = PRIMARY
    roster.leads_to = frozenset({B, C})
    roster.look_up()

    assert roster.at == [{A, C}, {B}]
    roster.look_up(2 * ANSWERS)
    assert roster.at == [{B}, {C}]
    assert roster.endpoint.addresses == {C}


def test_a_server_that_was_taken_for_two_becomes_one() -> None:
    """As after a restart between two presences."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.release(roster.hold(A))
    roster.look_up()

    roster.where |= {B: PRIMARY, C: PRIMARY}
    roster.leads_to = frozenset({A, B, C})
    roster.look_up()

    assert roster.at == [{A, B, C}]


def test_an_address_that_became_another_servers_is_its() -> None:
    """As in a cluster that gives addresses anew."""
    roster = Named({A: PRIMARY, B: PRIMARY})
    roster.hold(A)
    roster.look_up()

    roster.where |= {B: STANDBY, C: OTHER}
    roster.leads_to = frozenset({A, B, C})
    roster.look_up()

    assert roster.at == [{A}, {B}, {C}]
    assert roster.endpoint.addresses == {A}


def test_two_names_do_not_disturb_each_other() -> None:
    """Each has its addresses and endpoints."""
    roster = Named({A: PRIMARY, B: STANDBY}, hosts=("db", "spare"), need=Need.PRIMARY)
    spare = roster.endpoints[1]
    roster.endpoint.new_entry(roster.now).address = A

    roster.look_up()

    assert [e.name for e in roster.endpoints] == [
        f"db({A}):5432",
        "spare:5432",
        f"db({B}):5432",
    ]
    assert spare.addresses == frozenset()


# What a plain connection() means.


@pytest.mark.parametrize(
    ("where", "need", "expected"),
    [
        ({A: PRIMARY, B: STANDBY}, None, {A}),
        ({A: STANDBY, B: OTHER}, None, {A, B}),
        ({A: PRIMARY, B: STANDBY}, Need.ANY, {A, B}),
        ({A: PRIMARY, B: STANDBY}, Need.STANDBY, {B}),
    ],
)
def test_a_plain_hold_has_the_primary_of_a_name_that_has_one(
    where: Mapping[str, Presence], need: Need | None, expected: set[str]
) -> None:
    """Else, as one of readers, any; ``target_session_attrs`` says otherwise."""
    roster = Named(where, need=need)
    roster.hold(A)
    roster.look_up()

    serving = roster.chooser.order(roster.new_hold(), roster.now)

    assert {address for e in serving for address in e.addresses} == expected


def test_who_has_had_a_primary_waits_for_the_next() -> None:
    """It does not write to a standby because there is none at the moment."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    roster.look_up()

    roster.monitor.lost(roster.endpoint, roster.now)

    assert list(roster.chooser.order(roster.new_hold(), roster.now)) == []


def test_libpq_chooses_no_server_where_the_pool_does() -> None:
    """But sees to ``target_session_attrs`` as long as there is one."""
    roster = Named({A: PRIMARY, B: STANDBY}, need=Need.PRIMARY)
    params = roster.endpoint._params
    roster.endpoint._params = {**params, "target_session_attrs": "read-write"}
    assert place_of(roster.endpoint) == ("db", None, "read-write")
    waiter = roster.hold(A)
    roster.look_up()

    assert {place_of(e) for e in roster.endpoints} == {
        ("db", A, "any"),
        ("db", B, "any"),
    }
    roster.leads_to = frozenset({A})
    roster.look_up(2 * ANSWERS)
    roster.release(waiter)
    assert place_of(roster.endpoint) == ("db", A, "read-write")

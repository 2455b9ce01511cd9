"""Until it is known who is at a name nobody is served; then who was found serves."""

from pgdbpool.endpoint.host import ANSWERS, MOST_VISITS, STALE, Presence
from pgdbpool.endpoint.need import Need
from tests.unit.scripted_cluster import endpoint_of, primary_at, standby_at
from tests.unit.scripted_name import OTHER, PRIMARY, STANDBY, A, B, C, Named

D = "192.0.2.4"


def begun(roster: Named) -> None:
    """Let the name be resolved, and nobody have answered a visit yet."""
    roster.resolved(roster.host, roster.leads_to, roster.now)
    roster.act()


def answer(roster: Named, address: str) -> None:
    """Let a visit of the survey end."""
    roster.visiting.remove(address)
    roster.visited(roster.host, address, roster.where.get(address), roster.now)
    roster.act()


def test_nobody_is_served_before_it_is_known_who_is_there() -> None:
    """What libpq found first can be a standby."""
    roster = Named({A: STANDBY, B: PRIMARY}, is_settled=False)
    waiter = roster.hold(A)
    assert waiter.conn is None

    begun(roster)
    answer(roster, A)
    assert waiter.conn is None

    answer(roster, B)
    while roster.begun:
        roster.connect()
    assert endpoint_of(waiter).addresses == {B}


def test_a_name_with_one_address_serves_as_soon_as_that_is_known() -> None:
    """Nothing is to be found out."""
    roster = Named({A: PRIMARY}, is_settled=False)
    waiter = roster.hold(A)
    assert waiter.conn is None

    begun(roster)
    roster.answer()

    assert waiter.conn is not None
    assert roster.is_single


def test_a_name_that_nobody_can_resolve_serves_whom_libpq_finds() -> None:
    """Which may know better."""
    roster = Named({A: PRIMARY}, is_settled=False)
    waiter = roster.hold(A)

    roster.resolved(roster.host, None, roster.now)
    roster.answer()

    assert waiter.conn is not None


def test_who_writes_does_not_wait_for_a_silent_address() -> None:
    """The primary has answered."""
    roster = Named({A: PRIMARY, B: STANDBY, C: OTHER}, is_settled=False)
    waiter = roster.hold(A)
    begun(roster)
    assert sorted(roster.visiting) == [A, B, C]

    answer(roster, A)
    roster.answer()
    assert waiter.conn is not None

    answer(roster, B)
    roster.where.pop(C)
    answer(roster, C)
    assert roster.at == [{A}, {B}]
    assert roster.look_up() == [C]


def test_who_writes_waits_where_what_is_open_may_be_another_servers() -> None:
    """It would be handed out as the primary's, which is at another address."""
    roster = Named({A: PRIMARY, B: STANDBY}, is_settled=False)
    waiter = roster.hold(B)
    begun(roster)

    answer(roster, A)
    assert not roster.host.is_met
    assert waiter.conn is None

    answer(roster, B)
    assert roster.at == [{A}, {B}]


def test_an_address_that_was_silent_is_compared_when_it_speaks() -> None:
    """So one server does not become two for ever."""
    roster = Named({A: PRIMARY, B: PRIMARY})
    roster.hold(A)
    roster.look_up()
    del roster.where[A]
    roster.where[C] = OTHER
    roster.leads_to = frozenset({A, B, C})
    roster.look_up()
    assert roster.at == [{A, B}, {C}]

    roster.where[A] = PRIMARY
    assert A in roster.look_up()
    assert roster.at == [{A, B}, {C}]


def test_few_addresses_are_visited_at_a_time() -> None:
    """Whatever a resolver says."""
    where = {f"10.0.0.{number}": OTHER for number in range(3 * MOST_VISITS)}
    roster = Named(where)
    roster.hold("10.0.0.0")
    begun(roster)

    assert len(roster.visiting) == MOST_VISITS
    while roster.visiting:
        assert len(roster.visiting) <= MOST_VISITS
        answer(roster, roster.visiting[0])
    assert len(roster.host.known) == 3 * MOST_VISITS


def test_a_visit_to_what_has_vanished_holds_up_nobody() -> None:
    """It may hang for ever."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    begun(roster)
    answer(roster, A)
    assert roster.host.pending == {B}

    roster.leads_to = frozenset({A, C})
    roster.where[C] = OTHER
    roster.look_up(3 * ANSWERS)

    assert {C} in roster.at


def test_a_visit_that_ends_after_its_survey_says_nothing_of_others() -> None:
    """What they said then may be so no more, and they were not asked again."""
    roster = Named({A: PRIMARY, B: STANDBY, C: OTHER})
    roster.release(roster.hold(A))
    begun(roster)
    assert C in roster.visiting
    roster.visiting.remove(C)  # it hangs
    roster.leads_to = frozenset({A, B})
    for _ in range(2 * ANSWERS):
        if C in roster.host.pending:
            roster.look_up()
    assert roster.at == [{A}, {B}]
    roster.monitor.lost(roster.endpoint, roster.now)

    roster.visited(roster.host, C, None, roster.now)
    roster.act()

    assert roster.monitor.primary is None
    assert roster.at == [{A}, {B}]


def test_what_an_idle_pool_knew_is_forgotten() -> None:
    """Its name may lead elsewhere by now."""
    roster = Named({A: PRIMARY, B: PRIMARY})
    roster.release(roster.hold(A))
    roster.look_up()
    assert roster.at == [{A, B}]

    roster.now += STALE + 1.0
    assert roster.host.is_stale(roster.now)
    roster.leads_to = frozenset({C})
    roster.look_up()

    assert roster.at == [set()]


def test_a_closed_pool_visits_nobody() -> None:
    """Though a resolver answered late."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.hold(A)
    roster.close()

    begun(roster)

    assert not roster.visiting


def test_a_name_of_which_some_addresses_are_told_each_time_loses_none() -> None:
    """One in three at random: it takes long until one is missed."""
    roster = Named({A: PRIMARY, B: STANDBY, C: OTHER})
    roster.hold(A)
    for address in [A, B, C] * 3 + [A, B] * 4:
        roster.leads_to = frozenset({address})
        roster.look_up()

    assert roster.at == [{A}, {B}, {C}]


def test_who_has_had_a_primary_never_writes_to_a_standby() -> None:
    """Also when that has left the name, and nobody else was promoted yet."""
    roster = Named({A: PRIMARY, B: STANDBY, C: OTHER})
    roster.release(roster.hold(A))
    roster.look_up()
    roster.leads_to = frozenset({B, C})
    roster.look_up(2 * ANSWERS)

    assert roster.monitor.need is Need.PRIMARY
    assert list(roster.chooser.order(roster.new_hold(), roster.now)) == []


def test_a_cluster_that_took_the_place_of_another_begins_anew() -> None:
    """Its timeline may be lower, as after a restore."""
    roster = Named({A: Presence("100.5", primary_at(1000, timeline=7), "old")})
    roster.where[B] = Presence("200.5", standby_at(1000), "old")
    roster.leads_to = frozenset({A, B})
    roster.release(roster.hold(A))
    roster.look_up()

    roster.where[C] = Presence("900.5", primary_at(10, timeline=1), "new")
    roster.where[D] = Presence("901.5", standby_at(10), "new")
    roster.leads_to = frozenset({C, D})
    roster.look_up()

    assert roster.monitor.primary is not None
    assert roster.monitor.primary.addresses == {C}
    assert not roster.warnings
    roster.look_up(2 * ANSWERS)
    assert roster.monitor.primary.addresses == {C}
    assert [one.standing.lag for one in roster.monitor.endpoints] == [0.0, 0.0]


def test_grace_begins_when_there_are_several() -> None:
    """Not when a lone server lost a session hours ago."""
    roster = Named({A: PRIMARY, B: STANDBY})
    roster.release(roster.hold(A))
    roster.lose(roster.endpoint)
    roster.now += 3600.0
    roster.look_up()

    since = roster.monitor.leaderless_since
    assert since is None or since >= roster.now

"""Which endpoint serves whom: eligibility, fallback, and the policies of balance."""

import pytest

from pgdbpool.endpoint.entry import Hold, Reading, ReadingElsewhere
from pgdbpool.endpoint.need import Need
from pgdbpool.routing.choose import LONGEST_START
from tests.unit.scripted_choice import FRAME, READING, STRICT, WRITING, Choice
from tests.unit.scripted_cluster import POSITION, standby_at
from tests.unit.scripted_roster import REFUSED, START

# Needs.


def test_writes_go_to_the_primary_and_nowhere_else() -> None:
    """However busy it is."""
    choice = Choice()
    choice.busy(choice.primary, 20)

    assert choice.order(WRITING) == [choice.primary]


def test_without_a_primary_nobody_serves_a_write() -> None:
    """It waits."""
    choice = Choice()

    choice.monitor.lost(choice.primary, choice.now)

    assert choice.order(WRITING) == []
    assert not any(
        choice.chooser.serves(endpoint, WRITING, choice.now)
        for endpoint in choice.endpoints
    )


@pytest.mark.parametrize("hold", [READING, STRICT])
def test_reads_go_to_the_standbys(hold: Hold) -> None:
    """All of them, and not to the primary while one qualifies."""
    choice = Choice()

    assert set(choice.order(hold)) == set(choice.standbys)
    assert not choice.chooser.serves(choice.primary, hold, choice.now)


def test_reads_go_to_the_primary_when_no_standby_qualifies() -> None:
    """But never those that are strict."""
    choice = Choice()
    for standby in choice.standbys:
        standby.health.connect_failed(REFUSED, choice.now)

    assert choice.order(READING) == [choice.primary]
    assert choice.chooser.serves(choice.primary, READING, choice.now)
    assert choice.order(STRICT) == []
    assert not choice.chooser.serves(choice.primary, STRICT, choice.now)


def test_what_is_read_again_is_read_elsewhere() -> None:
    """By another standby, and by the primary when there is none."""
    choice = Choice()
    first, *others = choice.standbys

    def again(need: Need) -> ReadingElsewhere:
        return ReadingElsewhere(START, FRAME, None, True, need=need, avoided=first)

    hold = again(Need.PREFER_STANDBY)
    assert set(choice.order(hold)) == set(others)
    assert not choice.chooser.serves(first, hold, choice.now)
    assert choice.order(again(Need.PRIMARY)) == [choice.primary]

    for standby in others:
        standby.health.connect_failed(REFUSED, choice.now)
    assert choice.order(hold) == [choice.primary]
    assert choice.order(again(Need.STANDBY)) == []


def test_reads_go_on_without_a_primary() -> None:
    """The standbys are what they were."""
    choice = Choice()

    choice.monitor.lost(choice.primary, choice.now)

    assert set(choice.order(READING)) == set(choice.standbys)


def test_where_any_will_do_all_serve() -> None:
    """Also one whose role is not known yet, but not one that is down."""
    choice = Choice(need=Need.ANY)
    choice.standbys[0].health.connect_failed(REFUSED, choice.now)
    choice.standbys[1].standing.role = None

    assert set(choice.order(WRITING)) == set(choice.endpoints) - {choice.standbys[0]}


@pytest.mark.parametrize("need", list(Need))
def test_the_pool_says_what_a_plain_hold_needs(need: Need) -> None:
    """And a hold that has a need of its own, that."""
    choice = Choice(need=need)

    assert choice.chooser.need_of(WRITING) is need
    assert choice.chooser.need_of(READING) is Need.PREFER_STANDBY
    assert choice.chooser.need_of(STRICT) is Need.STANDBY


@pytest.mark.parametrize("need", [Need.PRIMARY, Need.STANDBY, Need.PREFER_STANDBY])
@pytest.mark.parametrize("primary_is_known", [True, False])
@pytest.mark.parametrize("lagging", [0, 1, 3])
def test_who_may_be_taken_from_is_who_may_be_given(
    need: Need, lagging: int, *, primary_is_known: bool
) -> None:
    """An acquire and a release do not disagree, or somebody would wait for ever."""
    choice = Choice(need=need)
    if not primary_is_known:
        choice.monitor.lost(choice.primary, choice.now)
    for standby in choice.standbys[:lagging]:
        standby.standing.lag = 60.0

    given = {
        endpoint
        for endpoint in choice.endpoints
        if choice.chooser.serves(endpoint, WRITING, choice.now)
    }

    assert set(choice.order(WRITING)) == given


# Who qualifies.


@pytest.mark.parametrize(
    ("lag", "max_lag", "qualifies"),
    [
        (0.0, 10.0, True),
        (10.0, 10.0, True),
        (10.1, 10.0, False),
        (None, 10.0, False),
        (0.0, 0.0, True),
        (0.1, 0.0, False),
        (1e9, None, True),
        (None, None, True),
    ],
)
def test_a_standby_qualifies_by_its_lag(
    lag: float | None, max_lag: float | None, *, qualifies: bool
) -> None:
    """An unknown one is too much, where there is a limit."""
    choice = Choice(max_lag=max_lag)
    standby, *_ = choice.standbys
    standby.standing.lag = lag

    assert (standby in choice.order(READING)) is qualifies
    assert choice.chooser.serves(standby, READING, choice.now) is qualifies


@pytest.mark.parametrize(
    ("position", "qualifies"), [(499, False), (500, True), (501, True), (None, False)]
)
def test_a_standby_qualifies_by_what_it_has_replayed(
    position: int | None, *, qualifies: bool
) -> None:
    """Who wrote reads what was written: from there, or from the primary."""
    choice = Choice()
    hold = Reading(START, FRAME, None, True, 500)
    for standby in choice.standbys:
        standby.standing.position = position

    assert (choice.order(hold) == [choice.primary]) is not qualifies
    assert (set(choice.order(hold)) == set(choice.standbys)) is qualifies


def test_a_standby_that_is_astray_never_serves() -> None:
    """However old the data may be that are served."""
    choice = Choice(max_lag=None)
    standby, *others = choice.standbys

    standby.standing.is_astray = True

    assert set(choice.order(READING)) == set(others)
    assert not choice.chooser.serves(standby, READING, choice.now)


def test_what_was_written_before_is_always_on_the_primary() -> None:
    """Its position is as of the last probe, and no limit."""
    choice = Choice()
    hold = Reading(START, FRAME, None, True, 10 * POSITION)

    assert choice.order(hold) == [choice.primary]


def test_a_standby_that_is_down_does_not_qualify() -> None:
    """Until something succeeds there."""
    choice = Choice()
    standby, *others = choice.standbys
    standby.health.connect_failed(REFUSED, choice.now)
    assert set(choice.order(READING)) == set(others)

    standby.health.connected()
    assert standby in choice.order(READING)


def test_who_comes_back_begins_with_one_hold_and_doubles_each_second() -> None:
    """Its caches are cold; the others serve meanwhile."""
    choice = Choice()
    standby, *others = choice.standbys
    choice.come_back(standby)

    for most in (1, 2, 4, 8):
        choice.busy(standby, most - 1)
        assert standby in choice.order(READING)
        choice.busy(standby, most)
        assert set(choice.order(READING)) == set(others)
        choice.now += 1.0


def test_who_has_been_back_for_long_has_no_limit() -> None:
    """It has caught up."""
    choice = Choice()
    standby, *_ = choice.standbys
    choice.come_back(standby)
    choice.busy(standby, 10_000)
    assert standby not in choice.order(READING)

    choice.now += LONGEST_START + 0.1

    assert standby in choice.order(READING)


@pytest.mark.parametrize("has_lost_a_session", [False, True])
def test_who_was_never_away_has_no_limit(*, has_lost_a_session: bool) -> None:
    """At the start of a process all may serve at once, and who ended one session."""
    choice = Choice()
    standby, *_ = choice.standbys
    if has_lost_a_session:
        choice.monitor.lost(standby, choice.now)
        choice.monitor.found(standby, standby_at(POSITION), choice.now)

    choice.busy(standby, 20)

    assert standby in choice.order(READING)

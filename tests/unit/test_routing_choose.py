"""Which endpoint serves whom: eligibility, fallback, and the policies of balance."""

import heapq
import itertools
import random
import sys
from collections import Counter

import pytest

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold, Reading, ReadingElsewhere, StrictReading
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import FEWEST_PINGS
from pgdbpool.endpoint.state import State
from pgdbpool.routing.choose import AS_FAST, LONGEST_START, Chooser
from pgdbpool.routing.monitor import Monitor
from pgdbpool.settings import Settings
from tests.unit.scripted_cluster import POSITION, primary_at, standby_at
from tests.unit.scripted_roster import REFUSED, START

FRAME = sys._getframe()
WRITING = Hold(START, FRAME, None, True)
READING = Reading(START, FRAME, None, True)
STRICT = StrictReading(START, FRAME, None, True)

FAST = 0.001  # seconds of a ping


@pytest.fixture(autouse=True)
def _known_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same every time."""
    draw = random.Random(4711).random
    monkeypatch.setattr("pgdbpool.routing.choose.random", draw)


class Choice:
    """A chooser among a primary and three standbys that are all well.

    Attributes:
        primary, standbys: the endpoints, by role.
        endpoints: all of them, the primary first.
        now: the time, which only the test moves.
    """

    def __init__(
        self,
        *,
        need: Need = Need.PRIMARY,
        weights: tuple[float, ...] = (1, 1, 1),
        **given: object,
    ) -> None:
        settings = Settings.of("", given)
        self.endpoints = [
            Endpoint({"host": f"db{number}"}, {}, settings, weight)
            for number, weight in enumerate((1.0, *weights), 1)
        ]
        self.primary, *self.standbys = self.endpoints
        self.monitor = Monitor(self.endpoints, pytest.fail)
        self.now = START
        self.monitor.found(self.primary, primary_at(POSITION), self.now)
        for standby in self.standbys:
            self.monitor.found(standby, standby_at(POSITION), self.now)
        self.chooser = Chooser(settings, self.monitor, need)

    def order(self, hold: Hold) -> list[Endpoint]:
        """Return who may serve a hold, the best first."""
        return list(self.chooser.order(hold, self.now))

    def first(self, hold: Hold = READING) -> Endpoint:
        """Return who serves a hold."""
        return next(iter(self.chooser.order(hold, self.now)))

    def shares(self, number: int = 3000, hold: Hold = READING) -> dict[Endpoint, float]:
        """Return who serves how much, while nothing is in use anywhere."""
        served = Counter(self.first(hold) for _ in range(number))
        return {endpoint: served[endpoint] / number for endpoint in self.endpoints}

    def busy(self, endpoint: Endpoint, number: int) -> None:
        """Let so many connections of an endpoint be in use."""
        while len(endpoint.entries) < number:
            endpoint.new_entry(self.now).state = State.IN_USE

    def answer_pings(self, endpoint: Endpoint, seconds: float) -> None:
        """Let an endpoint take so long to answer, many times."""
        for _ in range(10 * FEWEST_PINGS):
            endpoint.standing.answered(seconds)

    def drive(
        self, takes: dict[Endpoint, float], *, clients: int = 12, holds: int = 6000
    ) -> dict[Endpoint, float]:
        """Let clients hold one after the other; return each endpoint's share.

        Args:
            takes: how long a hold takes at each endpoint.
            clients: how many there are, each with one hold at a time.
            holds: how many in all.
        """
        numbers = itertools.count()
        ends: list[tuple[float, int, Endpoint | None]] = [
            (0.0, next(numbers), None) for _ in range(clients)
        ]
        served: Counter[Endpoint] = Counter()
        for _ in range(holds):
            when, _number, endpoint = heapq.heappop(ends)
            if endpoint is not None:
                endpoint.entries.pop()
            endpoint = self.first()
            endpoint.new_entry(self.now)
            served[endpoint] += 1
            heapq.heappush(ends, (when + takes[endpoint], next(numbers), endpoint))
        return {endpoint: served[endpoint] / holds for endpoint in self.endpoints}


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
    choice.monitor.lost(standby, choice.now)
    choice.monitor.found(standby, standby_at(POSITION), choice.now)

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
    choice.monitor.lost(standby, choice.now)
    choice.monitor.found(standby, standby_at(POSITION), choice.now)
    choice.busy(standby, 10_000)
    assert standby not in choice.order(READING)

    choice.now += LONGEST_START + 0.1

    assert standby in choice.order(READING)


def test_who_was_never_away_has_no_limit() -> None:
    """At the start of a process all may serve at once."""
    choice = Choice()
    standby, *_ = choice.standbys

    choice.busy(standby, 20)

    assert standby in choice.order(READING)


# Policies.


def assert_even(shares: dict[Endpoint, float], among: list[Endpoint]) -> None:
    """Fail unless each of some has the same share, within a tenth."""
    for endpoint in among:
        assert shares[endpoint] == pytest.approx(1 / len(among), rel=0.1)


@pytest.mark.parametrize("balance", ["least_in_use", "round_robin", "weighted"])
def test_what_is_alike_serves_alike(balance: str) -> None:
    """By chance or by turns."""
    choice = Choice(balance=balance)

    assert_even(choice.shares(), choice.standbys)


def test_least_in_use_is_even_under_load() -> None:
    """With as many holds at a time as you like."""
    for clients in (3, 12, 48):
        choice = Choice()

        shares = choice.drive(dict.fromkeys(choice.endpoints, 0.01), clients=clients)

        assert_even(shares, choice.standbys)
        assert shares[choice.primary] == 0


def test_least_in_use_of_two_takes_the_one_with_less_to_do() -> None:
    """But now and then the other, or it would never show that it is well."""
    choice = Choice()
    busy, *others = choice.standbys
    choice.busy(busy, 5)

    shares = choice.shares()

    assert 0 < shares[busy] < 0.05
    assert shares[others[0]] == pytest.approx(shares[others[1]], rel=0.15)


def test_a_standby_that_answers_slowly_gets_little() -> None:
    """At most 15 % of three, and not nothing, or it would remain slow for ever."""
    choice = Choice()
    slow, *others = choice.standbys
    for endpoint in others:
        choice.answer_pings(endpoint, FAST)
    choice.answer_pings(slow, 20 * FAST)

    shares = choice.drive(dict.fromkeys(choice.endpoints, 0.01))

    assert 0 < shares[slow] <= 0.15


def test_a_standby_whose_holds_take_long_gets_less() -> None:
    """More are in use there, also when it answers pings as quickly."""
    choice = Choice()
    slow, *others = choice.standbys
    takes = dict.fromkeys(choice.endpoints, 0.01) | {slow: 0.1}

    shares = choice.drive(takes)

    assert 0 < shares[slow] <= 0.15
    assert shares[others[0]] == pytest.approx(shares[others[1]], rel=0.1)


def test_a_little_slower_is_as_fast() -> None:
    """Two sessions of one server differ as well."""
    choice = Choice()
    slower, *others = choice.standbys
    for endpoint in others:
        choice.answer_pings(endpoint, FAST)
    choice.answer_pings(slower, FAST * (AS_FAST - 0.5))

    assert_even(choice.shares(), choice.standbys)


def test_the_slower_of_two_that_are_very_fast_is_as_fast() -> None:
    """Microseconds say nothing of a server."""
    choice = Choice()
    slower, *others = choice.standbys
    for endpoint in others:
        choice.answer_pings(endpoint, 0.00001)
    choice.answer_pings(slower, 0.001)

    assert_even(choice.shares(), choice.standbys)


def test_until_it_is_known_nobody_is_slow() -> None:
    """The first pings of a server are slow by themselves."""
    choice = Choice()
    slow, *others = choice.standbys
    for endpoint in others:
        choice.answer_pings(endpoint, FAST)
    for _ in range(FEWEST_PINGS - 1):
        slow.standing.answered(20 * FAST)

    assert_even(choice.shares(), choice.standbys)


def test_one_hiccup_is_no_pace() -> None:
    """A server that was slow once keeps its share."""
    choice = Choice()
    for endpoint in choice.standbys:
        choice.answer_pings(endpoint, FAST)

    choice.standbys[0].standing.answered(10.0)

    assert_even(choice.shares(), choice.standbys)


def test_least_in_use_looks_at_weights() -> None:
    """Twice the weight, twice as many in use."""
    choice = Choice(weights=(2, 1, 1))
    heavy, *others = choice.standbys

    shares = choice.drive(dict.fromkeys(choice.endpoints, 0.01), clients=40)

    for light in others:
        assert shares[heavy] / shares[light] == pytest.approx(2.0, rel=0.25)


def test_round_robin_is_one_after_the_other() -> None:
    """Whatever they have to do."""
    choice = Choice(balance="round_robin")
    choice.busy(choice.standbys[0], 20)

    assert [choice.first() for _ in range(6)] == choice.standbys * 2


def test_weighted_is_by_weight() -> None:
    """Whatever they have to do."""
    choice = Choice(balance="weighted", weights=(3, 1, 0.5))
    choice.busy(choice.standbys[0], 20)

    shares = choice.shares(9000)

    for standby in choice.standbys:
        assert shares[standby] == pytest.approx(standby.weight / 4.5, rel=0.1)


def test_nearest_is_the_one_with_the_shortest_round_trip() -> None:
    """All of it, until it is down; whose round trip is unknown is far."""
    choice = Choice(balance="nearest")
    near, far, unknown = choice.standbys
    near.standing.round_trip, far.standing.round_trip = 0.001, 0.020
    unknown.standing.round_trip = None
    assert choice.shares(50)[near] == 1.0

    near.health.connect_failed(REFUSED, choice.now)
    assert choice.shares(50)[far] == 1.0


@pytest.mark.parametrize(
    "balance", ["least_in_use", "round_robin", "weighted", "nearest"]
)
def test_who_does_not_qualify_is_passed_over(balance: str) -> None:
    """Whoever the policy would like best."""
    choice = Choice(balance=balance)
    lagging, *others = choice.standbys
    lagging.standing.lag = 60.0
    lagging.standing.round_trip = 0.0

    shares = choice.shares(300)

    assert shares[lagging] == 0
    assert sum(shares[endpoint] for endpoint in others) == 1.0


@pytest.mark.parametrize(
    "balance", ["least_in_use", "round_robin", "weighted", "nearest"]
)
def test_after_the_best_all_others_follow_once(balance: str) -> None:
    """So that one whose connections are all in use keeps nobody waiting."""
    choice = Choice(balance=balance)

    for _ in range(10):
        order = choice.order(READING)
        assert len(order) == 3
        assert set(order) == set(choice.standbys)


@pytest.mark.parametrize("balance", ["least_in_use", "round_robin", "weighted"])
def test_who_does_not_qualify_leaves_its_share_to_all(balance: str) -> None:
    """The others stay alike: one that is down must not double another's load."""
    choice = Choice(balance=balance)
    *others, lagging = choice.standbys
    lagging.standing.lag = 60.0

    assert_even(choice.shares(), others)


def test_after_the_nearest_comes_the_next_nearest() -> None:
    """When the nearest does not qualify."""
    choice = Choice(balance="nearest")
    far, near, nearer = choice.standbys
    far.standing.round_trip = 0.020
    near.standing.round_trip, nearer.standing.round_trip = 0.002, 0.001
    nearer.standing.lag = 60.0

    assert choice.first() is near


def test_a_standby_that_is_the_only_one_serves() -> None:
    """The draw of two does not need two; who is not known does not take part."""
    choice = Choice()
    only, *others = choice.standbys
    for endpoint in others:
        endpoint.standing.role = None
    choice.monitor.lost(others[0], choice.now)  # elects anew

    assert choice.shares(20)[only] == 1.0
    assert choice.monitor.standbys == (only,)

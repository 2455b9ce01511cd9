"""Which of several standbys serves: by what they have to do, by turns, by weight."""

import random

import pytest

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.standing import FEWEST_PINGS
from pgdbpool.routing.choose import AS_FAST
from tests.unit.scripted_choice import FAST, READING, Choice
from tests.unit.scripted_roster import REFUSED


@pytest.fixture(autouse=True)
def _known_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same every time."""
    draw = random.Random(4711).random
    monkeypatch.setattr("pgdbpool.routing.choose.random", draw)


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

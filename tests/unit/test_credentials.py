"""The cache of a pool's credential: fetched once, kept, renewed ahead of time."""

import weakref

import pytest

from pgdbpool.auth.cache import (
    Credentials,
)
from pgdbpool.auth.provider import Credential
from pgdbpool.errors import CredentialError
from tests.unit.scripted_credentials import (
    ScriptedCredentials,
    renewal,
    with_two_tokens,
)

DOWN = ConnectionError("no route")


@pytest.fixture
def cache() -> ScriptedCredentials:
    """Give a cache that was never asked, over a provider whose tokens live long."""
    return with_two_tokens()


# What is fetched, and when.


def test_nothing_is_fetched_before_it_is_needed(cache: ScriptedCredentials) -> None:
    """A pool that never connects asks nobody."""
    cache.pass_time(3600.0)
    assert cache.provider.asked == 0


def test_a_credential_is_fetched_once(cache: ScriptedCredentials) -> None:
    """However often it is needed."""
    assert [cache.get().secret for _ in range(10)] == ["first"] * 10
    assert cache.provider.asked == 1


def test_what_does_not_expire_is_kept(cache: ScriptedCredentials) -> None:
    """For ever, and nothing is renewed."""
    cache.provider.then("word")
    cache.get()
    for _ in range(100):
        cache.pass_time(86_400.0)

    assert cache.get() == Credential("word")
    assert cache.provider.asked == 1


def test_an_expired_one_is_not_given(cache: ScriptedCredentials) -> None:
    """Also when its renewal never came: the machine slept."""
    cache.get()
    cache.wall.now += 1000.0
    assert cache.get().secret == "second"


def test_the_first_fetch_fails_with_the_providers_error(
    cache: ScriptedCredentials,
) -> None:
    """And the next who needs one asks again; nobody asks in between."""
    cache.provider.then(DOWN)
    with pytest.raises(CredentialError, match="ConnectionError: no route") as caught:
        cache.get()
    assert caught.value.__cause__ is DOWN

    cache.pass_time(600.0)
    assert cache.provider.asked == 1

    cache.provider.then("word")
    assert cache.get().secret == "word"


def test_each_who_waits_is_raised_an_error_of_its_own(
    cache: ScriptedCredentials,
) -> None:
    """A traceback grows on what is raised."""
    cache.provider.then(CredentialError("the vault is sealed"))
    errors: set[BaseException] = set()
    for _ in range(2):
        with pytest.raises(CredentialError, match="the vault is sealed") as caught:
            cache.get()
        assert caught.value.__cause__ is None
        errors.add(caught.value)
    assert len(errors) == 2


def test_who_looked_before_a_fetch_ended_shares_it(
    cache: ScriptedCredentials,
) -> None:
    """It is as new as one of its own would be: M4."""
    cache.get()
    cache.wall.now += 1000.0
    others = [cache.get]

    def clock() -> float:
        if others:  # in the middle of our own look at what there is
            others.pop()()
        return cache.wall.now

    cache._clock = clock
    assert cache.get().secret == "second"
    assert cache.provider.asked == 2


# Renewal.


def test_it_is_renewed_before_it_expires(cache: ScriptedCredentials) -> None:
    """When 70 to 80 percent of its life is over, with nobody asking for it."""
    cache.get()
    early, late = renewal(1000.0)
    assert early <= cache.rings_in <= late

    cache.pass_time(early - 1.0)
    assert cache.provider.asked == 1
    cache.pass_time(late - early + 1.0)
    assert cache.provider.asked == 2
    assert cache.get().secret == "second"


def test_processes_spread_their_renewals(cache: ScriptedCredentials) -> None:
    """Or all of a fleet that was deployed at once would ask at once."""
    seen = set()
    for _ in range(20):
        other = ScriptedCredentials(cache.token("x"))
        other.get()
        seen.add(round(other.rings_in, 3))
    assert len(seen) > 10


def test_nobody_waits_for_a_renewal(cache: ScriptedCredentials) -> None:
    """What is kept is given until another is there."""
    first = cache.get()
    cache.threads.are_late = True
    cache.pass_time(900.0)
    assert len(cache.threads) == 1

    assert cache.get() == first
    cache.threads.run()
    assert cache.get().secret == "second"


def test_a_renewal_begins_once(cache: ScriptedCredentials) -> None:
    """Also if the timer rings while a fetch is under way."""
    cache.get()
    cache.threads.are_late = True
    cache._limit = None
    flight, is_mine = cache._join(cache._last)
    cache.pass_time(1000.0)

    assert is_mine
    assert len(cache.threads) == 1
    assert cache._join(cache._last) == (flight, False)
    cache.threads.run()


def test_a_provider_that_keeps_its_token_is_asked_again_in_time(
    cache: ScriptedCredentials,
) -> None:
    """The libraries of clouds do, to minutes before its end."""
    token = cache.token("kept by the library")
    cache.provider.then(token)
    cache.get()
    for _ in range(3):
        left = (token.expires_at or 0.0) - cache.wall.now
        early, late = renewal(left)
        assert early <= cache.rings_in <= late
        cache.pass_time(late)

    assert cache.provider.asked == 4
    assert cache.changes == 0
    cache.provider.then(cache.token("another"))
    cache.pass_time(late)
    assert cache.get().secret == "another"


def test_a_token_that_is_about_to_expire_is_no_reason_to_hurry(
    cache: ScriptedCredentials,
) -> None:
    """A provider that always gives the rest of a life is not asked in a loop."""
    cache.provider.then(cache.token("short", life=0.01))
    cache.get()
    assert cache.rings_in == 0.5


def test_a_cache_that_is_forgotten_is_collected(cache: ScriptedCredentials) -> None:
    """The timer does not keep it, and rings for nobody."""
    mine = Credentials(cache._fetch, name="mine", timer=cache.timer, clock=cache.wall)
    mine._start = cache.threads
    mine.get()
    gone = weakref.ref(mine)
    del mine
    assert gone() is None

    cache.pass_time(1000.0)
    assert cache.provider.asked == 1


def test_a_cache_at_rest_renews_nothing(cache: ScriptedCredentials) -> None:
    """Until somebody needs a credential: so is that of a pool that was closed."""
    cache.get()
    cache.rest()
    cache.pass_time(900.0)
    assert cache.provider.asked == 1

    assert cache.get().secret == "first"
    cache.pass_time(80.0)
    assert cache.provider.asked == 2


def test_a_fetch_that_ends_at_rest_wakes_nobody(cache: ScriptedCredentials) -> None:
    """It was under way when the pool was closed."""
    cache.get()
    cache.threads.are_late = True
    cache.pass_time(900.0)
    cache.rest()
    cache.threads.run()
    cache.pass_time(3600.0)
    assert len(cache.threads) == 0


# Clocks that jump.


def test_a_clock_that_jumps_ahead_costs_a_fetch(cache: ScriptedCredentials) -> None:
    """What seems to have expired is not given."""
    cache.get()
    cache.provider.then(cache.token("second", life=90_000.0))
    cache.wall.now += 86_400.0
    assert cache.get().secret == "second"
    cache.wall.now -= 86_400.0
    assert cache.get().secret == "second"
    assert cache.provider.asked == 2


def test_a_clock_that_is_put_back_delays_no_renewal(
    cache: ScriptedCredentials,
) -> None:
    """Which goes by the clock that nobody sets."""
    cache.get()
    cache.wall.now -= 86_400.0
    cache.pass_time(800.0)
    assert cache.provider.asked == 2


# The provider has versions.


def test_another_version_is_fetched_before_it_is_needed(
    cache: ScriptedCredentials,
) -> None:
    """By the next connect, with no login refused."""
    cache.provider.then("old", "new")
    cache.get()
    cache.provider.now = 1
    assert cache.get().secret == "new"
    assert cache.get().secret == "new"
    assert cache.provider.asked == 2
    assert cache.changes == 1


def test_a_version_that_fails_leaves_the_last_good_one(
    cache: ScriptedCredentials,
) -> None:
    """It is tried again after a pause, not by each connect; the next one at once."""
    cache.provider.then("old")
    cache.get()
    cache.provider.then("")
    cache.provider.now = 1
    assert [cache.get().secret for _ in range(5)] == ["old"] * 5
    assert cache.provider.asked == 2

    cache.pass_time(0.5)
    assert cache.provider.asked == 3

    cache.provider.then("new")
    cache.provider.now = 2
    assert cache.get().secret == "new"
    cache.pass_time(3600.0)
    assert cache.provider.asked == 4


def test_a_version_that_cannot_be_told_is_no_news(cache: ScriptedCredentials) -> None:
    """The file is not there just now: what was read from it is kept."""
    cache.get()
    cache.provider.now = FileNotFoundError("gone")
    assert cache.get().secret == "first"
    assert cache.provider.asked == 1


def test_a_version_is_the_one_before_the_fetch(cache: ScriptedCredentials) -> None:
    """What changes while it is read is read again."""
    cache.provider.then("old", "new")
    read = cache.provider.credential

    def slow() -> Credential | str:
        answer = read()
        cache.provider.now = 1
        return answer

    cache._fetch._ask = slow  # type: ignore[attr-defined]
    assert cache.get().secret == "old"
    assert cache.get().secret == "new"
    assert cache.get().secret == "new"
    assert cache.provider.asked == 2

"""The cache of a credential when its provider fails or hangs, or it was forked."""

import logging

import pytest

from pgdbpool.auth.cache import (
    LONGEST_PAUSE,
    MOST_UNDER_WAY,
)
from pgdbpool.auth.flight import Flight
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


# The provider is down.


def test_the_last_good_one_is_kept_while_the_provider_is_down(
    cache: ScriptedCredentials,
) -> None:
    """As long as it has not expired; after that there is the provider's error."""
    cache.get()
    cache.provider.then(DOWN)
    cache.pass_time(900.0)
    assert cache.get().secret == "first"

    cache.pass_time(100.0)
    with pytest.raises(CredentialError, match="no route"):
        cache.get()


def test_it_is_tried_again_after_pauses_that_grow(cache: ScriptedCredentials) -> None:
    """From half a second up to half a minute, each shortened by up to a half."""
    cache.get()
    cache.provider.then(DOWN)
    cache.pass_time(900.0)
    for number in range(12):
        longest = min(LONGEST_PAUSE, 0.5 * 2.0**number)
        assert longest / 2 <= cache.rings_in <= longest
        cache.pass_time(longest)
    assert cache.provider.asked == 14


def test_an_outage_ends_with_one_call(cache: ScriptedCredentials) -> None:
    """Whoever makes it; and the pauses are short again the next time."""
    cache.get()
    cache.provider.then(DOWN)
    cache.pass_time(900.0)
    for _ in range(20):
        cache.pass_time(LONGEST_PAUSE)
    failed = cache.provider.asked

    cache.provider.then(cache.token("after"))
    assert cache.get().secret == "after"
    cache.pass_time(LONGEST_PAUSE)
    assert cache.provider.asked == failed + 1

    cache.provider.then(DOWN)
    cache.pass_time(900.0 - LONGEST_PAUSE)
    assert cache.rings_in <= 0.5


def test_the_log_tells_of_an_outage_once(
    cache: ScriptedCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins, with what is left, and when it is over."""
    caplog.set_level(logging.DEBUG, "pgdbpool.auth")
    cache.get()
    cache.provider.then(DOWN)
    cache.pass_time(900.0)
    for _ in range(3):
        cache.pass_time(LONGEST_PAUSE)
    cache.provider.then(cache.token("after"))
    cache.pass_time(LONGEST_PAUSE)

    said = [(r.levelname, r.getMessage()) for r in caplog.records]
    failure = "the password provider ScriptedProvider failed: ConnectionError: no route"
    assert said[:2] == [
        ("INFO", "pool 'orders': new credential, of 'app', for 1000 s"),
        ("WARNING", f"pool 'orders': {failure}; kept: of 'app', for 100 s"),
    ]
    assert {level for level, _ in said[2:-2]} == {"DEBUG"}
    assert said[-2:] == [
        ("INFO", "pool 'orders': the password provider answers again, after 4 tries"),
        ("INFO", "pool 'orders': new credential, of 'app', for 970 s"),
    ]


def test_its_repr_tells_how_it_is(cache: ScriptedCredentials) -> None:
    """In one line."""
    assert repr(cache) == "<Credentials of pool 'orders': nothing>"
    cache.get()
    cache.provider.then(DOWN)
    cache.pass_time(900.0)
    assert repr(cache) == (
        "<Credentials of pool 'orders': of 'app', for 100 s, 1 fetches failed>"
    )
    cache.wall.now += 100.0
    assert "of 'app', expired" in repr(cache)
    cache.provider.then("word")
    cache.get()
    assert repr(cache) == "<Credentials of pool 'orders': without an end>"


# Threads that are not to be had.


def test_without_a_thread_the_fetch_is_made_in_line(cache: ScriptedCredentials) -> None:
    """By who needs it."""
    cache.threads.error = RuntimeError("can't start new thread")
    assert cache.get().secret == "first"


def test_without_a_thread_a_renewal_is_put_off(cache: ScriptedCredentials) -> None:
    """The timer thread fetches nothing itself."""
    cache.get()
    cache.threads.error = RuntimeError("can't start new thread")
    cache.pass_time(900.0)
    assert cache.provider.asked == 1
    assert cache.rings_in <= 0.5

    cache.threads.error = None
    cache.pass_time(0.5)
    assert cache.provider.asked == 2


def test_without_a_timer_it_is_fetched_when_it_has_expired(
    cache: ScriptedCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the timer is tried again by each who needs a credential."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(cache.timer, "at", fail)
        assert cache.get().secret == "first"
        assert cache.get().secret == "first"
    assert cache.get().secret == "first"
    cache.pass_time(800.0)
    assert cache.provider.asked == 2


def test_an_exception_from_outside_leaves_no_fetch_under_way(
    cache: ScriptedCredentials,
) -> None:
    """It hit the thread that was about to begin one."""
    cache.threads.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        cache.get()
    cache.threads.error = None
    assert cache.get().secret == "first"


# A provider that hangs.


def test_who_waits_for_a_silent_provider_is_refused_in_time(
    cache: ScriptedCredentials,
) -> None:
    """Whoever comes later is refused at once, and the fetch may still end well."""
    cache.threads.are_late = True
    cache._limit = 0.01
    for silent in "0.0", "29.9":
        with pytest.raises(CredentialError, match=f"not answered for {silent} s$"):
            cache.get()
        cache.timer.clock.now += 29.9
        cache._under_way = MOST_UNDER_WAY  # or another one would be begun

    cache.threads.run()
    assert cache.get().secret == "first"


def test_the_limit_counts_from_the_begin_of_the_fetch() -> None:
    """Whoever comes after that does not wait at all."""
    with pytest.raises(CredentialError, match=r"has not answered for 31\.0 s"):
        Flight(begun_at=100.0).wait(now=131.0, limit=30.0)


def test_a_provider_that_hangs_is_asked_again_but_not_for_ever() -> None:
    """Each time costs a thread, so at most four calls hang."""
    cache = ScriptedCredentials("word", limit=30.0)
    cache.threads.are_late = True
    for _ in range(20):
        cache._join(cache._last)
        cache.timer.clock.now += 30.0
    assert len(cache.threads) == 4

    cache.threads.run()  # the first of them answers, and its answer will do
    assert cache.get().secret == "word"
    assert cache.provider.asked == 1


def test_a_late_answer_does_not_replace_a_newer_one() -> None:
    """It was fetched before that."""
    cache = ScriptedCredentials("newer", "late")
    cache.threads.are_late = True
    cache._join(cache._last)
    cache.timer.clock.now += 30.0
    cache._join(cache._last)
    cache.threads._started.rotate()
    cache.threads.run()
    assert cache.get().secret == "newer"
    cache.threads.run()
    assert cache.get().secret == "newer"
    assert cache.changes == 0


def test_a_late_failure_is_nobodys_business() -> None:
    """Another fetch was begun, and is what counts."""
    cache = ScriptedCredentials("word", DOWN)
    cache.threads.are_late = True
    cache._join(cache._last)
    cache.timer.clock.now += 30.0
    cache._join(cache._last)
    cache.threads._started.rotate()
    cache.threads.run()
    cache.threads.run()
    assert cache.provider.asked == 2
    assert cache.get().secret == "word"
    assert "failed" not in repr(cache)


def test_a_fetch_can_be_asked_for(cache: ScriptedCredentials) -> None:
    """By who knows that something has changed; what there is is kept if it fails."""
    cache.get()
    cache.renew()
    assert cache.get().secret == "second"

    cache.provider.then(DOWN)
    with pytest.raises(CredentialError, match="no route"):
        cache.renew()
    assert cache.get().secret == "second"
    assert cache.provider.asked == 3


# Fork.


def test_a_child_keeps_what_was_fetched(cache: ScriptedCredentials) -> None:
    """And none of the parent's fetches, locks and alarms."""
    cache.get()
    cache.threads.are_late = True
    cache.pass_time(900.0)
    assert cache._lock.acquire(blocking=False)  # by a thread that is not in it
    cache.forget()
    cache.timer.forget()
    cache.threads = cache._start = type(cache.threads)()

    assert cache.get().secret == "first"
    early, late = renewal(100.0)
    assert early <= cache.rings_in <= late
    cache.pass_time(late)
    assert cache.provider.asked == 2
    assert cache.get().secret == "second"

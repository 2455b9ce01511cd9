"""What the cache of a credential does when a login is refused, and whom it tells."""

import pytest

from pgdbpool.auth.flight import Flight
from pgdbpool.auth.provider import Credential
from tests.unit.scripted_credentials import ScriptedCredentials, with_two_tokens

DOWN = ConnectionError("no route")


@pytest.fixture
def cache() -> ScriptedCredentials:
    """Give a cache that was never asked, over a provider whose tokens live long."""
    return with_two_tokens()


# A login is refused.


def test_a_kept_credential_that_is_refused_is_fetched_anew(
    cache: ScriptedCredentials,
) -> None:
    """Once: what comes of it is all that there is to try."""
    cache.get()
    kept = cache.get()
    new = cache.refused(kept)
    assert new is not None
    assert new.secret == "second"
    assert cache.get().secret == "second"
    assert cache.provider.asked == 2

    assert cache.refused(new) is None
    assert cache.provider.asked == 2


def test_what_was_fetched_for_this_connect_is_not_fetched_again(
    cache: ScriptedCredentials,
) -> None:
    """It cannot be outdated."""
    fresh = cache.get()
    assert cache.refused(fresh) is None
    assert cache.provider.asked == 1


def test_who_is_refused_late_gets_what_another_has_fetched(
    cache: ScriptedCredentials,
) -> None:
    """Without a fetch of its own."""
    cache.get()
    kept = cache.get()
    assert cache.refused(kept) == cache.refused(kept)
    assert cache.provider.asked == 2


def test_the_same_secret_is_nothing_new(cache: ScriptedCredentials) -> None:
    """Whatever it says of its end."""
    cache.provider.then(cache.token("same"), cache.token("same", life=2000.0))
    cache.get()
    assert cache.refused(cache.get()) is None
    assert cache.provider.asked == 2


def test_another_user_is_something_new(cache: ScriptedCredentials) -> None:
    """The same password can be right for one and wrong for another."""
    cache.provider.then(Credential("same", "eve"), Credential("same", "app"))
    cache.get()
    new = cache.refused(cache.get())
    assert new is not None
    assert new.user == "app"


def test_a_provider_that_fails_has_nothing_newer(cache: ScriptedCredentials) -> None:
    """The refusal is what is told; and it is tried again off the way."""
    cache.get()
    kept = cache.get()
    cache.provider.then(DOWN)
    assert cache.refused(kept) is None
    assert cache.refused(kept) is None
    assert cache.provider.asked == 2

    cache.provider.then("word")
    cache.pass_time(0.5)
    assert cache.get().secret == "word"
    assert cache.changes == 1


def test_a_fetch_that_began_before_the_refusal_is_not_enough(
    cache: ScriptedCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have read what was valid then; one that begins now has not."""
    cache.get()
    kept = cache.get()
    cache.provider.then(cache.token("first"), cache.token("rotated"))
    cache.threads.are_late = True
    _, is_mine = cache._join(cache._last)
    assert is_mine
    wait = cache._wait

    def run_and_wait(flight: Flight) -> Credential:
        cache.threads.run()
        return wait(flight)

    monkeypatch.setattr(cache, "_wait", run_and_wait)
    new = cache.refused(kept)

    assert new is not None
    assert new.secret == "rotated"


def test_refusals_of_what_is_fresh_are_no_reason_to_ask_ever_again(
    cache: ScriptedCredentials,
) -> None:
    """A role that is not there is not there with another token either: row 34."""
    numbers = iter(range(10_000))
    cache._fetch = lambda: cache.token(f"token {next(numbers)}")
    for _ in range(600):  # the pool's breaker tries twice a second
        attempt = cache.get()
        retry = cache.refused(attempt)
        if retry is not None:
            assert cache.refused(retry) is None
        cache.pass_time(0.5)

    fetched = next(numbers)
    assert 8 <= fetched <= 18


def test_many_who_are_refused_with_the_same_cost_one_fetch(
    cache: ScriptedCredentials,
) -> None:
    """Also if the provider has nothing new: row 34."""
    cache.provider.then("wrong")
    cache.get()
    held = [cache.get() for _ in range(50)]
    assert [cache.refused(one) for one in held] == [None] * 50
    assert cache.provider.asked == 2

    cache.pass_time(0.5)
    assert cache.refused(held[0]) is None
    assert cache.provider.asked == 3


def test_a_refusal_after_a_quiet_time_is_another_story(
    cache: ScriptedCredentials,
) -> None:
    """It is answered by a fetch at once."""
    cache.provider.then("wrong")
    for _ in range(20):
        cache.refused(cache.get())
    cache.pass_time(120.0)
    cache.provider.then("right")
    new = cache.refused(cache.get())
    assert new is not None
    assert new.secret == "right"

    assert cache.refused(new) is None
    cache.provider.then("righter")
    cache.pass_time(0.5)
    assert cache.refused(cache.get()) == Credential("righter")


def test_each_rotation_is_found_by_one_refusal(cache: ScriptedCredentials) -> None:
    """Also if they come every two seconds: row 11."""
    secrets = [f"secret {number}" for number in range(30)]
    cache.provider.then(*secrets)
    cache.get()
    for secret in secrets[1:]:
        cache.pass_time(2.0)
        new = cache.refused(cache.get())
        assert new is not None
        assert new.secret == secret
    assert cache.provider.asked == 30
    assert cache.changes == 29


# It tells of a change.


def test_a_change_is_told_of_and_the_first_fetch_is_none(
    cache: ScriptedCredentials,
) -> None:
    """Sessions of the old one can be replaced then."""
    cache.get()
    assert cache.changes == 0
    cache.pass_time(800.0)
    assert cache.changes == 1


def test_the_same_again_is_no_change(cache: ScriptedCredentials) -> None:
    """With another end."""
    cache.provider.then(cache.token("same"), cache.token("same", life=2000.0))
    cache.get()
    cache.pass_time(800.0)
    assert cache.provider.asked == 2
    assert cache.changes == 0


def test_who_is_told_finds_the_new_one(cache: ScriptedCredentials) -> None:
    """No lock is held, so the cache can be asked."""
    seen = []
    cache.on_change(lambda: seen.append(cache.get().secret))
    cache.get()
    cache.pass_time(800.0)
    assert seen == ["second"]


def test_who_asks_for_it_is_told_of_the_first_login_too(
    cache: ScriptedCredentials,
) -> None:
    """And finds it, as long as it has not expired."""
    seen: list[str | None] = []

    def look() -> None:
        seen.append(cache.kept and cache.kept.secret)

    cache.on_change(look, also_first=True)
    assert cache.kept is None
    cache.get()
    cache.pass_time(800.0)
    assert seen == ["first", "second"]
    cache.wall.now += 10_000.0
    assert cache.kept is None


def test_a_callback_that_fails_keeps_nobody_from_anything(
    cache: ScriptedCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; others are called, and who waits gets the credential."""
    seen = []
    cache.on_change(lambda: 1 / 0)
    cache.on_change(lambda: seen.append(1))
    cache.get()
    cache.wall.now += 1000.0
    assert cache.get().secret == "second"
    assert seen == [1]
    assert "pool 'orders': on_change failed" in caplog.text

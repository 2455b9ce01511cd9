"""The cache of credentials under many threads: one fetch for all of them."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.provider import Credential, as_provider
from pgdbpool.errors import CredentialError
from tests.waiting import until

T = TypeVar("T")

CROWD = 200


class Gated:
    """A provider that answers when it may.

    Attributes:
        asked: how often it was.
        may_answer: set to let it.
        error: raised in the place of an answer.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.error: Exception | None = None

    def credential(self) -> Credential:
        """Return another secret each time."""
        self.asked += 1
        number = self.asked
        assert self.may_answer.wait(30.0)
        if self.error is not None:
            raise self.error
        return Credential(f"secret {number}", "app", time.time() + 3600.0)


@pytest.fixture
def provider() -> Iterator[Gated]:
    """Give a provider; in the end whoever still waits for it may go."""
    provider = Gated()
    yield provider
    provider.may_answer.set()


@pytest.fixture
def cache(provider: Gated) -> Credentials:
    """Give a cache over it, with threads of its own."""
    return Credentials(as_provider(provider), name="orders")


def together(
    calls: list[Callable[[], T]], meanwhile: Callable[[], object] = lambda: None
) -> list[T | CredentialError]:
    """Make each call in a thread; do something once all have begun."""
    results: list[T | CredentialError] = []
    barrier = threading.Barrier(len(calls) + 1)

    def run(call: Callable[[], T]) -> None:
        barrier.wait()
        try:
            results.append(call())
        except CredentialError as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    barrier.wait()
    meanwhile()
    for thread in threads:
        thread.join()
    return results


def test_two_hundred_threads_at_a_cold_start_cost_one_call(
    cache: Credentials, provider: Gated
) -> None:
    """Rows 11 and 34, M4: all of them get its result."""

    def answer() -> None:
        until(lambda: provider.asked)
        provider.may_answer.set()

    got = together([cache.get] * CROWD, answer)

    assert {c.secret for c in got if isinstance(c, Credential)} == {"secret 1"}
    assert len(got) == CROWD
    assert provider.asked == 1


def test_two_hundred_threads_get_the_error_of_one_call(
    cache: Credentials, provider: Gated
) -> None:
    """Each an error of its own, for the same cause."""
    provider.error = ConnectionError("no route")
    flying = threading.Event()
    begin = cache._start
    cache._start = lambda run: (flying.set(), begin(run))[1]
    cache._join(None)
    assert flying.wait(10.0)

    # All of them find the fetch under way: it ends when all have come.
    arrived = threading.Semaphore(0)
    wait = cache._wait
    cache._wait = lambda flight: (arrived.release(), wait(flight))[1]  # type: ignore[method-assign]

    def answer() -> None:
        for _ in range(CROWD):
            assert arrived.acquire(timeout=10.0)
        provider.may_answer.set()

    got = together([cache.get] * CROWD, answer)

    assert provider.asked == 1
    assert len({id(error) for error in got}) == CROWD
    for error in got:
        assert isinstance(error, CredentialError)
        assert error.__cause__ is provider.error


def test_two_hundred_refusals_of_one_secret_cost_one_call(
    cache: Credentials, provider: Gated
) -> None:
    """M4: an expired token is fetched anew once, and all go on with that."""
    provider.may_answer.set()
    cache.get()
    kept = cache.get()

    got = together([lambda: cache.refused(kept)] * CROWD)

    assert {c.secret for c in got if isinstance(c, Credential)} == {"secret 2"}
    assert len(got) == CROWD
    assert provider.asked == 2


def test_nobody_waits_while_a_good_one_is_renewed(
    cache: Credentials, provider: Gated
) -> None:
    """The provider is silent; what is kept is given all the same."""
    provider.may_answer.set()
    cache.get()
    provider.may_answer.clear()
    cache._ring()
    until(lambda: provider.asked == 2)

    got = together([cache.get] * CROWD)

    assert {c.secret for c in got if isinstance(c, Credential)} == {"secret 1"}
    assert provider.asked == 2
    provider.may_answer.set()
    until(lambda: cache.get().secret == "secret 2")


def test_who_waits_for_a_silent_provider_is_refused_in_time(provider: Gated) -> None:
    """All of them by the same deadline, and all that hangs is one thread."""
    cache = Credentials(as_provider(provider), name="orders", limit=0.1)
    got = together([cache.get] * 50)
    assert all("has not answered for 0.1 s" in str(error) for error in got)
    assert provider.asked == 1


class Rotating:
    """A provider and its server, which takes nothing but the newest secret.

    Attributes:
        asked: how often the provider was.
        rotations: how often the secret was replaced.
        refusals: how often the server refused one.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.rotations = 0
        self.refusals = 0

    def credential(self) -> Credential:
        """Return the newest secret."""
        self.asked += 1
        time.sleep(0)  # so that others come meanwhile
        return Credential(str(self.rotations))

    def rotate(self) -> bool:
        """Replace the secret."""
        self.rotations += 1
        return True

    def accepts(self, credential: Credential) -> bool:
        """Whether a login succeeds."""
        time.sleep(0)
        is_right = credential.secret == str(self.rotations)
        self.refusals += not is_right
        return is_right


def test_a_storm_of_rotations_refuses_nobody() -> None:
    """Row 11: each connect succeeds, with its first or its second secret."""
    server = Rotating()
    cache = Credentials(as_provider(server), name="orders")
    cache.get()

    def connect() -> bool:
        first = cache.get()
        if server.accepts(first):
            return True
        second = cache.refused(first)
        return second is not None and server.accepts(second)

    # A connect can meet one rotation, not two: those in a round have one.
    for _ in range(100):
        calls = [connect] * 11
        calls.insert(random.randrange(12), server.rotate)
        assert together(calls) == [True] * 12
        assert connect()  # or the next rotation could be the second

    assert server.refusals > 100  # several connects were hit by each
    assert server.asked <= server.rotations + 1

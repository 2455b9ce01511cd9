"""A fork keeps what was fetched, and leaves fetches, locks and alarms behind."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.provider import Credential, as_provider
from tests.waiting import until


class Slow:
    """A provider that answers at once, or never.

    Attributes:
        asked: how often it was, in this process.
        hangs: for how long calls do: until it is set.
        is_slow: whether they do.
        life: of what it gives, seconds.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.hangs = threading.Event()
        self.is_slow = False
        self.life = 3600.0

    def credential(self) -> Credential:
        """Return another secret each time."""
        self.asked += 1
        if self.is_slow:
            self.hangs.wait(60.0)
        return Credential(f"{os.getpid()} {self.asked}", None, time.time() + self.life)


def in_a_child(check: Callable[[], object]) -> None:
    """Fail unless a forked child finds that something is so, within ten seconds."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        os._exit(0 if check() else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def provider() -> Slow:
    """Give a provider that answers at once."""
    return Slow()


@pytest.fixture
def cache(provider: Slow) -> Credentials:
    """Give a cache that has fetched once."""
    cache = Credentials(as_provider(provider), name="orders")
    cache.get()
    return cache


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_keeps_what_was_fetched(cache: Credentials, provider: Slow) -> None:
    """Without a call to the provider, and renews it in time by itself."""
    mine = cache.get()
    in_a_child(lambda: cache.get() == mine and provider.asked == 1)
    cache.rest()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_fetch_of_its_parent(
    cache: Credentials, provider: Slow
) -> None:
    """The thread that makes it is not in the child; nor is the holder of a lock."""
    provider.is_slow = True
    cache._ring()
    until(lambda: provider.asked == 2)

    def fetches() -> bool:
        provider.is_slow = False
        cache._kept = None
        return cache.get().secret == f"{os.getpid()} 3"

    with cache._lock:
        in_a_child(fetches)
    provider.hangs.set()
    until(lambda: cache.get().secret == f"{os.getpid()} 2")
    cache.rest()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_renews_ahead_of_time_by_itself(provider: Slow) -> None:
    """Its timer knows of nothing until the cache is first used."""
    provider.life = 4.0
    cache = Credentials(as_provider(provider), name="orders")
    cache.get()

    def renews() -> bool:
        cache.get()
        return bool(until(lambda: provider.asked == 2, 6.0))

    in_a_child(renews)
    cache.rest()

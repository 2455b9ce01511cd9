"""What stands between the connects of a pool and its provider of credentials.

Any number of connects need one fetch. Each fetch runs in a short-lived thread of
its own: whoever waits for it gives up in time, and a provider that hangs costs a
thread and not the pool. What was fetched is renewed before it expires, and kept
while the provider is down.

Who had to wait gets a copy of what was fetched, everyone after that the kept
object itself. So `Credentials.refused` can tell a credential that was fetched for
the very connect that was refused from one that may have been outdated.
"""

import functools
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pgdbpool import forks, greenlets
from pgdbpool.auth.alarm import Alarm
from pgdbpool.auth.flight import Flight
from pgdbpool.auth.provider import Credential, told
from pgdbpool.errors import CredentialError
from pgdbpool.watchdog import Watchdog, watchdog

logger = logging.getLogger(__name__)

# The share of what is left of its life after which a credential is renewed.
RENEWED_AFTER: Final = (0.7, 0.8)
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
# Of fetches that hang; one of them has to end before the provider is asked again.
MOST_UNDER_WAY: Final = 4
# How long a connect waits for one, seconds.
SLOWEST_PROVIDER: Final = 30.0


def _in_a_thread(run: Callable[[], None]) -> None:
    greenlets.start(run)


def _unchanging() -> None:
    """Be the version of a provider that has none."""


class Credentials:
    """The credential of a pool, fetched as seldom as possible.

    All methods may be called from any thread.

    Args:
        fetch: asks the provider; may block. Its method ``version``, if it has one,
            tells by another value that there is something new.
        name: the pool's, for the log.
        clock: wall clock, seconds since the epoch, by which credentials expire.
        timer: wakes this up to renew them, by its own clock, which is monotonic.
        limit: how long to wait for the provider, seconds; None: for ever.
        start: runs a function in a thread of its own.
    """

    def __init__(
        self,
        fetch: Callable[[], Credential],
        *,
        name: str,
        clock: Callable[[], float] = time.time,
        timer: Watchdog = watchdog,
        limit: float | None = SLOWEST_PROVIDER,
        start: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        self.name = name
        self._fetch = fetch
        self._version: Callable[[], object] = getattr(fetch, "version", _unchanging)
        self._clock = clock
        self._timer = timer
        self._limit = limit
        self._start = start
        # With whether the first fetch is told too.
        self._callbacks: list[tuple[Callable[[], object], bool]] = []
        self._alarm = Alarm(timer, self._ring)
        # The lock guards these and those of `forget`; some are read without it.
        self._kept: Credential | None = None
        self._seen: object = None  # the provider's version when it was last asked
        self._last: Flight | None = None  # the one that landed last
        self._failures = 0  # in a row
        self._ended_at = 0.0  # the last fetch
        self._refusals = 0  # of what had just been fetched, in a row
        self._refused_at = 0.0
        self.forget()
        _all.add(self)

    def __repr__(self) -> str:
        """Return whose it is, for how long, and whether it can be renewed."""
        failing = f", {self._failures} fetches failed" if self._failures else ""
        return f"<Credentials of pool {self.name!r}: {self._describe()}{failing}>"

    def forget(self) -> None:
        """Begin anew in a forked child, which keeps what was fetched."""
        self._lock = threading.Lock()
        self._flight: Flight | None = None
        self._under_way = 0
        self._alarm.forget()

    def on_change(
        self, callback: Callable[[], object], *, also_first: bool = False
    ) -> None:
        """Have a function called whenever what was fetched is another login.

        After the first fetch only if asked for. It is called with no lock held, before
        those go on who wait for that fetch, and must not block.
        """
        self._callbacks.append((callback, also_first))

    @property
    def kept(self) -> Credential | None:
        """What was fetched last, unless it has expired."""
        kept = self._kept
        return None if kept is None or kept.has_expired(self._clock()) else kept

    def get(self) -> Credential:
        """Return a credential that has not expired.

        Blocks until it is fetched, if there is none or the provider has a new
        version; not while one that is still good is being renewed.

        Raises:
            CredentialError: there is none, and the provider fails or is silent.
        """
        self._alarm.is_resting = False
        last = self._last
        version = self._version_now()
        is_news = version != self._seen  # before `_kept`, which is written first
        kept = self._kept
        if kept is None or kept.has_expired(self._clock()):
            flight, _ = self._join(last)
            return replace(self._wait(flight))
        if not is_news:
            if not self._alarm.is_set:
                self._alarm.set(self._pause_before_renewal(kept))
            return kept
        try:
            return replace(self._renew(last, lambda _: version == self._seen))
        except CredentialError:  # it was logged, and will be tried again
            return kept

    def refused(self, credential: Credential) -> Credential | None:
        """Return what to try after a server has refused a login.

        Fetches anew if what was refused had been kept from an earlier fetch, and
        blocks then. To be told of every refusal, also of what this returned: it
        means that fetching at once is of no use, so the next refusals wait longer.

        Args:
            credential: as `get` or this returned it.

        Returns:
            None when there is nothing newer: it was fetched for this very connect,
            or the provider has no other, or it fails, which is logged.
        """
        last = self._last
        kept = self._kept
        if kept is not None and not kept.is_same_login(credential):
            return replace(kept)  # somebody else was quicker
        if credential is not kept:
            self._note_refusal()
            return None
        if self._timer.clock() < self._ended_at + self._patience():
            return None
        try:
            new = self._renew(last, lambda new: not new.is_same_login(credential))
        except CredentialError:
            return None
        if new.is_same_login(credential):
            self._note_refusal()
            return None
        return replace(new)

    def renew(self) -> None:
        """Fetch anew, whatever there is. Blocks.

        Raises:
            CredentialError: the provider fails or is silent; what there is is kept.
        """
        self._renew(self._last, lambda _: False)

    def rest(self) -> None:
        """Renew nothing ahead of time until `get` is called: the pool is closed."""
        self._alarm.rest()

    # Fetching.

    def _renew(
        self, last: Flight | None, is_enough: Callable[[Credential], bool]
    ) -> Credential:
        """Fetch; once more if another's fetch, begun before, was not enough."""
        flight, is_mine = self._join(last)
        credential = self._wait(flight)
        if is_mine or is_enough(credential):
            return credential
        flight, _ = self._join(flight)
        return self._wait(flight)

    def _wait(self, flight: Flight) -> Credential:
        return flight.wait(self._timer.clock(), self._limit)

    def _join(self, last: Flight | None) -> tuple[Flight, bool]:
        """Return a fetch that lands, or has landed, after another one did.

        Where no thread can be had it is over when this returns.

        Args:
            last: what had landed when the caller looked at what is kept.

        Returns:
            Whether it was begun for this as well.
        """
        flight, is_mine = self._planned(last)
        if is_mine:
            try:
                self._start(functools.partial(self._fly, flight))
            except RuntimeError:  # the process can have no more threads
                self._fly(flight)
            except BaseException as error:
                self._fail(flight, error)
                raise
        return flight, is_mine

    def _planned(self, last: Flight | None) -> tuple[Flight, bool]:
        now = self._timer.clock()
        with self._lock:
            if self._last is not None and self._last is not last:
                return self._last, False  # somebody was quicker
            flight = self._flight
            if flight is not None and not self._may_replace_locked(flight, now):
                return flight, False
            flight = self._flight = Flight(now)
            self._under_way += 1
        return flight, True

    def _may_replace_locked(self, flight: Flight, now: float) -> bool:
        if self._limit is None or now < flight.begun_at + self._limit:
            return False
        return self._under_way < MOST_UNDER_WAY

    def _fly(self, flight: Flight) -> None:
        """Fetch; the body of a short-lived thread."""
        try:
            flight.version = self._version_now()
            flight.bring(self._fetch())
        except BaseException as error:  # noqa: BLE001 - who waits is told
            self._fail(flight, error)
        else:
            self._succeed(flight)

    def _succeed(self, flight: Flight) -> None:
        try:
            self._keep(flight)
        finally:
            flight.land()

    def _fail(self, flight: Flight, error: BaseException) -> None:
        try:
            flight.fail(error)
            self._keep_old(flight)
        finally:
            flight.land()

    def _keep(self, flight: Flight) -> None:
        """Keep what was fetched, and tell who is to know."""
        credential = flight.credential
        assert credential is not None  # noqa: S101 - it was brought
        now, wall = self._timer.clock(), self._clock()
        with self._lock:
            before, failures = self._kept, self._failures
            is_late = not self._is_over_locked(flight, now)
            if is_late and before is not None and not before.has_expired(wall):
                return
            self._last = flight
            self._failures = 0
            if credential != before:  # else the object stays: `refused` looks at it
                self._kept = credential
            self._seen = flight.version
        self._alarm.set(self._pause_before_renewal(credential))
        if failures:
            logger.info(
                "pool %r: the password provider answers again, after %d tries",
                self.name,
                failures,
            )
        if before is None or not before.is_same_login(credential):
            logger.info("pool %r: new credential, %s", self.name, self._describe())
            self._tell(is_first=before is None)

    def _keep_old(self, flight: Flight) -> None:
        """Make do with what there is; try again if that is anything."""
        with self._lock:
            if not self._is_over_locked(flight, self._timer.clock()):
                return
            self._seen = flight.version
            self._failures += 1
            failures, kept = self._failures, self._kept
        if kept is not None:  # else the pool's next connect asks again
            self._alarm.set(_pause(failures) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        logger.log(
            logging.WARNING if failures == 1 else logging.DEBUG,
            "pool %r: %s; kept: %s",
            self.name,
            flight.error,
            self._describe(),
        )

    def _is_over_locked(self, flight: Flight, now: float) -> bool:
        """Take note that a fetch is over; False: it was replaced by another."""
        self._under_way -= 1
        if flight is not self._flight:
            return False
        self._flight = None
        self._last = flight
        self._ended_at = now
        return True

    def _tell(self, *, is_first: bool) -> None:
        for callback, also_first in tuple(self._callbacks):
            if is_first and not also_first:
                continue
            try:
                callback()
            except Exception:
                logger.exception("pool %r: on_change failed", self.name)

    def _version_now(self) -> object:
        """Return the provider's version; when it cannot tell, the last one."""
        try:
            return self._version()
        except Exception as error:  # noqa: BLE001 - a user's; then there is no news
            logger.debug("pool %r: no version: %s", self.name, told(error))
            return self._seen

    # Refusals.

    def _note_refusal(self) -> None:
        now = self._timer.clock()
        with self._lock:
            if now > self._refused_at + 2 * LONGEST_PAUSE:
                self._refusals = 0  # that was another story
            self._refusals += 1
            self._refused_at = now

    def _patience(self) -> float:
        """Return how long after a fetch no refusal is a reason for another."""
        number = max(self._refusals, self._failures)
        return _pause(number) if number else 0.0

    # Renewal ahead of time.

    def _pause_before_renewal(self, credential: Credential) -> float | None:
        if credential.expires_at is None:
            return None
        left = credential.expires_at - self._clock()
        return max(left * random.uniform(*RENEWED_AFTER), FIRST_PAUSE)  # noqa: S311 - jitter

    def _ring(self) -> None:
        """Renew what is kept; on the timer thread, so without I/O."""
        flight, is_mine = self._planned(self._last)
        if is_mine:
            try:
                self._start(functools.partial(self._fly, flight))
            except RuntimeError as error:  # the process can have no more threads
                self._fail(flight, error)

    def _describe(self) -> str:
        kept = self._kept
        if kept is None:
            return "nothing"
        whose = "" if kept.user is None else f"of {kept.user!r}, "
        if kept.expires_at is None:
            return f"{whose}without an end"
        left = kept.expires_at - self._clock()
        return whose + (f"for {left:.0f} s" if left > 0 else "expired")


def _pause(number: int) -> float:
    """Return how long to wait after so many failures in a row."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(number - 1, 10))


_all: "weakref.WeakSet[Credentials]" = weakref.WeakSet()


def _forget_all() -> None:
    for credentials in tuple(_all):
        credentials.forget()


forks.in_child(_forget_all)

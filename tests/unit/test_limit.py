"""`SharedLimit` between pools that a test plays."""

import gc
import math
import threading
import weakref
from collections.abc import Callable

import pytest

from pgdbpool import SettingsError, SharedLimit
from pgdbpool.limit import Permit, Reference


class Played:
    """A pool of a test: opens when told to, idle since when the test says.

    Attributes:
        permits: what it has.
        idle: since when each that is idle is so, the oldest first.
        wishes: since when who waits has waited, one each.
        is_busy: whether this thread is in the middle of its work.
    """

    def __init__(self, limit: SharedLimit) -> None:
        self._limit = limit
        self.me: Reference = weakref.ref(self)
        self.permits: list[Permit] = []
        self.idle: list[float] = []
        self.wishes: list[float] = []
        self.is_busy = False
        self.closing: Callable[[Permit], None] = self.see_off
        limit.join(self, is_threaded=True)

    def open(self) -> bool:
        """Open one that nobody needs."""
        permit = self._limit.take(self.me, None)
        if permit is not None:
            self.permits.append(permit)
        return permit is not None

    def wish(self, since: float) -> None:
        """Need one more."""
        self.wishes.append(since)
        self.use_room(since)
        self._limit.settle()

    def use_room(self, _since: float) -> None:
        """Open for who waits."""
        while self.wishes:
            permit = self._limit.take(self.me, self.wishes[0])
            if permit is None:
                return
            del self.wishes[0]
            self.permits.append(permit)

    def idle_since(self) -> float:
        """Return the oldest's."""
        return self.idle[0] if self.idle else math.inf

    def make_room(self) -> None:
        """Close that."""
        if self.idle:
            del self.idle[0]
            permit = self.permits.pop(0)
            permit.vacate_soon()
            self.closing(permit)

    def see_off(self, permit: Permit) -> None:
        """Let the server have seen it go."""
        permit.leave()
        self._limit.settle()

    def is_at_work(self) -> bool:
        """Tell what the test said."""
        return self.is_busy


@pytest.fixture
def limit() -> SharedLimit:
    """Give a limit of two."""
    return SharedLimit(2)


@pytest.fixture
def one(limit: SharedLimit) -> Played:
    """Give a pool."""
    return Played(limit)


@pytest.fixture
def other(limit: SharedLimit) -> Played:
    """Give another one."""
    return Played(limit)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2", None])
def test_a_limit_is_a_number_from_one_on(size: object) -> None:
    """And the error says whose it is."""
    with pytest.raises(SettingsError, match="SharedLimit: must be"):
        SharedLimit(size)  # type: ignore[arg-type]


def test_places_are_counted(limit: SharedLimit, one: Played, other: Played) -> None:
    """Those of all pools together; one that is left twice once."""
    assert one.open()
    assert other.open()
    assert not one.open()
    assert repr(limit) == "<SharedLimit 2 of 2>"

    permit = other.permits.pop()
    permit.leave()
    permit.leave()

    assert limit.size == 1
    assert one.open()
    assert not other.open()


def test_a_place_goes_with_its_owner(limit: SharedLimit, one: Played) -> None:
    """Whatever became of the pool."""
    assert one.open()
    one.permits.clear()
    gc.collect()

    assert limit.size == 0


def test_what_has_been_idle_for_longest_makes_room(one: Played, other: Played) -> None:
    """Whosever it is."""
    assert one.open()
    assert other.open()
    one.idle, other.idle = [20.0], [10.0]

    one.wish(30.0)

    assert (len(one.permits), len(other.permits)) == (2, 0)
    assert one.idle == [20.0]


def test_who_finds_nothing_idle_is_served_by_the_next_that_is(
    limit: SharedLimit, one: Played, other: Played
) -> None:
    """And until then it is known that somebody waits."""
    assert one.open()
    assert one.open()
    other.wish(5.0)
    assert limit.is_owed_since(one.me) == 5.0
    assert limit.is_owed_since(other.me) == math.inf
    assert limit.is_wanted_by(other.me)
    assert not limit.is_wanted_by(one.me)

    one.idle = [6.0]
    limit.settle()

    assert (len(one.permits), len(other.permits)) == (1, 1)
    assert not limit.is_wanted()


def test_who_asked_first_is_served_first(limit: SharedLimit, one: Played) -> None:
    """Not who wished for a permit first; and nobody slips in between."""
    assert one.open()
    assert one.open()
    late, early = Played(limit), Played(limit)
    late.wish(9.0)
    early.wish(8.0)

    one.permits.pop().leave()
    assert not one.open()
    one.wish(10.0)
    assert (len(early.permits), len(late.permits), len(one.permits)) == (1, 0, 1)

    one.permits.pop().leave()
    limit.settle()
    assert (len(early.permits), len(late.permits), len(one.permits)) == (1, 1, 0)


def test_what_is_being_closed_is_not_made_room_for_twice(
    limit: SharedLimit, one: Played, other: Played
) -> None:
    """Its permit comes free when its server knows."""
    going: list[Permit] = []
    one.closing = going.append
    assert one.open()
    assert one.open()
    one.idle = [1.0, 2.0]

    other.wish(3.0)
    limit.settle()
    assert (len(going), len(one.permits), len(other.permits)) == (1, 1, 0)

    one.see_off(going[0])
    assert (len(one.permits), len(other.permits)) == (1, 1)


def test_each_who_wants_one_has_room_made_for_it(
    limit: SharedLimit, one: Played
) -> None:
    """Two of them, two."""
    going: list[Permit] = []
    one.closing = going.append
    assert one.open()
    assert one.open()
    one.idle = [1.0, 2.0]

    Played(limit).wish(3.0)
    second = Played(limit)
    second.wish(4.0)

    assert len(going) == 2


def test_who_wants_no_more_is_not_served(
    limit: SharedLimit, one: Played, other: Played
) -> None:
    """Its callers have gone."""
    assert one.open()
    assert one.open()
    other.wish(1.0)
    limit.forgo(other.me)
    one.idle = [2.0]
    limit.settle()

    assert len(one.permits) == 2
    assert not other.permits


def test_a_pool_that_is_gone_wants_nothing(limit: SharedLimit, one: Played) -> None:
    """Its wish does not stand in the way of others."""
    assert one.open()
    assert one.open()
    limit.take(lambda: None, 1.0)
    one.permits.pop().leave()
    limit.settle()

    assert one.open()


def test_a_finalizer_in_the_middle_of_a_pools_work_leaves_it_to_a_thread(
    one: Played, other: Played
) -> None:
    """For that pool is not in order at that moment."""
    assert one.open()
    assert one.open()
    one.idle, one.is_busy = [1.0], True
    threads: list[int] = []
    is_done = threading.Event()

    def close(permit: Permit) -> None:
        threads.append(threading.get_ident())
        one.see_off(permit)
        is_done.set()

    def is_at_work() -> bool:
        return threading.get_ident() == me

    me = threading.get_ident()
    one.closing = close
    one.is_at_work = is_at_work  # type: ignore[method-assign]
    other.wish(2.0)

    assert is_done.wait(10.0)
    assert threads[0] != me
    assert len(other.permits) == 1


def test_an_exception_in_the_middle_of_it_stops_nobody_else(
    limit: SharedLimit, one: Played, other: Played
) -> None:
    """The next who comes by goes on."""
    assert one.open()
    assert one.open()
    one.idle = [1.0]

    def interrupted(_: Permit) -> None:
        raise KeyboardInterrupt

    one.closing = interrupted
    with pytest.raises(KeyboardInterrupt):
        other.wish(2.0)
    one.closing = one.see_off
    one.permits.pop().leave()
    limit.settle()

    assert len(other.permits) == 1


def test_a_forked_child_begins_anew(limit: SharedLimit, one: Played) -> None:
    """What the parent has open is no permit of its."""
    assert one.open()
    assert one.open()
    limit.forget()
    one.permits.pop().leave()

    assert limit.size == 0
    assert not limit.is_wanted()

"""Exceptions from outside: KeyboardInterrupt, SystemExit, at any point at all."""

import contextlib
import ctypes
import functools
import gc
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool, NestedCheckout, PooledConnection
from pgdbpool.settings import SettingsDict
from tests.chaos import scripting
from tests.chaos.interrupting import interrupt
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

# So many in a row without a point: the call has no more.
MISSES = 3


@pytest.fixture
def make_pool(dsn: str) -> Iterator[Callable[[int], ConnectionPool]]:
    """Give what makes pools of a size whose failed connects are soon forgotten."""
    pools: list[ConnectionPool] = []

    def make(size: int) -> ConnectionPool:
        pool = ConnectionPool(dsn, max_size=size, timeout=2.0)
        # Else each connect that was lost would take six seconds to be noticed.
        pool._roster.endpoints[0].connect_limit = 0.2
        pool.wait()
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(0.1)


def in_a_block(pool: ConnectionPool) -> None:
    """Make one transaction."""
    with pool.connection() as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")


def by_hand(pool: ConnectionPool) -> None:
    """Make one transaction and put the connection back."""
    conn = pool.getconn()
    try:
        conn.cursor().execute("SELECT 1")
    finally:
        pool.putconn(conn)


def with_an_error(pool: ConnectionPool) -> None:
    """Make a transaction that fails."""
    try:
        with pool.connection() as conn:
            conn.cursor().execute("SELECT 1 / 0")
    except psycopg2.errors.DivisionByZero:
        pass


def with_a_connect(pool: ConnectionPool) -> None:
    """Make one transaction on a new connection."""
    pool.drain()
    in_a_block(pool)


def in_the_line(pool: ConnectionPool) -> None:
    """Make one transaction after having waited for a release."""
    held = [pool.getconn() for _ in range(pool.max_size)]
    timer = threading.Timer(0.002, lambda: [pool.putconn(held.pop()) for _ in held[:]])
    timer.start()
    try:
        in_a_block(pool)
    finally:
        timer.join()


def in_a_check(pool: ConnectionPool) -> None:
    """Ping what is idle."""
    pool.check()


WORK = [in_a_block, by_hand, with_an_error, with_a_connect, in_the_line, in_a_check]


def fails_to_serve(pool: ConnectionPool) -> str:
    """Return the error that the next borrower gets, empty if none."""
    try:
        in_a_block(pool)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__name__}: {error}"
    return ""


def is_whole(pool: ConnectionPool) -> bool:
    """Return whether all connections can be held, after upkeep; else collect."""
    pool._keep_up()
    if can_be_held(pool):
        return True
    gc.collect()
    return False


def can_be_held(pool: ConnectionPool) -> bool:
    """Return whether all connections can be held."""
    if pool.get_stats()["requests_waiting"]:
        return False
    held: list[PooledConnection] = []
    try:
        held.extend(pool.getconn(0.5) for _ in range(pool.max_size))
    except Exception:  # noqa: BLE001 - it is not, for whatever reason
        return False
    finally:
        for conn in held:
            pool.putconn(conn)
    return True


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_an_interrupt_at_any_bytecode_costs_no_capacity(
    make_pool: Callable[[int], ConnectionPool], work: Callable[[ConnectionPool], None]
) -> None:
    """Row 30: the next borrower is served; collection and upkeep mend the rest."""
    pool = make_pool(2)
    found: list[str] = []
    struck, missed = 0, 0
    for n in itertools.count(1):
        place = interrupt(functools.partial(work, pool), n)
        struck, missed = struck + bool(place), 0 if place else missed + 1
        if missed == MISSES or len(found) == 10:
            break
        error = fails_to_serve(pool)
        if error or not mends(pool):
            found.append(f"{place}: {error or pool!r}")
            pool = make_pool(2)
    assert not found
    assert struck > 20
    assert_at_rest(pool)


def mends(pool: ConnectionPool) -> bool:
    """Return whether the pool becomes whole soon."""
    try:
        until(lambda: is_whole(pool), 2.0)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("work", WORK[:3], ids=lambda work: work.__name__)
def test_an_interrupted_hold_is_never_taken_for_a_nested_one(
    make_pool: Callable[[int], ConnectionPool], work: Callable[[ConnectionPool], None]
) -> None:
    """Row 30: who was interrupted and begins anew does not wait for himself."""
    pool = make_pool(1)
    found: list[str] = []
    missed = 0
    for n in itertools.count(1):
        place = interrupt(functools.partial(work, pool), n)
        missed = 0 if place else missed + 1
        if missed == MISSES or len(found) == 10:
            break
        try:
            with pool.connection(0.2):
                pass
        except NestedCheckout:
            found.append(place)
        except Exception:  # noqa: BLE001 - the promise of another test
            pool = make_pool(1)
    assert not found


def hold_alone(pool: ConnectionPool, errors: list[str]) -> None:
    """Make a transaction; complain if the connection is somebody else's as well."""
    with pool.connection() as conn, conn.cursor() as cur:
        me = object()
        if vars(conn).setdefault("owner", me) is not me:
            errors.append("two holders")
        cur.execute("SELECT pg_backend_pid()")
        if cur.fetchone() != (conn.info.backend_pid,):
            errors.append("the answer of another query")
        if vars(conn).pop("owner", None) is not me:
            errors.append("two holders")


class Targets:
    """Threads that make transactions while exceptions strike them."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.errors: list[str] = []
        self.counts: Counter[str] = Counter()
        self.threads: list[threading.Thread] = []
        self._pool = pool
        self._over = threading.Event()

    def be(self, count: int) -> None:
        """Have so many threads alive: one that is struck here or there may end."""
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        while len(self.threads) < count:
            self.threads.append(threading.Thread(target=self._survive))
            self.threads[-1].start()

    def end(self) -> None:
        """End all of them."""
        self._over.set()
        for thread in self.threads:
            thread.join(25.0)

    def _survive(self) -> None:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            while not self._over.is_set():
                self._work()

    def _work(self) -> None:
        try:
            while not self._over.is_set():
                hold_alone(self._pool, self.errors)
                self.counts["held"] += 1
        except (KeyboardInterrupt, SystemExit):
            self.counts["struck"] += 1
        except Exception as error:  # noqa: BLE001 - told at the end
            self.errors.append(repr(error))


# One may strike in a finalizer, whose exceptions have nobody to go to.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_thousands_of_asynchronous_exceptions_harm_nobody(
    dsn: str, admin: connection, application_name: str
) -> None:
    """Row 30: no borrower errs, none shares, and all capacity comes back."""
    seed = random.randrange(10**9)
    rng = random.Random(seed)
    with ConnectionPool(dsn, min_size=4, max_size=4, timeout=4.0) as pool:
        pool._roster.endpoints[0].connect_limit = 1.0
        pool.wait()
        targets = Targets(pool)
        deadline = time.monotonic() + 3.0
        while targets.counts["struck"] < 1500 and time.monotonic() < deadline:
            targets.be(6)
            victim = rng.choice(targets.threads)
            strike(victim, rng.choice((KeyboardInterrupt, SystemExit)))
            time.sleep(rng.random() * 0.002)
        targets.end()
        assert not targets.errors, f"seed {seed}"
        assert targets.counts["struck"] > 200
        assert targets.counts["held"] > 200
        until(lambda: is_whole(pool), 5.0, f"the pool is whole again (seed {seed})")
        assert_at_rest(pool)
        size = pool.get_stats()["pool_size"]
        until(lambda: len(backends(admin, application_name)) == size, 5.0)


def strike(thread: threading.Thread, kind: type[BaseException]) -> None:
    """Raise an exception in another thread, at its next bytecode that allows it."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind)
    )


SIGNALS = """
import gc, json, logging, random, signal, sys, threading, time
from pgdbpool import ConnectionPool
from tests.chaos.test_interrupted import hold_alone, is_whole
from tests.soundness import assert_at_rest
from tests.waiting import until

pool = ConnectionPool(sys.argv[1], min_size=3, max_size=3, timeout=4.0)
pool._roster.endpoints[0].connect_limit = 1.0
pool.wait()
errors, over, struck, held = [], threading.Event(), 0, [0, 0]
is_armed = False

def handle(*_):
    if is_armed:
        raise random.choice((KeyboardInterrupt, SystemExit))

def work(i):
    while not over.is_set():
        try:
            hold_alone(pool, errors)
            held[i] += 1
        except Exception as error:
            errors.append(repr(error))

logging.disable(logging.WARNING)  # of connections that were lost
sys.unraisablehook = lambda _: None  # a handler may raise in a finalizer
signal.signal(signal.SIGALRM, handle)
threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
for thread in threads:
    thread.start()
deadline = time.monotonic() + 2.5
while struck < 1000 and time.monotonic() < deadline and not errors:
    try:
        is_armed = True
        signal.setitimer(signal.ITIMER_REAL, random.random() * 0.004 + 1e-6)
        while True:
            hold_alone(pool, errors)
    except (KeyboardInterrupt, SystemExit):
        struck += 1
    except Exception as error:
        errors.append(repr(error))
    is_armed = False
signal.setitimer(signal.ITIMER_REAL, 0)
over.set()
for thread in threads:
    thread.join(25.0)
if not errors:
    until(lambda: is_whole(pool), 5.0, "the pool is whole again")
    assert_at_rest(pool)
print(json.dumps({"struck": struck, "held": min(held), "errors": errors[:5]}))
"""


def test_signals_in_the_main_thread_harm_nobody(dsn: str) -> None:
    """Row 30: as above, with real handlers that raise, beside threads that work."""
    done = scripting.run(SIGNALS, dsn, timeout=50.0)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["errors"] == []
    assert found["struck"] > 50
    assert found["held"] > 20


WAITING = """
import signal, sys, threading, time
from pgdbpool import ConnectionPool
from tests.soundness import assert_at_rest

def handle(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, handle)
pool = ConnectionPool(sys.argv[1], max_size=1, timeout=None)
conn = pool.getconn()
calls = {
    "getconn without a limit": pool.getconn,
    "getconn": lambda: pool.getconn(20.0),
    "connection": lambda: pool.connection(20.0).__enter__(),
}
for name, call in calls.items():
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        call()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError(name)
    assert time.monotonic() - began < 2.0, name
    assert pool.get_stats()["requests_waiting"] == 0, name
pool.putconn(conn)
with pool.connection() as conn:
    conn.cursor().execute("SELECT 1")
assert_at_rest(pool)

holds, may_go = threading.Event(), threading.Event()
def hold():
    with pool.connection():
        holds.set()
        may_go.wait(10.0)
holder = threading.Thread(target=hold)
holder.start()
holds.wait(5.0)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    pool.close(20.0)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("close")
assert pool.closed
may_go.set()
holder.join()
assert_at_rest(pool)
assert not pool._roster.watchers
"""


def test_a_signal_ends_every_wait(dsn: str) -> None:
    """Row 30: in the line, with and without a limit, and in close(); none stays."""
    done = scripting.run(WAITING, dsn)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("hook", ["check", "reset"])
def test_a_hook_that_is_interrupted_costs_nobody_else_anything(
    dsn: str, hook: str, kind: type[BaseException]
) -> None:
    """Row 30: the caller gets the exception; the waiter behind is served at once."""
    strikes = iter([False, True])
    is_waiting = threading.Event()

    def strike_at_second(_: PooledConnection) -> None:
        if next(strikes, False):
            is_waiting.wait(5.0)
            raise kind

    settings: SettingsDict = {hook: strike_at_second}  # type: ignore[misc]
    pool = ConnectionPool(dsn, max_size=1, timeout=2.0, **settings)
    with pool, ThreadPoolExecutor(2) as executor:
        in_a_block(pool)
        struck = executor.submit(in_a_block, pool)
        until(lambda: pool.get_stats()["requests_num"] == 2)
        waiter = executor.submit(fails_to_serve, pool)
        until(lambda: pool.get_stats()["requests_waiting"] == 1)
        is_waiting.set()
        with pytest.raises(kind):
            struck.result(5.0)
        assert waiter.result(10.0) == ""
        assert_at_rest(pool)


def test_a_configure_hook_that_is_interrupted_fails_its_connect(dsn: str) -> None:
    """Row 30: SystemExit in a thread of the pool ends one connect, no more."""
    strikes = iter([True])

    def configure(_: PooledConnection) -> None:
        if next(strikes, False):
            raise SystemExit

    with ConnectionPool(dsn, timeout=5.0, configure=configure) as pool:
        until(lambda: not fails_to_serve(pool))
        assert pool.get_stats()["connections_errors"] == 1
        assert_at_rest(pool)

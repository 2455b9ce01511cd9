"""Exceptions from outside by the thousand: asynchronous ones, and real signals."""

import contextlib
import ctypes
import json
import random
import threading
import time
from collections import Counter

import pytest
from psycopg2.extensions import connection

from pgdbpool import ConnectionPool
from tests import scripting
from tests.chaos.holders import hold_alone, is_whole
from tests.observer import backends
from tests.soundness import assert_at_rest
from tests.waiting import until

# An exception that arrives while coverage traces can send CPython 3.11 round in
# circles at one instruction, for ever and with the GIL.
pytestmark = pytest.mark.no_cover


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

    @property
    def have_had_enough(self) -> bool:
        """Whether it stormed: they were struck, and held connections, often."""
        return self.counts["struck"] >= 500 and self.counts["held"] >= 300

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
    """Row 30: no holder errs, none shares, and all capacity comes back."""
    seed = random.randrange(10**9)
    rng = random.Random(seed)
    with ConnectionPool(dsn, min_size=4, max_size=4, timeout=4.0) as pool:
        pool._roster.endpoints[0].connect_limit = 1.0
        pool.wait()
        targets = Targets(pool)
        deadline = time.monotonic() + 30.0
        while not targets.have_had_enough and time.monotonic() < deadline:
            targets.be(6)
            victim = rng.choice(targets.threads)
            strike(victim, rng.choice((KeyboardInterrupt, SystemExit)))
            time.sleep(rng.random() * 0.002)
        targets.end()
        assert not targets.errors, f"seed {seed}"
        assert targets.have_had_enough, targets.counts
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
from tests.chaos.holders import hold_alone, is_whole
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
deadline = time.monotonic() + 25.0
while (struck < 300 or min(held) < 100) and time.monotonic() < deadline and not errors:
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
    done = scripting.run(SIGNALS, dsn, timeout=50.0, is_measured=False)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["errors"] == []
    assert found["struck"] >= 300
    assert found["held"] >= 100


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
    done = scripting.run(WAITING, dsn, is_measured=False)
    assert done.stderr == ""
    assert done.returncode == 0

"""What a worker tells the reaper, when, and when not again."""

import gc
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pgdbpool import ConnectionPool
from pgdbpool.auth.provider import Credential
from pgdbpool.endpoint.host import Presence
from pgdbpool.endpoint.standing import Finding, Role
from pgdbpool.gunicorn.introduction import Introduction
from pgdbpool.gunicorn.pipe import ReaperPipe

MANY = 500
log = logging.getLogger("gunicorn.error")


class Reaper:
    """The other end of a pipe, with what has come."""

    def __init__(self) -> None:
        self.pipe = ReaperPipe()
        self._source, self.pipe._fd = os.pipe()
        for fd in (self._source, self.pipe._fd):
            os.set_blocking(fd, False)
        self.introduction = Introduction(self.pipe, "5f0c.1", log)

    def heard(self) -> list[dict[str, Any]]:
        """Return the lines that have come."""
        data = b""
        try:
            while more := os.read(self._source, 65536):
                data += more
        except BlockingIOError:
            pass
        return [json.loads(line) for line in data.splitlines()]

    def close(self) -> None:
        """Hear no more."""
        os.close(self._source)
        self.pipe._close()


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    """Give one without a process."""
    reaper = Reaper()
    yield reaper
    reaper.close()


@pytest.fixture
def made() -> Iterator[Any]:
    """Give what makes pools, which are closed afterwards."""
    with ExitStack() as stack:

        def make(*given: Any, **settings: Any) -> ConnectionPool:  # noqa: ANN401 - a pool's
            pool = ConnectionPool(*given, **settings)
            stack.callback(pool.close)
            return pool

        yield make


def hosts(lines: list[dict[str, Any]], verb: str = "hello") -> list[str]:
    """Return where it works, or what it has left."""
    return [line["target"]["params"]["host"] for line in lines if verb in line]


def addresses(lines: list[dict[str, Any]], verb: str = "hello") -> set[str | None]:
    """Return the same by address, where that is told."""
    return {line["target"]["params"].get("hostaddr") for line in lines if verb in line}


def test_each_server_of_a_pool_is_told_once(reaper: Reaper, made: Any) -> None:  # noqa: ANN401 - as above
    """With the password that is a setting."""
    pool = made("host=a,b dbname=shop", password="word")
    for _ in range(3):
        reaper.introduction.tell_of([pool])
    lines = reaper.heard()
    assert hosts(lines) == ["a", "b"]
    assert {line["hello"] for line in lines} == {"5f0c.1"}
    assert {line["target"]["params"]["password"] for line in lines} == {"word"}


def test_of_many_pools_each_is_told_once(reaper: Reaper, made: Any) -> None:  # noqa: ANN401 - as above
    """Though the pipe does not take all of them at once."""
    tenants = [made(f"host=a user=app dbname=t{n}") for n in range(MANY)]
    for tenant in tenants:
        reaper.introduction.tell_of([tenant])
    lines = reaper.heard()
    assert len(lines) < MANY
    for _ in range(3):
        reaper.introduction.tell_of(tenants)
        lines += reaper.heard()
    names = [line["target"]["params"]["dbname"] for line in lines]
    assert names == [f"t{n}" for n in range(MANY)]


def test_each_login_of_a_provider_is_told(reaper: Reaper, made: Any) -> None:  # noqa: ANN401 - as above
    """From the first on, and no more than that: not what other pools have."""
    words = iter(["first", "second"])

    class Provider:
        def credential(self) -> Credential:
            return Credential(next(words), "app")

    other = made("host=b")
    pool = made("host=a", password=Provider())
    reaper.introduction.tell_of([other, pool])
    assert hosts(reaper.heard()) == ["b"]  # nobody can log in to the other
    (credentials,) = pool._logins()
    for word in ("first", "second"):
        credentials.renew()
        (line,) = reaper.heard()
        assert line["target"]["params"]["password"] == word
        assert line["target"]["params"]["user"] == "app"


def test_what_was_left_is_told(reaper: Reaper, made: Any) -> None:  # noqa: ANN401 - as above
    """A name of two servers is told by addresses, and they move; others stay."""
    pool, other = made("host=db.invalid"), made("host=b")
    reaper.introduction.tell_of([pool, other])
    assert hosts(reaper.heard()) == ["db.invalid", "b"]
    at(pool, "10.0.0.1", "10.0.0.2")
    lines = reaper.heard()
    assert addresses(lines) == {"10.0.0.1", "10.0.0.2"}
    assert addresses(lines, "left") == {None}
    (moving,) = (e for e in pool._roster.endpoints if "10.0.0.2" in e.addresses)
    moving.addresses = frozenset({"10.0.0.3"})
    pool._tell_of_move()
    lines = reaper.heard()
    assert addresses(lines) == {"10.0.0.3"}
    assert addresses(lines, "left") == {"10.0.0.2"}


def test_a_name_with_one_server_is_told_by_itself(reaper: Reaper, made: Any) -> None:  # noqa: ANN401 - as above
    """Where it leads when the worker has gone is the reaper's to find out."""
    pool = made("host=db.invalid")
    reaper.introduction.tell_of([pool])
    reaper.heard()
    at(pool, "10.0.0.1")
    assert reaper.heard() == []
    at(pool, "10.0.0.1", "10.0.0.2")
    assert addresses(reaper.heard()) == {"10.0.0.1", "10.0.0.2"}
    (host,) = {one.host for one in pool._roster.endpoints}
    for _ in range(10):  # one answer alone may leave an address out
        pool._resolved(host, frozenset({"10.0.0.1"}))
    lines = reaper.heard()
    assert addresses(lines) == {None}
    assert addresses(lines, "left") == {"10.0.0.1", "10.0.0.2"}


def test_a_pool_that_nobody_has_any_more_is_left(reaper: Reaper) -> None:
    """But not what another has, too."""
    pools = [ConnectionPool(f"host={host}") for host in ("a", "b", "b")]
    reaper.introduction.tell_of(pools)
    assert hosts(reaper.heard()) == ["a", "b", "b"]
    del pools[:2]
    gc.collect()
    reaper.introduction.tell_of(pools)
    assert hosts(reaper.heard(), "left") == ["a"]
    pools.clear()
    gc.collect()
    reaper.introduction.tell_of([])
    reaper.introduction._renew(weakref.ref(ConnectionPool("host=c")))
    assert hosts(reaper.heard(), "left") == ["b"]


def test_what_is_left_is_kept_until_the_next_is_told(
    reaper: Reaper,
    made: Any,  # noqa: ANN401 - as above
) -> None:
    """An old login is better than none."""
    words = iter([Credential("first", "old"), *[Credential("x" * 9000, "new")] * 2])

    class Provider:
        def credential(self) -> Credential:
            return next(words)

    pool = made("host=a", password=Provider())
    reaper.introduction.tell_of([pool])
    (credentials,) = pool._logins()
    credentials.renew()
    assert hosts(reaper.heard()) == ["a"]
    credentials.renew()
    reaper.introduction.tell_of([pool])
    assert reaper.heard() == []
    words = iter([Credential("second", "new")])
    credentials.renew()
    lines = reaper.heard()
    assert [line["target"]["params"]["user"] for line in lines] == ["new", "old"]
    assert ["left" in line for line in lines] == [False, True]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_the_worker_leaves_nothing(reaper: Reaper, made: Any) -> None:  # noqa: ANN401 - as above
    """The worker itself may be there still, and would not say so again."""
    pool = made("host=db.invalid")
    reaper.introduction.tell_of([pool])
    at(pool, "10.0.0.1", "10.0.0.2")
    reaper.heard()
    pid = os.fork()
    if pid == 0:
        try:
            pool._tell_of_move()  # its endpoints are made anew, without addresses
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    lines = reaper.heard()
    assert hosts(lines) == ["db.invalid"]
    assert hosts(lines, "left") == []


def test_a_pool_that_has_gone_before_its_turn_is_nobodys_trouble(
    reaper: Reaper,
    made: Any,  # noqa: ANN401 - as above
) -> None:
    """Whoever has the turn may take a while."""
    other = made("host=b")
    with reaper.introduction._turn:
        reaper.introduction.tell_of([ConnectionPool("host=a")])
        gc.collect()
    reaper.introduction.tell_of([other])
    other._tell_of_move()
    assert hosts(reaper.heard()) == ["b"]


def at(pool: ConnectionPool, *addresses: str) -> None:
    """Have the name of a pool lead there, each to a server of its own."""
    (host,) = {one.host for one in pool._roster.endpoints}
    assert host is not None
    pool._resolved(host, frozenset(addresses))
    for address in addresses:
        server = Presence(address, Finding(Role.STANDBY))
        pool._visited(pool._roster.endpoints[0], address, server)


def test_what_finds_no_room_is_told_later(
    reaper: Reaper,
    made: Any,  # noqa: ANN401 - as above
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With one warning, however often."""
    pool = made("host=a", password="x" * 10_000)
    for _ in range(3):
        reaper.introduction.tell_of([pool])
    assert reaper.heard() == []
    assert caplog.text.count("the reaper cannot be told of worker 5f0c.1") == 1
    pool = made("host=b")
    pipe, reaper.introduction._pipe = reaper.introduction._pipe, ReaperPipe()
    reaper.introduction.tell_of([pool])
    reaper.introduction._pipe = pipe
    reaper.introduction.tell_of([pool])
    assert hosts(reaper.heard()) == ["b"]


def test_whoever_comes_while_another_tells_does_not_wait(
    reaper: Reaper,
    made: Any,  # noqa: ANN401 - as above
) -> None:
    """Nor does a process that was forked then; the other tells that too."""
    one, other = made("host=a"), made("host=b")
    introduction = reaper.introduction
    with introduction._turn:
        late = threading.Thread(target=introduction.tell_of, args=([one],))
        late.start()
        late.join(10.0)
        assert not late.is_alive()
        assert reaper.heard() == []
    introduction.tell_of([other])
    assert hosts(reaper.heard()) == ["a", "b"]

"""What is started, and what is warned of, where gevent makes greenlets of threads."""

import _thread
import sys
import types
from collections.abc import Callable

import pytest
from psycopg2 import extensions as driver

from pgdbpool import greenlets


class FakeGevent:
    """What `pgdbpool.greenlets` needs of gevent, for one thread.

    Attributes:
        started: what was started, and as what.
        destroyed: how often a hub was destroyed.
    """

    def __init__(self, *, main_hub: bool) -> None:
        self.main_hub = main_hub
        self.started: list[str] = []
        self.destroyed = 0

    def get_hub(self) -> "FakeGevent":
        """Return the hub of this thread: it is one as well."""
        return self

    def destroy(self, *, destroy_loop: bool) -> None:
        """Take note."""
        assert destroy_loop
        self.destroyed += 1

    def get_original(self, module: str, name: str) -> object:
        """Return what starts a thread."""
        assert (module, name) == ("_thread", "start_new_thread")
        return self.starter("thread")

    def starter(self, kind: str) -> Callable[..., int]:
        """Return a function that starts something of a kind: it calls it."""

        def start(function: Callable[..., object], arguments: tuple[object]) -> int:
            self.started.append(kind)
            function(*arguments)
            return 1

        return start


def patch(monkeypatch: pytest.MonkeyPatch, gevent: FakeGevent) -> None:
    """Have threads patched by gevent."""
    starter = gevent.starter("greenlet")
    starter.__module__ = "gevent.thread"
    monkeypatch.setattr(_thread, "start_new_thread", starter)
    monkeypatch.setitem(sys.modules, "gevent", gevent)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent)  # type: ignore[arg-type]


def say_nothing() -> types.FunctionType:
    """Return a wait callback that is psycogreen's."""

    def gevent_wait_callback(conn: object) -> None:
        raise AssertionError(conn)

    gevent_wait_callback.__module__ = "psycogreen.gevent"
    return gevent_wait_callback  # type: ignore[return-value]


@pytest.mark.parametrize(("main_hub", "kind"), [(True, "greenlet"), (False, "thread")])
def test_a_greenlet_is_started_only_where_it_is_sure_to_run(
    monkeypatch: pytest.MonkeyPatch, *, main_hub: bool, kind: str
) -> None:
    """In the main thread; a real thread elsewhere, which leaves no hub behind."""
    gevent = FakeGevent(main_hub=main_hub)
    patch(monkeypatch, gevent)
    done: list[object] = []
    greenlets.start(done.append, "work")
    assert done == ["work"]
    assert gevent.started == [kind]
    assert gevent.destroyed == (kind == "thread")


def test_a_hub_is_left_by_nobody_whatever_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a thread aside raises ends it, as it ends any thread."""
    gevent = FakeGevent(main_hub=False)
    patch(monkeypatch, gevent)
    with pytest.raises(ZeroDivisionError):
        greenlets.start(divmod, 1, 0)
    assert gevent.destroyed == 1


@pytest.mark.parametrize(
    ("is_patched", "is_green", "told"),
    [
        (False, False, None),
        (True, True, None),
        (True, False, greenlets.BLOCKS),
        (False, True, greenlets.HALF_PATCHED),
    ],
)
def test_half_of_gevent_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_patched: bool,
    is_green: bool,
    told: str | None,
) -> None:
    """Patched threads and a driver that cooperates belong together."""
    monkeypatch.setattr(greenlets, "_has_warned", False)
    if is_patched:
        patch(monkeypatch, FakeGevent(main_hub=True))
    callback = say_nothing() if is_green else None
    monkeypatch.setattr(greenlets, "get_wait_callback", lambda: callback)
    log: list[str] = []
    for _ in range(2):
        greenlets.warn(lambda text, what: log.append(text % what))
    assert log == ([] if told is None else [f"pgdbpool: {told}"])


def test_a_wait_callback_of_somebody_else_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the one that psycopg2 has for programs that want to be interrupted."""
    monkeypatch.setattr(greenlets, "get_wait_callback", lambda: driver.parse_dsn)
    assert greenlets.complaint() is None

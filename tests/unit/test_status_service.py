"""The page of a worker that asks the others, some of which are odd."""

import _thread
import json
import math
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pgdbpool import greenlets, peers
from pgdbpool.endpoint import identity
from pgdbpool.pool import ConnectionPool
from pgdbpool.snapshot import Holder, SessionState
from pgdbpool.status import StatusApp
from pgdbpool.status.history import Row
from pgdbpool.status.server import Seen, Session
from pgdbpool.status.service import LONG_HOLD, Service, page_of, state_of
from pgdbpool.status.shown import Pools
from tests import documentation
from tests.unit.test_status_access import ELSEWHERE, LOCAL, ask, bearer

Answer = Callable[[dict[str, Any]], object]
TOKENS = {"a": "token of tenant a", "b": "token of tenant b"}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the directory where the workers of a test meet; this one is there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        place = Path(parent, "meeting")
        monkeypatch.setattr(peers, "_directory", place)
        monkeypatch.setattr(peers, "_answers", {})
        monkeypatch.setattr(identity, "_token", "abc.7")
        place.mkdir(0o700)
        peers.join()
        yield place
        peers.leave()


@contextmanager
def worker(place: Path, answer: Answer, name: str = "1.100") -> Iterator[list[Any]]:
    """Give another worker, which answers; and what it is asked."""
    heard: list[Any] = []

    def serve() -> None:
        while True:
            try:
                caller, _ = sock.accept()
            except OSError:
                return
            with caller:
                heard.append(json.loads(caller.recv(4096)))
                told = {"protocol": peers.PROTOCOL, "answer": answer(heard[-1])}
                caller.sendall(json.dumps(told).encode())

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place / name))
        sock.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()
            (place / name).unlink()


def make_pool(name: str = "shop", **more: Any) -> ConnectionPool:  # noqa: ANN401 - settings
    """Return a pool that never connects."""
    return ConnectionPool("host=nowhere.invalid", open=False, name=name, **more)


@pytest.fixture
def service() -> Iterator[Service]:
    """Give the service of one pool."""
    pool = make_pool()
    service = Service(Pools((pool,)))
    yield service
    service.history.stop()


def figures(app: StatusApp, token: str) -> dict[str, Any]:
    """Return what who has a token sees."""
    found: dict[str, Any] = json.loads(ask(app, **ELSEWHERE, **bearer(token))[2])
    return found


@pytest.mark.parametrize("last", ["a", "b"])
def test_two_pages_of_one_process_show_each_their_own(place: Path, last: str) -> None:
    """Whichever was made last, in this worker and in the others."""
    first = "b" if last == "a" else "a"
    pools = {name: make_pool(f"tenant-{name}") for name in "ab"}
    with ExitStack() as stack:
        theirs = [
            Service(Pools((pools[name],)), StatusApp(token=TOKENS[name])._token.mark)  # type: ignore[union-attr]
            for name in (first, last)
        ]
        peers._answers.clear()

        def answer(question: dict[str, Any]) -> object:
            told = [service.answer(question) for service in theirs]
            return next((one for one in told if one is not None), None)

        stack.enter_context(worker(place, answer))
        apps = {
            name: StatusApp(pools[name], token=TOKENS[name]) for name in (first, last)
        }
        for name, app in apps.items():
            found = figures(app, TOKENS[name])
            shown = [[p["name"] for p in one["pools"]] for one in found["workers"]]
            assert shown == [[f"tenant-{name}"], [f"tenant-{name}"]]
            own = peers._answer({"page": app.service._page, "since": 0, "asks": ""})
            assert isinstance(own, dict)
            assert [pool["name"] for pool in own["pools"]] == [f"tenant-{name}"]
        for service in [*theirs, *(app.service for app in apps.values())]:
            service.history.stop()


def test_a_page_is_known_by_its_pools_and_its_token() -> None:
    """Those of the same names may be of different people."""
    pages = [
        page_of(["a"], ""),
        page_of(["b"], ""),
        page_of(["a", "b"], ""),
        page_of(["a"], "x"),
        page_of(None, ""),
    ]
    assert len(set(pages)) == len(pages)
    assert page_of(Pools((make_pool("b"), make_pool("a"))).names, "") == pages[2]
    assert page_of(Pools(()).names, "") == pages[4]


def row(*values: object) -> dict[str, Any]:
    """Return an answer with a history of one row."""
    return {"pools": [], "history": {"shop": [list(values)]}, "server": []}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        "x",
        5,
        {"pools": [], "history": [], "server": []},
        {"pools": ["x"], "history": {}, "server": []},
        {"pools": [{}], "history": {}, "server": []},
        {"pools": [], "history": {}, "server": [{"pool": "shop"}]},
        {"pools": [], "history": {}, "server": 5},
        row(1, 2, 3),
        row(*["x"] * 12),
        row(*[float("inf")] * 12),
        row(None),
    ],
)
def test_a_worker_that_makes_no_sense_is_silent(
    place: Path, service: Service, answer: object
) -> None:
    """It is of another version, and the page is not the worse for it."""
    with worker(place, lambda _: answer):
        found = service.look()
    other, own = found["workers"]
    assert (other["age"], other["pid"], other["answers"]) == (1, 100, False)
    assert other["pools"] == []
    assert own["serves"]
    json.dumps(found)


def test_the_others_are_asked_for_what_they_have(place: Path, service: Service) -> None:
    """They ask no server for it, but for the one whose turn it is when this one cannot.

    So that the servers are not asked more often for each worker more.
    """
    same = Service(Pools((make_pool(),)))
    asked: list[int] = []
    same.server.look = lambda: asked.append(1) or []  # type: ignore[method-assign,func-returns-value]
    with worker(place, same.answer) as heard:
        service.look()
        assert heard[-1]["asks"] == ""
        # Its pool has nothing idle, and never had.
        service.look()
        assert heard[-1]["asks"] == "1.100"
    assert asked == []
    own = peers.my_name()
    same.answer({"page": same._page, "since": 0, "asks": own})
    assert asked == [1]
    same.history.stop()


def test_the_turn_goes_round(place: Path, service: Service) -> None:
    """One may have nothing idle either; who is silent has no turn."""
    told = {"pools": [], "history": {}, "server": []}
    with (
        worker(place, lambda _: told, "1.100") as heard,
        worker(place, lambda _: told, "2.200"),
        worker(place, lambda _: "x", "3.300"),
    ):
        for _ in range(5):
            service.look()
    turns = [one["asks"] for one in heard]
    assert turns == ["", "1.100", "2.200", "1.100", "2.200"]


def test_what_another_has_seen_is_shown(place: Path, service: Service) -> None:
    """Also when this worker is the one that cannot ask."""
    same = Service(Pools((make_pool(),)))
    same.server._note("shop", "db1", ())
    with worker(place, same.answer):
        (seen,) = service.look()["server"]
    assert isinstance(seen.pop("asked_at"), float)
    assert isinstance(seen.pop("taken_at"), float)
    assert seen == {"pool": "shop", "endpoint": "db1", "sessions": (), "error": None}
    assert set(Seen.__dataclass_fields__) > set(seen)
    same.history.stop()


def test_pools_of_one_thread_are_looked_at_by_that_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread is started for them, and no other worker can ask."""

    def fail(*_: object) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(greenlets, "start", fail)
    monkeypatch.setattr(_thread, "start_new_thread", fail)
    app = StatusApp(make_pool(threaded=False))
    assert ask(app, **LOCAL)[0] == 200
    assert list(place.iterdir()) == []


def test_at_the_limit_of_threads_the_page_is_there(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at then."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(greenlets, "start", fail)
    found = service.look()
    assert [pool["name"] for pool in found["workers"][0]["pools"]] == ["shop"]
    assert found["history"]["pools"] == {}


def test_a_pool_that_was_closed_is_shown_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where all are shown that there are."""
    closed = make_pool("closed")
    monkeypatch.setattr("pgdbpool.status.shown.all_pools", lambda: [closed])
    app = StatusApp()
    assert app.service.look()["workers"][0]["pools"] == []
    assert StatusApp(closed).service.look()["workers"][0]["pools"] != []


def names_in(content: object) -> set[str]:
    """Return the keys of all that is in JSON, but for names that users chose."""
    if isinstance(content, list | tuple):
        return set().union(*map(names_in, content))
    if not isinstance(content, dict):
        return set()
    return set(content).union(*map(names_in, content.values()))


def test_all_that_programs_are_told_is_documented(service: Service) -> None:
    """In the manual, by its name."""
    found = json.loads(json.dumps(service.look()))
    found["workers"][0]["pools"][0]["counts"] = {}
    fields = [*Row._fields, *Session.__dataclass_fields__, *Seen.__dataclass_fields__]
    fields += [*Holder.__dataclass_fields__, *SessionState.__dataclass_fields__]
    manual = (documentation.ROOT / "doc" / "status.md").read_text()
    text = re.sub(r"```.*?```", "", manual, flags=re.DOTALL)
    told = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert (names_in(found) | set(fields)) - {"route"} <= told


@pytest.mark.parametrize(
    ("leak_warn_after", "shown"), [(None, LONG_HOLD), (2.5, 2.5), (math.inf, LONG_HOLD)]
)
def test_a_hold_is_long_by_a_measure_that_json_has(
    leak_warn_after: float | None, shown: float
) -> None:
    """JSON has no infinity: the page could show nothing at all."""
    state = state_of(ConnectionPool(leak_warn_after=leak_warn_after))
    assert state["long_hold"] == shown
    assert json.dumps(state, allow_nan=False)

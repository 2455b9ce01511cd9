"""What is told of a pool takes its lock for as long as it must, without a server."""

import dataclasses
import sys
from typing import Any

import pytest

from pgdbpool import ConnectionPool, snapshot
from pgdbpool.endpoint import entry as entries
from pgdbpool.endpoint.stack import stack_of
from pgdbpool.metrics import figures
from pgdbpool.metrics.tally import Tally
from tests.unit.scripted_roster import FakeConnection, ScriptedRoster

# What makes words of a hold, and what asks its session.
WORDS = [
    (snapshot, "route_in"),
    (snapshot, "thread_name"),
    (snapshot, "outside"),
    (entries, "place_of"),
]
SESSION = 4711, "open"


class Looked:
    """A pool whose only connection is held, while somebody waits.

    Attributes:
        pool: the pool.
        worded: for each word that was made, whether the pool's lock was held.
        asked: for each session that was asked, the same.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pool = ConnectionPool("", name="a", leak_warn_after=5.0, open=False)
        self.pool._roster = roster = ScriptedRoster(max_size=1)
        self.worded: list[bool] = []
        self.asked: list[bool] = []
        holder = roster.acquire("GET /order/1")
        self._session: FakeConnection = roster.connect()
        assert holder.hold is not None
        frame = sys._getframe()
        holder.hold.stack = stack_of(frame, frame.f_code)
        roster.acquire("GET /order/2", thread=1)
        for module, name in WORDS:
            monkeypatch.setattr(module, name, self._wording(getattr(module, name)))
        monkeypatch.setattr(snapshot, "session_of", self._ask)

    def _wording(self, made: Any) -> Any:  # noqa: ANN401 - functions of any kind
        def make(*given: object) -> object:
            self.worded.append(self.pool._is_locked_by_me())
            return made(*given)

        return make

    def _ask(self, _entry: object) -> tuple[int, str]:
        self.asked.append(self.pool._is_locked_by_me())
        return SESSION


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Looked:
    """Give the pool to look at."""
    return Looked(monkeypatch)


def test_who_holds_and_who_waits_is_put_into_words_without_the_lock(
    looked: Looked,
) -> None:
    """All others would wait for it; a stack takes long."""
    seen, (holder,) = looked.pool.snapshot(), looked.pool.holders()
    (session,), (waiting,) = seen.sessions, seen.waiting
    assert len(looked.worded) == 4 + 3 + 4  # holder, waiter, holder
    assert not any(looked.worded)
    assert session.holder is not None
    assert dataclasses.replace(session.holder, seconds=holder.seconds) == holder
    assert (session.state, holder.route) == ("in_use", "GET /order/*")
    assert "test_snapshot.py" in holder.stack[0]
    assert waiting.request == "GET /order/2"


def test_a_session_is_asked_while_the_pool_cannot_close_it(looked: Looked) -> None:
    """For libpq must not be asked of one that is being freed; once is enough."""
    (session,) = looked.pool.snapshot().sessions
    assert looked.asked == [True]
    assert session.holder is not None
    assert (session.backend_pid, session.holder.transaction) == SESSION
    assert session.holder.backend_pid == session.backend_pid


def test_metrics_look_at_no_connection_and_no_waiter(looked: Looked) -> None:
    """They count; each worker does so twice a second."""
    found = figures.read([(looked.pool, Tally())])
    told = {metric: value for metric, labels, value in found if "in_use" in labels}
    assert told == {figures.CONNECTIONS: 1}
    assert (figures.WAITING, ("a",), 1) in found
    assert (looked.worded, looked.asked) == ([], [])
    assert looked.pool.outline().counts == looked.pool.snapshot().counts

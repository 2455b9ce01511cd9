"""The demo's arithmetic, manners and verdict."""

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from werkzeug.test import run_wsgi_app

from pgdbpool.demo.app import tell_unknown_outcome
from pgdbpool.demo.client import (
    MOST_REPEATS,
    Answer,
    Call,
    Ending,
    perform,
    retry_after,
)
from pgdbpool.demo.driver import Seen
from pgdbpool.demo.load import Pace, questions
from pgdbpool.demo.report import Moment, Report
from pgdbpool.demo.tally import Figures, Tally, percentile
from pgdbpool.demo.verdict import judge
from pgdbpool.errors import CommitUnknown
from tests.demo import KEYS

POST = Call("POST", "/orders")
GOOD = Answer(201, {}, b"{}")
BUSY = Answer(503, {"retry-after": "2"}, b"")
UNKNOWN = Answer(500, {"x-outcome": "unknown"}, b"")


class Script:
    """Answers what it was told to, one after the other, and notes the pauses."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.pauses: list[float] = []
        self._answers = list(answers)

    def send(self, _call: Call) -> Answer:
        """Return or raise what comes next."""
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def perform(self, is_right: Callable[[Answer], bool] = bool) -> tuple[Ending, int]:
        """Return how a call ended and how often it was repeated."""
        outcome = perform(POST, self.send, self.pauses.append, is_right)
        assert not self._answers, "every answer was asked for"
        return outcome.ending, outcome.repeats


def seen(**fields: object) -> Seen:
    """Return what a load saw: by default one acknowledged write, "a"."""
    nothing = {"total": Figures(), "acknowledged": ["a"], "unknown": [], "reasons": []}
    return Seen(**(nothing | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (50, 50), (99, 99), (99.1, 100), (100, 100)]
)
def test_percentile_is_a_value_that_occurred(percent: float, expected: int) -> None:
    """A percentile is the smallest value that so many per cent do not exceed."""
    assert percentile(range(1, 101), percent) == expected


def test_percentile_of_nothing_is_zero() -> None:
    """Before the first request the percentiles are 0."""
    assert percentile([], 99) == 0


def test_percentile_of_one_value_is_that_value() -> None:
    """After the first request all percentiles are its duration."""
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_client_repeats_a_503_after_its_retry_after() -> None:
    """A request answered 503 is repeated after the seconds that the server named."""
    script = Script(BUSY, GOOD)
    assert script.perform() == (Ending.GOOD, 1)
    assert script.pauses == [2.0]


def test_client_gives_up_after_two_repeats() -> None:
    """The third 503 to the same request is its end, and a failure."""
    script = Script(BUSY, BUSY, BUSY)
    assert script.perform() == (Ending.FAILED, MOST_REPEATS)
    assert script.pauses == [2.0, 2.0]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, {}, b""),
        Answer(503, {"retry-after": "soon"}, b""),
        Answer(503, {"retry-after": "3600"}, b""),
        Answer(500, {"retry-after": "1"}, b""),
        Answer(429, {"retry-after": "1"}, b""),
        Answer(404, {}, b""),
        ConnectionResetError("cut"),
    ],
    ids=repr,
)
def test_client_repeats_nothing_else(answer: Answer | Exception) -> None:
    """Only a 503 with a Retry-After is repeated; all else fails at once."""
    script = Script(answer)
    assert script.perform() == (Ending.FAILED, 0)
    assert not script.pauses


def test_client_tells_an_unknown_outcome_from_a_failure() -> None:
    """An answer that admits not to know the outcome is unknown, and not repeated."""
    assert Script(UNKNOWN).perform() == (Ending.UNKNOWN, 0)


def test_client_takes_the_answer_to_another_question_for_a_failure() -> None:
    """A 200 that does not answer this very question has failed."""
    assert Script(GOOD).perform(lambda _: False) == (Ending.FAILED, 0)


def test_client_takes_an_unreadable_answer_for_a_failure() -> None:
    """A 200 without the content that was asked for has failed."""

    def is_right(answer: Answer) -> bool:
        return bool(json.loads(answer.body)["key"])

    assert Script(GOOD).perform(is_right) == (Ending.FAILED, 0)


def test_retry_after_may_be_a_date() -> None:
    """A Retry-After that is a date is waited for until then."""
    soon = datetime.now(timezone.utc) + timedelta(seconds=5)
    headers = {"retry-after": format_datetime(soon, usegmt=True)}
    delay = retry_after(Answer(503, headers, b""))
    assert delay is not None
    assert delay <= 5


def test_retry_after_in_the_past_means_at_once() -> None:
    """A Retry-After that is over is not waited for."""
    headers = {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}
    assert retry_after(Answer(503, headers, b"")) == 0


def test_tally_counts_each_ending_once() -> None:
    """Requests are what ended well, what failed and what is unknown."""
    tally = Tally()
    for script, key in [
        (Script(GOOD), "good"),
        (Script(BUSY, GOOD), "repeated"),
        (Script(UNKNOWN), "unknown"),
        (Script(BUSY, Answer(500, {}, b"")), "failed"),
    ]:
        outcome = perform(POST, script.send, script.pauses.append, bool)
        tally.add(outcome, 0.01, key)
    total = tally.total()
    assert (total.requests, total.failed, total.retried, total.unknown) == (4, 1, 2, 1)
    assert tally.keys() == (["good", "repeated"], ["unknown"])


def test_no_two_calls_write_the_same_key() -> None:
    """Every POST of a run has a key of its own."""
    keys = []
    for client in range(4):
        asked = questions("run", client)
        keys += [key for _ in range(500) if (key := next(asked).key) is not None]
    assert len(keys) == 600
    assert len(set(keys)) == len(keys)


def test_load_both_reads_and_writes() -> None:
    """The load has GETs and POSTs."""
    asked = questions("run", 0)
    methods = {next(asked).call.method for _ in range(10)}
    assert methods == {"GET", "POST"}


def test_pace_ends_with_the_time() -> None:
    """No call is begun after the end."""
    assert not Pace(first=0.0, interval=1.0, end=0.0).wait()


def test_verdict_is_good_when_everything_is_there_once() -> None:
    """Nothing failed and every acknowledged write is there: a good run."""
    result, notes = judge(seen(), {"a": 1}, restarts=1)
    assert result.is_good
    assert not notes


def test_verdict_counts_a_missing_write_as_lost() -> None:
    """An acknowledged write that is not there is lost, and the run is bad."""
    result, notes = judge(seen(acknowledged=["a", "b"]), {"b": 1}, restarts=1)
    assert result.lost_writes == 1
    assert not result.is_good
    assert notes == ["Acknowledged and lost: a"]


@pytest.mark.parametrize("kind", ["acknowledged", "unknown"])
def test_verdict_counts_a_write_that_is_there_twice_as_failed(kind: str) -> None:
    """A write that is there twice has failed, whatever its answer was."""
    written = {"acknowledged": [], kind: ["a"]}
    result, _ = judge(seen(**written), {"a": 2}, restarts=1)
    assert result.failed == 1
    assert not result.is_good


def test_verdict_tells_the_truth_about_unknown_writes() -> None:
    """Unknown writes are looked up: how many stand, how many do not."""
    result, notes = judge(seen(unknown=["u", "v", "w"]), {"a": 1, "u": 1}, restarts=1)
    assert result.is_good
    assert [note.rpartition(": ")[2] for note in notes] == ["1 there, 2 not."]


def test_final_line_has_the_promised_keys() -> None:
    """The JSON object has exactly the keys that the manual names."""
    result, _ = judge(seen(), {"a": 1}, restarts=1)
    assert list(json.loads(result.as_json())) == KEYS


def test_report_has_no_control_codes_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is no terminal gets plain lines, whatever the environment asks for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    report = Report(stream)
    with report.progress("filling", 10) as step:
        step(10)
    with report.live_line() as show:
        show(Moment(1.0, Figures(requests=1), 2, "up"))
    result, notes = judge(seen(), {}, restarts=0)
    report.table(dataclasses.replace(result, failed=3), notes)
    written = stream.getvalue()
    assert "database up" in written
    assert "FAILED" in written
    assert not {char for char in written if ord(char) < 32} - {"\n"}


def test_live_line_names_who_is_what() -> None:
    """Without a terminal it stays one line, written anew when a role changes."""
    stream = io.StringIO()
    with Report(stream).live_line() as show:
        for servers in (":1 primary · :2 standby", ":1 down · :2 primary"):
            for elapsed in (0.1, 0.2):
                show(Moment(elapsed, Figures(), 2, "up", servers))
    lines = stream.getvalue().splitlines()
    assert [text.rpartition("s  ")[2] for text in lines] == [
        ":1 primary · :2 standby",
        ":1 down · :2 primary",
    ]


class CutBody:
    """A body whose COMMIT is cut off after so many blocks."""

    def __init__(self, blocks: int) -> None:
        self.is_closed = False
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks, then fail."""
        yield from [b"block"] * self._blocks
        raise CommitUnknown

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


def answer_of(app: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return status and headers of the answer to a POST."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST"}
    setup_testing_defaults(environ)
    _, status, headers = run_wsgi_app(tell_unknown_outcome(app), environ, buffered=True)
    return status, dict(headers)


def test_unknown_outcome_is_told_when_the_app_raises() -> None:
    """A COMMIT cut off before the body is there becomes a 500 that says so."""

    def app(_environ: object, _start: object) -> list[bytes]:
        raise CommitUnknown

    status, headers = answer_of(app)
    assert status.startswith("500")
    assert headers["X-Outcome"] == "unknown"


def test_unknown_outcome_is_told_when_the_body_raises() -> None:
    """A COMMIT cut off before the first block becomes a 500, and the body is closed."""
    body = CutBody(blocks=0)
    status, headers = answer_of(lambda _environ, _start: body)
    assert status.startswith("500")
    assert headers["X-Outcome"] == "unknown"
    assert body.is_closed


def test_unknown_outcome_in_a_begun_response_cuts_it_short() -> None:
    """A COMMIT cut off in the middle of a response reaches the server."""
    body = CutBody(blocks=1)

    def app(_environ: object, start: Callable[..., object]) -> CutBody:
        start("200 OK", [])
        return body

    with pytest.raises(CommitUnknown):
        answer_of(app)
    assert body.is_closed

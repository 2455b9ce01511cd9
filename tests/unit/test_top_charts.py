"""The charts of `pgdbpool top`: what was in the last minutes, the newest last."""

import itertools
from typing import Any

from pgdbpool.top.charts import shared, sparkline
from pgdbpool.top.past import LENGTH, OVERLAP, Moment, Past
from pgdbpool.top.window import UNICODE
from tests.unit.top_states import COLUMNS, NOW, lines_of, pool, state_of, worker

BARS = UNICODE.bars


def chart(kind: str, rows: Any, width: int = 110) -> str:  # noqa: ANN401 - as JSON
    """Return the line of a chart."""
    lines = lines_of(state_of(worker(1), rows=rows), width)
    (found,) = (line for line in lines if line.startswith(f"{kind} "))
    return found


def bars(kind: str, rows: Any, width: int = 110) -> str:  # noqa: ANN401 - as JSON
    """Return the bars of it."""
    return "".join(one for one in chart(kind, rows, width) if one in BARS)


def told(
    taken_at: float, rows: list[list[int]], *, answers: bool = True
) -> dict[str, Any]:
    """Return what a page tells of the pool shop."""
    return {
        "taken_at": taken_at,
        "workers": [{"pid": 1, "answers": True}, {"pid": 2, "answers": answers}],
        "history": {"columns": COLUMNS, "pools": {"shop": rows}},
    }


def test_the_highest_bar_fills_its_line() -> None:
    """The others as compared with it; what is not nothing is never lowest."""
    assert sparkline((0, 7, 14), BARS) == BARS[0] + BARS[3] + BARS[-1]
    assert sparkline((1, 10_000), BARS) == BARS[1] + BARS[-1]
    assert sparkline((0, None, 0), BARS) == f"{BARS[0]} {BARS[0]}"
    assert sparkline((), BARS) == ""


def test_there_are_charts_of_acquires_waits_holds_and_errors() -> None:
    """With the mean of the last seconds, errors of the last minute, and the highest."""
    rows = [
        [1000, 2000, 9000, 2, 1],
        *itertools.repeat([0, 0, 0, 0, 0], 54),
        *itertools.repeat([10, 50, 200, 0, 0], 5),
    ]
    assert chart("acquires", rows).split()[-2:] == ["10/s", "1,000/s"]
    assert chart("wait", rows).split()[-4:] == ["5.0", "ms", "5.0", "ms"]
    assert chart("hold", rows).split()[-4:] == ["20", "ms", "20", "ms"]
    assert "2 in 60 s, 1 lost" in chart("errors", rows)
    assert chart("errors", rows).endswith("  3/s")
    assert bars("errors", rows) == BARS[-1] + BARS[0] * 59


def test_a_pool_that_did_nothing_has_no_means() -> None:
    """And no bar that is high; one of which nothing is known has no bars at all."""
    rows = [[0, 0, 0, 0, 0]]
    assert chart("wait", rows).split() == ["wait", "-", "-"]
    assert bars("acquires", rows) == BARS[0]
    assert chart("acquires", []).split() == ["acquires", "-", "-"]
    assert chart("errors", []).split() == ["errors", "-", "-"]


def test_the_newest_is_shown_however_narrow_the_window_is() -> None:
    """Of five minutes a bar has as many seconds as there is need for."""
    rows = [[n < 290 and 1, 0, 0, n >= 290, 0] for n in range(300)]
    for width, most in ((200, 100), (80, 60), (60, 30), (50, 20)):
        drawn = bars("errors", rows, width)
        assert most / 2 < len(drawn) <= most
        assert drawn.rstrip(BARS[-1]) != drawn
        assert drawn.startswith(BARS[0])


def test_the_last_second_has_its_bar_in_any_window() -> None:
    """What has no room is the oldest."""
    for known in range(200, 300):
        rows = [[1, 0, 0, n == known - 1, 0] for n in range(known)]
        for width in (50, 60, 80):
            assert bars("errors", rows, width).endswith(BARS[-1])


def test_the_time_axis_begins_with_a_minute_and_grows() -> None:
    """All charts have the same."""
    for known, words in ((10, "60 s"), (100, "100 s"), (300, "5 min")):
        rows = [[1, 1, 1, 0, 0]] * known
        lines = lines_of(state_of(worker(1), rows=rows))
        assert any(f"the last {words} " in line for line in lines)


def test_seconds_that_belong_together_stay_so() -> None:
    """A bar that has been drawn does not change when the next second comes."""
    moments = [Moment(1, n, 0, 0, 0.0, 0, 0.0, 0) for n in range(400)]
    for share in (1, 2, 5, 7):
        width = -(-300 // share)
        parts = [
            shared(moments[end - 300 : end], NOW + end, width)
            for end in range(300, 340)
        ]
        for one, other in itertools.pairwise(parts):
            # All but the oldest and the newest: those are not whole.
            assert set(one[2:-1]) <= set(other)
            assert other[-1] is not None
            assert other[-1].seconds <= share


def test_the_clock_is_the_services() -> None:
    """Whoever looks may have another; then too the last minute is the last one."""
    past = Past()
    assert past.since == 0
    for hour in (0.0, 3600.0, -3600.0):
        now = NOW + hour
        past.add(told(now + 0.5, [[int(now) - n, n] + [0] * 6 for n in range(1, 9)]))
        acquires = [one and one.acquires for one in past.last("shop", 9)]
        assert acquires == [None, 8, 7, 6, 5, 4, 3, 2, 1]
        assert past.since == int(now) - OVERLAP


def test_what_was_later_than_now_is_forgotten() -> None:
    """The service's clock was set back: that is not what comes."""
    past = Past()
    past.add(told(NOW + 0.5, [[NOW - 1, 7] + [0] * 6]))
    past.add(told(NOW - 99.5, []))
    past.add(told(NOW + 0.5, []))
    assert past.last("shop", 3) == [None] * 3


def test_what_has_been_heard_is_kept() -> None:
    """So that only what is new is asked for; a second heard again counts as last."""
    past = Past()
    for second in range(NOW, NOW + LENGTH + 50):
        past.add(told(second + 1.5, [[second - 1, 7] + [0] * 6, [second, 1] + [0] * 6]))
    assert past.known(["shop"]) == LENGTH
    assert past.known(["another"]) == 1
    last = [one and one.acquires for one in past.last("shop", LENGTH)]
    assert last == [7] * (LENGTH - 1) + [1]
    assert past.last("another", 2) == [None, None]
    assert past.last("shop", 1) == [Moment(1, 1, 0, 0, 0.0, 0, 0.0, 0)]


def test_what_a_silent_worker_did_is_asked_for_when_it_is_back() -> None:
    """Nobody else has told it."""
    past = Past()
    wanted = []
    for answers in (True, False, False, True, True):
        past.add(told(NOW, [], answers=answers))
        wanted.append(past.since)
    assert wanted == [NOW - OVERLAP] * 3 + [0, NOW - OVERLAP]


def test_the_highest_is_never_below_what_is_now() -> None:
    """Also where waits end in another second than acquires begin."""
    state = state_of(worker(1), rows=[[1, 0, 0, 0, 0], [0, 900, 900, 0, 0]])
    (wait,) = (line for line in lines_of(state) if line.startswith("wait "))
    assert wait.split()[-4:] == ["0.9", "s", "0.9", "s"]


def test_each_pool_has_its_charts() -> None:
    """Also one of which there is no history."""
    state = state_of(worker(1, pool(), pool(name="blog")), rows=[[1, 1, 1, 0, 0]])
    lines = lines_of(state)
    assert sum(line.startswith("shop  ") for line in lines) == 1 + 1 + 4
    (blog,) = (line for line in lines if line.startswith("blog  acquires"))
    assert blog.split() == ["blog", "acquires", "-", "-"]

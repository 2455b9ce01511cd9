"""The arithmetic of the benchmarks: order of the rounds, medians of ratios."""

import pytest

from tests.benchmarks import measure


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    """A machine that slows down between rounds does not change a ratio."""
    series = {"one": [10.0, 40.0, 90.0], "other": [20.0, 80.0, 90.0]}

    assert measure.median_ratio(series, "one", "other") == 0.5


def test_a_ratio_of_unequal_rounds_is_refused() -> None:
    """Values of different rounds are never divided by each other."""
    series = {"one": [1.0, 2.0], "other": [1.0]}

    with pytest.raises(ValueError, match="shorter"):
        measure.median_ratio(series, "one", "other")


def test_a_ratio_of_no_rounds_is_refused() -> None:
    """Without rounds there is no ratio, and the message names both."""
    with pytest.raises(ValueError, match="'one' and 'other'"):
        measure.median_ratio({"one": [], "other": []}, "one", "other")


def test_a_difference_is_the_median_of_the_differences_within_rounds() -> None:
    """One disturbed round does not change what something adds."""
    series = {"with": [3.0, 50.0, 5.0], "without": [1.0, 2.0, 3.0]}

    assert measure.median_difference(series, "with", "without") == 2.0


@pytest.mark.parametrize("turn", range(8))
def test_every_round_runs_every_variant_once(turn: int) -> None:
    """Whatever the order of a round, nobody is left out or comes twice."""
    names = ["a", "b", "c"]

    assert sorted(measure.order(names, turn)) == names


def test_no_variant_always_runs_first() -> None:
    """Over the rounds each variant is first at least once."""
    names = ["a", "b", "c"]

    firsts = {measure.order(names, turn)[0] for turn in range(6)}

    assert firsts == set(names)


def test_no_variant_always_follows_the_same_one() -> None:
    """Every second round runs backwards."""
    assert measure.order(["a", "b", "c"], 0) == ["a", "b", "c"]
    assert measure.order(["a", "b", "c"], 1) == ["c", "b", "a"]


def test_an_order_of_nothing_is_nothing() -> None:
    """No variants make no error."""
    assert measure.order([], 3) == []


def test_rounds_are_interleaved() -> None:
    """Each round runs one batch of every variant before the next round begins."""
    ran: list[str] = []

    def batch(name: str) -> "measure.Batch":
        def run() -> float:
            ran.append(name)
            return float(len(ran))

        return run

    series = measure.interleave({"a": batch("a"), "b": batch("b")}, 3)

    assert [sorted(ran[i : i + 2]) for i in (0, 2, 4)] == [["a", "b"]] * 3
    assert {name: len(values) for name, values in series.items()} == {"a": 3, "b": 3}


def test_several_runs_join_into_one() -> None:
    """The rounds of several runs stand behind one another, variant by variant."""
    runs = [{"a": [1.0], "b": [2.0]}, {"a": [3.0], "b": [4.0]}]

    assert measure.joined(runs) == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [
        (1.0, True, True),
        (1.01, True, False),
        (1.0, False, True),
        (0.99, False, False),
    ],
)
def test_a_target_is_met_up_to_and_including_it(
    value: float, *, at_most: bool, met: bool
) -> None:
    """A value that equals the target keeps the promise, in both directions."""
    assert measure.Check("x", value, 1.0, at_most=at_most).is_met is met


def test_a_batch_takes_the_mean_of_its_calls() -> None:
    """A batch makes exactly as many calls as it was told to."""
    calls: list[None] = []

    taken = measure.microseconds(lambda: calls.append(None), 7)()

    assert len(calls) == 7
    assert taken > 0


def test_a_report_knows_the_ratio_of_a_variant_to_its_reference() -> None:
    """A variant with a reference has a ratio, one without has none."""
    series = {"ours": [1.0, 2.0], "floor": [2.0, 4.0]}
    report = measure.Report("x", "x", "µs", series, reference={"ours": "floor"})

    assert report.ratio("ours") == 0.5
    assert report.ratio("floor") is None

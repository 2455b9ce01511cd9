"""Durations in buckets, and which route a request is of."""

import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.stack import DEEPEST, NO_STACK, lines_of, place_of, stack_of
from pgdbpool.histograms import BOUNDS, MOST_REQUESTS, Histogram, Routes, route_of


def hold_of(request: str | None, waited: float = 0.0) -> Hold:
    """Return a hold that was observed."""
    hold = Hold(0.0, sys._getframe(1), request, True)
    hold.waited, hold.route = waited, request
    return hold


@pytest.mark.parametrize(
    ("request_line", "route"),
    [
        ("GET /", "GET /"),
        ("GET /order/17", "GET /order/*"),
        ("GET /order/17/", "GET /order/*/"),
        ("GET /order/17/item/3", "GET /order/*/item/*"),
        ("GET /7/8/9", "GET /*/*/*"),
        ("GET /v2/order", "GET /v2/order"),
        ("GET /u/0b8f6d3e-9d1c-4f0e-8a52-7c6f1f0f9b3a", "GET /u/*"),
        ("GET /blob/deadbeefdeadbeef", "GET /blob/*"),
        ("GET /cafe", "GET /cafe"),
        ("GET /reset?token=s3cret", "GET /reset"),
        ("GET /" + "x" * 41, "GET /*"),
        ("GET /" + "x" * 40, "GET /" + "x" * 40),
    ],
)
def test_what_differs_between_requests_of_a_route_is_left_out(
    request_line: str, route: str
) -> None:
    """Numbers, identifiers, tokens."""
    assert route_of(request_line) == route


@given(st.floats(0.0, 100.0))
def test_a_duration_is_in_the_bucket_whose_bound_it_reaches(seconds: float) -> None:
    """A bound belongs to its bucket, as Prometheus has it."""
    histogram = Histogram()
    histogram.add(seconds)

    index = histogram.counts.index(1)
    assert histogram.total == seconds
    assert index == len(BOUNDS) or seconds <= BOUNDS[index]
    assert index == 0 or seconds > BOUNDS[index - 1]


def test_many_requests_of_few_routes_are_found_again() -> None:
    """However many there are; what is remembered to find them is bounded."""
    routes = Routes()
    for number in range(3 * MOST_REQUESTS):
        routes.add(hold_of(f"GET /order/{number}", 0.5), 2.0)

    ((route, waits, holds),) = routes.items()
    assert route == "GET /order/*"
    assert (sum(waits.counts), sum(holds.counts)) == (3 * MOST_REQUESTS,) * 2
    assert waits.counts[BOUNDS.index(0.5)] == 3 * MOST_REQUESTS
    assert holds.counts[BOUNDS.index(5.0)] == 3 * MOST_REQUESTS
    assert len(routes._known) <= MOST_REQUESTS


def test_two_places_in_one_function_are_two_routes() -> None:
    """A line tells more than a function."""
    routes = Routes()
    first = hold_of(None)
    second = hold_of(None)
    for hold in (first, second, first):
        routes.add(hold, 0.0)

    found = {route: sum(waits.counts) for route, waits, _ in routes.items()}
    assert found == {first.place: 2, second.place: 1}
    assert first.place != second.place


def deep(levels: int, act: Any) -> Any:  # noqa: ANN401 - whatever it returns
    """Call from so deep."""
    return deep(levels - 1, act) if levels else act()


def test_a_stack_begins_with_who_acquired_and_is_bounded() -> None:
    """What is inside of that is nobody's business."""

    def inside() -> Any:  # noqa: ANN401 - a stack
        return stack_of(sys._getframe(0), deep.__code__)

    codes, instructions = deep(3 * DEEPEST, inside)

    assert codes == (deep.__code__,) * DEEPEST
    assert len(instructions) == DEEPEST
    source = lines_of((codes[:1], instructions[:1]))[1].strip()
    assert source.startswith("return deep(levels - 1, act)")


def test_the_stack_of_a_thread_that_has_few_callers_is_all_of_it() -> None:
    """The outermost of them is the thread's own beginning."""
    found = []

    def target() -> None:
        found.append(stack_of(sys._getframe(0), target.__code__))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()

    ((codes, instructions),) = found
    assert codes[0] is target.__code__
    assert codes[-1].co_name == "_bootstrap"
    assert len(instructions) == len(codes) < DEEPEST


def test_code_that_nobody_called_has_no_stack() -> None:
    """The frame was left meanwhile, as by a generator."""
    assert stack_of(sys._getframe(0), deep.__code__) == NO_STACK


def test_what_stands_inside_the_package_is_not_told() -> None:
    """Only who used it."""
    assert lines_of(((place_of.__code__,), (0,))) == []

"""Durations in buckets, and which route a request is of."""

import base64
import random
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdbpool.demo import app as demo
from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.stack import (
    DEEPEST,
    NO_STACK,
    lines_of,
    outside,
    place_of,
    stack_of,
)
from pgdbpool.histograms import (
    BOUNDS,
    MOST_REQUESTS,
    Histogram,
    Routes,
    route_in,
    route_of,
    rule_of,
)


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
        ("GET /" + "x" * 25, "GET /*"),
        ("GET /" + "x" * 24, "GET /" + "x" * 24),
        ("GET /2024-05-17/1.5", "GET /*/*"),
        ("report/17", "report/*"),
    ],
)
def test_what_differs_between_requests_of_a_route_is_left_out(
    request_line: str, route: str
) -> None:
    """Numbers, identifiers, tokens."""
    assert route_of(request_line) == route


@pytest.mark.parametrize(
    "secret",
    [
        "c4k3xn-5d1f6a0b9c8e7d2f3a4b5c6d7e8f9a0b",  # Django's password reset
        "MTIzNDU2Nzg5",
        "AKIAIOSFODNN7EXAMPLE",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "dQw4w9WgXcQ",
        "a1b2c3d4",
        "QwErTyUiOpAsDfGh",  # no digit
        "QWERTYuiopASDFGHjklz",
        "ann@example.org",
        "cart;jsessionid=ABCDEF",
        "+491701234567",
        "M%C3%BCller",
        "cGFzc3dvcmQ=",
        "correct-horse-battery-staple",
    ],
)
def test_what_can_be_a_secret_is_no_part_of_a_route(secret: str) -> None:
    """Wherever it stands in the path, also in a rule of a framework's."""
    assert route_of(f"GET /reset/{secret}") == "GET /reset/*"
    assert route_of(f"GET /reset/{secret}/done") == "GET /reset/*/done"
    assert rule_of(f"POST /bot/{secret}/<int:item>") == "POST /bot/*/<int:item>"


@pytest.mark.parametrize("size", [16, 24, 29, 32])
def test_no_random_token_is_a_route(size: int) -> None:
    """As `secrets` makes them: of the shortest, one in a thousand may be like words."""
    numbers = random.Random(size)
    tokens = [
        base64.urlsafe_b64encode(numbers.randbytes(size)).rstrip(b"=").decode()
        for _ in range(5000)
    ]
    told = [token for token in tokens if route_of(f"GET /{token}") != "GET /*"]
    assert len(told) <= (5 if size == 16 else 0), told


@pytest.mark.parametrize(
    "words",
    [
        "password-reset-confirm",
        "internationalization",
        "getUserProfile",
        "getURL",
        "oauth2",
        "sign_in",
        "index.html",
        "v1beta2",
        "page100x",
        "REPORTS",
    ],
)
def test_words_are_part_of_a_route(words: str) -> None:
    """Else all routes were one."""
    assert route_of(f"GET /{words}/list") == f"GET /{words}/list"


def test_what_stands_for_something_in_a_rule_stays() -> None:
    """However long it is, and with whatever expression."""
    rule = "GET /item/<re('[0-9]+'):the_number_of_the_item>/<name>.html"
    assert rule_of(rule) == rule


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


def test_the_rule_of_a_framework_goes_before_the_path() -> None:
    """And is told as it is; whose hold is for nothing has no route."""
    hold = hold_of("GET /reset/c4k3xn-5d1f6a0b9c8e7d2f")
    assert route_in(hold) == "GET /reset/*"
    hold.route = "GET /reset/<string(length=32):token_of_the_mail>"
    assert route_in(hold) == hold.route
    assert route_in(hold_of(None)) is None


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

    stack = deep(3 * DEEPEST, inside)

    assert stack[::2] == (deep.__code__,) * DEEPEST
    assert len(stack) == 2 * DEEPEST
    source = lines_of(stack[:2])[1].strip()
    assert source.startswith("return deep(levels - 1, act)")


def test_each_call_of_a_stack_is_told_with_its_line() -> None:
    """Also the outermost that is remembered."""
    lines: list[int] = []

    def inside() -> Any:  # noqa: ANN401 - a stack
        frame = sys._getframe(1)
        stack = stack_of(frame, frame.f_code)
        while len(lines) < DEEPEST:
            lines.append(frame.f_lineno)
            frame = frame.f_back or frame
        return stack

    def one() -> Any:  # noqa: ANN401 - as above
        return inside()

    def two() -> Any:  # noqa: ANN401 - as above
        return one()

    def three() -> Any:  # noqa: ANN401 - as above
        return two()

    def four() -> Any:  # noqa: ANN401 - as above
        return three()

    def five() -> Any:  # noqa: ANN401 - as above
        return four()

    stack = five()

    assert [line for _, line in outside(stack)] == lines
    assert len(set(lines)) == DEEPEST


def test_the_stack_of_a_thread_that_has_few_callers_is_all_of_it() -> None:
    """The outermost of them is the thread's own beginning."""
    found = []

    def target() -> None:
        found.append(stack_of(sys._getframe(0), target.__code__))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()

    (stack,) = found
    assert stack[0] is target.__code__
    assert stack[-2].co_name == "_bootstrap"
    assert len(stack) < 2 * DEEPEST


def test_code_that_nobody_called_has_no_stack() -> None:
    """The frame was left meanwhile, as by a generator."""
    assert stack_of(sys._getframe(0), deep.__code__) == NO_STACK


def test_what_stands_inside_the_package_is_not_told() -> None:
    """Only who used it."""
    assert lines_of((place_of.__code__, 0)) == []


def test_the_demo_is_told_as_any_application_is() -> None:
    """It stands inside the package, but what it does is its own."""
    (told, _) = lines_of((demo.shop.__code__, 0))
    assert told.endswith("in shop")

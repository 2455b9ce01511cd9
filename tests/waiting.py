"""Waiting for what another thread, process or server does, with an end."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL = 0.005


def until(
    condition: Callable[[], T], timeout: float = 10.0, message: str = "it came true"
) -> T:
    """Return the first true result of `condition`; fail if there is none in time."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            complaint = f"not within {timeout:g} s: {message} (last: {result!r})"
            raise AssertionError(complaint)
        time.sleep(_POLL)
    return result


def let_pass(seconds: float) -> None:
    """Let what others do go on for a time."""
    ends = time.monotonic() + seconds
    until(lambda: time.monotonic() > ends, seconds + 1.0)

"""Raises an exception at a chosen bytecode of pgdbpool, as a signal handler would.

CPython looks for signals and asynchronous exceptions after calls, at the start of
functions and at jumps back, and nowhere else. So these are the points.
"""

import contextlib
import dis
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import psycopg2

import pgdbpool

_FOLDER = str(Path(pgdbpool.__file__).parent)
_POINTS = {
    "CALL",
    "CALL_FUNCTION",
    "CALL_FUNCTION_EX",
    "CALL_FUNCTION_KW",
    "CALL_KW",
    "CALL_METHOD",
    "JUMP_ABSOLUTE",
    "JUMP_BACKWARD",
    "RESUME",
}


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    return {one.offset: one.opname for one in dis.get_instructions(code)}


class Interrupter:
    """A trace function that raises KeyboardInterrupt at the n-th point.

    Attributes:
        place: where it struck; empty when there are fewer points.
    """

    def __init__(self, n: int) -> None:
        self.place = ""
        self._left = n
        self._last: dict[FrameType, str] = {}

    def __call__(
        self, frame: FrameType, event: str, _arg: object
    ) -> "Interrupter | None":
        """Count the points in one frame of pgdbpool."""
        if not frame.f_code.co_filename.startswith(_FOLDER):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "return":
            self._last.pop(frame, None)
        elif event == "opcode":
            before = self._last.get(frame)
            self._last[frame] = _names(frame.f_code).get(frame.f_lasti, "")
            if before in _POINTS:
                self._count(frame)
        return self

    def _count(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left == 0:
            self._last.clear()
            file = Path(frame.f_code.co_filename).name
            self.place = f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
            raise KeyboardInterrupt(self.place)


def interrupt(call: Callable[[], object], n: int) -> str:
    """Make a call and interrupt it at its n-th point; return where that is.

    Returns the empty string when the call ended before. What else it raises is
    not the matter here.
    """
    interrupter = Interrupter(n)
    before = sys.gettrace()
    sys.settrace(interrupter)
    try:
        with contextlib.suppress(KeyboardInterrupt, psycopg2.OperationalError):
            call()
    finally:
        sys.settrace(before)
    return interrupter.place

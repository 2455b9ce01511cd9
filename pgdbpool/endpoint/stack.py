"""Who has called whom, remembered at little cost and told later."""

import linecache
import os
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

# So many calls are remembered, the innermost first.
DEEPEST: Final = 6

OURS: Final = str(Path(__file__).parents[1]) + os.sep
# The demo is an application like any other, only that it comes along.
DEMO: Final = OURS + "demo" + os.sep

# Codes, each followed by the instruction it was at: neither frames, which would keep
# their variables alive, nor lines, which take long to find. One tuple, for many small
# ones would take longer to make.
Stack = tuple[CodeType | int, ...]
NO_STACK: Final[Stack] = ()


def stack_of(frame: FrameType | None, innermost: CodeType) -> Stack:
    """Return who called, from the frame of some code on, up to `DEEPEST`.

    Args:
        frame: what is inside of that.
        innermost: the code.
    """
    while frame is not None and frame.f_code is not innermost:
        frame = frame.f_back
    try:
        # Every acquire does this, and a loop takes twice as long.
        a: Any = frame
        b = a.f_back
        c = b.f_back
        d = c.f_back
        e = d.f_back
        f = e.f_back
        last = f.f_code
    except AttributeError:  # there are fewer
        return _short_stack_of(frame)
    return (
        innermost, a.f_lasti, b.f_code, b.f_lasti, c.f_code, c.f_lasti,
        d.f_code, d.f_lasti, e.f_code, e.f_lasti, last, f.f_lasti,
    )  # fmt: skip


def _short_stack_of(frame: FrameType | None) -> Stack:
    stack: Stack = NO_STACK
    while frame is not None:
        stack += frame.f_code, frame.f_lasti
        frame = frame.f_back
    return stack


def line_of(code: CodeType, instruction: int) -> int:
    """Return the line of an instruction."""
    line = code.co_firstlineno
    for start, _, found in code.co_lines():
        if start > instruction:
            break
        line = found or line
    return line


def outside(stack: Stack) -> list[tuple[CodeType, int]]:
    """Return what of a stack is the application's: codes with their lines."""
    codes: Any = stack[::2]
    instructions: Any = stack[1::2]
    return [
        (code, line_of(code, instruction))
        for code, instruction in zip(codes, instructions, strict=True)
        if not code.co_filename.startswith(OURS) or code.co_filename.startswith(DEMO)
    ]


def lines_of(stack: Stack) -> list[str]:
    """Return a stack as a traceback has it, the innermost last. Reads the sources."""
    told = []
    for code, line in reversed(outside(stack)):
        told.append(f'File "{code.co_filename}", line {line}, in {code.co_name}')
        source = linecache.getline(code.co_filename, line).strip()
        if source:
            told.append(f"  {source}")
    return told


def place_of(code: CodeType, instruction: int) -> str:
    """Return where an instruction stands, such as ``shop/report.py:41``."""
    # By identity: the hash of a code object takes longer than all the rest.
    key = id(code), instruction
    known = _places.get(key)
    if known is None:
        path = code.co_filename.replace("\\", "/").rsplit("/", 2)[-2:]
        known = code, f"{'/'.join(path)}:{line_of(code, instruction)}"
        if len(_places) >= MOST_PLACES:
            _places.clear()
        _places[key] = known
    return known[1]


# The code is kept with its place, so that no other can have its identity.
_places: dict[tuple[int, int], tuple[CodeType, str]] = {}
MOST_PLACES: Final = 1000

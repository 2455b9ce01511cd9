"""Who has called whom, remembered at little cost and told later."""

import linecache
import os
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

# So many callers are remembered, the innermost first: each costs a tenth of a
# microsecond at every acquire.
DEEPEST: Final = 6

OURS: Final = str(Path(__file__).parents[1]) + os.sep

# Code, and the instruction it was at: neither a frame, which would keep its variables
# alive, nor a line, which takes long to find.
Call = tuple[CodeType, int]


def stack_of(frame: FrameType | None, innermost: CodeType) -> tuple[Call, ...]:
    """Return who called, from the frame of some code on, up to `DEEPEST`.

    Args:
        frame: what is inside of that.
        innermost: the code.
    """
    while frame is not None and frame.f_code is not innermost:
        frame = frame.f_back
    found: list[Call] = []
    while frame is not None and len(found) < DEEPEST:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def line_of(code: CodeType, instruction: int) -> int:
    """Return the line of an instruction."""
    line = code.co_firstlineno
    for start, _, found in code.co_lines():
        if start > instruction:
            break
        line = found or line
    return line


def outside(stack: tuple[Call, ...]) -> list[Call]:
    """Return what of a stack is not inside this package."""
    return [call for call in stack if not call[0].co_filename.startswith(OURS)]


def lines_of(stack: tuple[Call, ...]) -> list[str]:
    """Return a stack as a traceback has it, the innermost last. Reads the sources."""
    told = []
    for code, instruction in reversed(outside(stack)):
        line = line_of(code, instruction)
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

"""A stand-in for FalconAS: as it forks, holds the interpreter, and ends.

`python -m tests.falconas FOLDER PROCESSES` forks before it imports `WebApp` from the
folder. Each child waits for its next request without giving the GIL up, as the real
one does between requests, and leaves by `os._exit`. Requests and answers are lines of
JSON: `[number of the child, payload]` in, `[number, answer, threads]` out.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

# PyDLL is the one that keeps the GIL.
_LIBC = ctypes.PyDLL(None)


def main(folder: str, number: int) -> None:
    """Serve until standard input ends."""
    children: list[tuple[int, int, int]] = []
    for _ in range(number):
        children.append(_child(folder, children))
    for line in sys.stdin:
        which, payload = json.loads(line)
        to, back, _ = children[which]
        os.write(to, json.dumps(payload).encode() + b"\n")
        with os.fdopen(os.dup(back), "rb", buffering=0) as file:
            answer, threads = json.loads(_line(file.fileno()))
        sys.stdout.write(json.dumps([which, answer, threads]) + "\n")
        sys.stdout.flush()
    for to, back, pid in children:
        os.close(to)
        os.close(back)
        os.waitpid(pid, 0)


def _child(folder: str, others: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Fork; return where to write, where to read, and who it is."""
    requests, to = os.pipe()
    back, answers = os.pipe()
    pid = os.fork()
    if pid:
        os.close(requests)
        os.close(answers)
        return to, back, pid
    for one, other in [(to, back), *((to, back) for to, back, _ in others)]:
        os.close(one)  # else nobody would ever see its end
        os.close(other)
    try:
        _serve(folder, requests, answers)
    finally:
        os._exit(0)  # no atexit, no finalizer
    raise AssertionError


def _serve(folder: str, requests: int, answers: int) -> None:
    sys.path.insert(0, folder)
    os.chdir(folder)
    import WebApp  # noqa: PLC0415 - after the fork

    app = WebApp.WebApp()
    while line := _line(requests):
        answer = app.invoke(json.loads(line))
        assert isinstance(answer, str)
        assert "\0" not in answer
        assert len(answer.encode()) <= 8192
        threads = len(list(Path("/proc/self/task").iterdir()))
        os.write(answers, (json.dumps([answer, threads]) + "\n").encode())


def _line(fd: int) -> bytes:
    """Read a line, holding the GIL meanwhile; empty at the end."""
    byte, line = ctypes.create_string_buffer(1), b""
    while _LIBC.read(fd, byte, 1) == 1 and byte.raw != b"\n":
        line += byte.raw
    return line


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

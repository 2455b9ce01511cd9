"""Which names have series of their own, the same in all processes of a service.

Each process appends the names that it meets to one file of the directory, and reads
those of the others there. Those that come first in the file have series of their own;
no lock is needed, for a line that is appended stays where it is. Where the file is lost
all the same, or torn, each process keeps the names that it knows, and tells them anew.
"""

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pgdbpool.histograms import OTHER
from pgdbpool.metrics.client import DIRECTORY

FILE: Final = "pgdbpool-names"

# So many of a kind has a pool in all processes together; what comes later shares one.
MOST_NAMES: Final = 100

# What a line has: a kind, a pool and a name.
Line = tuple[str, str, str]


class Names:
    """The first names of a service.

    Attributes:
        error: why a name could not be shared with the other processes, the last time.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Look at the file anew."""
        self.error: OSError | None = None
        # By kind and pool.
        self._first: dict[tuple[str, str], set[str]] = {}
        # Those that could not be written down. They stay without series of their own:
        # what they have counted among the others would be counted twice.
        self._lost: dict[tuple[str, str], set[str]] = {}
        # So far the file was read, and with this line that ended.
        self._seen, self._last = 0, b""

    def of(self, kind: str, pool: str, name: str) -> str:
        """Return the name that the series go by. Reads and writes a file, once each."""
        first = self._first.setdefault((kind, pool), set())
        lost = self._lost.setdefault((kind, pool), set())
        if name == OTHER or name in lost:
            return OTHER
        if name not in first and len(first) + len(lost) < MOST_NAMES:
            try:
                self._claim(kind, pool, name)
            except OSError as error:
                self.error = error
            if name not in first:
                lost.add(name)
        return name if name in first else OTHER

    def _claim(self, kind: str, pool: str, name: str) -> None:
        path = Path(os.environ[DIRECTORY], FILE)
        first = self._first[kind, pool]
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            mine = self._begin_anew() if self._is_another(file) else []
            there = self._learn(file)
            mine = [line for line in mine if line not in there]
            if name not in first and len(first) < MOST_NAMES:
                mine.append((kind, pool, name))
            if mine:
                _append(file, mine)
                self._learn(file)
        finally:
            os.close(file)

    def _is_another(self, file: int) -> bool:
        """Whether it is not the file that was read, for that was lost or emptied."""
        last = self._last
        return os.pread(file, len(last), self._seen - len(last)) != last

    def _begin_anew(self) -> list[Line]:
        """Have the file read from its beginning; return what it had before."""
        self._seen, self._last = 0, b""
        return [(*of, name) for of, names in self._first.items() for name in names]

    def _learn(self, file: int) -> dict[Line, None]:
        """Take in what was appended since the last time; return it in its order."""
        more = os.pread(file, max(os.fstat(file).st_size - self._seen, 0), self._seen)
        lines = more[: more.rfind(b"\n") + 1].splitlines(keepends=True)
        self._seen += sum(map(len, lines))
        self._last = lines[-1] if lines else self._last
        told = dict.fromkeys(line for line in map(_read, lines) if line is not None)
        for kind, pool, name in told:
            first = self._first.setdefault((kind, pool), set())
            if len(first) < MOST_NAMES:
                first.add(name)
        return told


def _append(file: int, lines: Iterable[Line]) -> None:
    """Append lines to a file, all of them or as many as there is room for.

    Raises:
        OSError: there was not enough.
    """
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        text = b"\n" + text  # what was torn off there spoils no line of ours
    if os.write(file, text) < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read(text: bytes) -> Line | None:
    """Return what a line has; None: it was torn."""
    try:
        kind, pool, name = json.loads(text)
    except (TypeError, ValueError):
        return None
    line = kind, pool, name
    return line if all(isinstance(one, str) for one in line) else None

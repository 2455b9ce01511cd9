"""Which names have series of their own, the same in all processes of a service.

Each process appends the names that it meets to one file of the directory, and reads
those of the others there. Those that come first in the file have series of their own;
no lock is needed, for a line that is appended stays where it is.
"""

import json
import os
from pathlib import Path
from typing import Final

from pgdbpool.histograms import OTHER
from pgdbpool.metrics.client import DIRECTORY

FILE: Final = "pgdbpool-names"

# So many of a kind has a pool in all processes together; what comes later shares one.
MOST_NAMES: Final = 100


class Names:
    """The first names of a service."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Look at the file anew."""
        # By kind and pool.
        self._first: dict[tuple[str, str], set[str]] = {}
        self._seen = 0

    def of(self, kind: str, pool: str, name: str) -> str:
        """Return the name that the series go by. Reads and writes a file, once each.

        Raises:
            OSError: the file cannot be read or written.
        """
        first = self._first.setdefault((kind, pool), set())
        if name not in first and name != OTHER and len(first) < MOST_NAMES:
            self._claim(kind, pool, name)
        return name if name in first else OTHER

    def _claim(self, kind: str, pool: str, name: str) -> None:
        path = Path(os.environ[DIRECTORY], FILE)
        first = self._first[kind, pool]
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            self._learn(file)
            if name not in first and len(first) < MOST_NAMES:
                os.write(file, f"{json.dumps([kind, pool, name])}\n".encode())
                self._learn(file)
        finally:
            os.close(file)

    def _learn(self, file: int) -> None:
        """Take in what was appended since the last time."""
        more = os.pread(file, os.fstat(file).st_size - self._seen, self._seen)
        lines = more[: more.rfind(b"\n") + 1]
        self._seen += len(lines)
        for line in lines.splitlines():
            kind, pool, name = json.loads(line)
            first = self._first.setdefault((kind, pool), set())
            if len(first) < MOST_NAMES:
                first.add(name)

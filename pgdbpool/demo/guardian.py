"""Ends an embedded PostgreSQL whose owner died without doing so.

`EmbeddedPostgres` runs this module as a program beside its server: a killed Python
process runs no `finally`, and PostgreSQL does not notice that its parent is gone.
The parent's number is looked at because, unlike the death signal of Linux, it does
not depend on the thread that started the server, nor is it lost by a change of user.
"""

import contextlib
import ctypes
import os
import shutil
import sys
import time
from pathlib import Path

import psutil

_PERIOD = 0.2
_POLL = 0.005
_IPC_RMID = 0  # <sys/ipc.h>, the same number on Linux, macOS and the BSDs


def end_processes(directory: Path) -> None:
    """Kill every process that was told to work in `directory`, and its children."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if process.pid != os.getpid() and any(str(directory) in word for word in words):
            found.append(process)
            with contextlib.suppress(psutil.NoSuchProcess):
                found.extend(process.children(recursive=True))
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_ended(found)


def wait_ended(processes: list[psutil.Process], timeout: float = 5.0) -> None:
    """Wait until none of the killed `processes` runs. Blocks.

    A zombie has ended: who inherited it may be slow to take notice.
    """
    deadline = time.monotonic() + timeout
    while any(map(_is_running, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def remove_shared_memory(data: Path) -> None:
    """Remove the System V segment that a killed server left behind.

    Its number is the second word of the seventh line of `postmaster.pid`
    (PostgreSQL 18, src/include/utils/pidfile.h); a server that ended by itself has
    removed the segment and the file.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        number = int((data / "postmaster.pid").read_text().splitlines()[6].split()[1])
        ctypes.CDLL(None).shmctl(number, _IPC_RMID, None)


def guard(owner: int, directory: Path) -> None:
    """Wait for the end of the process `owner`; then remove what it left. Blocks."""
    while os.getppid() == owner:
        time.sleep(_PERIOD)
    end_processes(directory)
    remove_shared_memory(directory / "data")
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    guard(int(sys.argv[1]), Path(sys.argv[2]))

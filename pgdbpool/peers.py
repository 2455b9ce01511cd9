"""The workers of one service, which ask each other how they are doing.

Each worker listens on a Unix socket of its own, in a directory that only its account
can enter. The directory's name is random and known to all that are forked from one
arbiter. Nothing is made until something in a worker wants to answer.

A question is one line of JSON, and so is an answer. Each has the number of `PROTOCOL`:
while a service is reloaded with another version, workers of both may meet.
"""

import contextlib
import errno
import itertools
import json
import logging
import os
import re
import secrets
import selectors
import shutil
import socket
import stat
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pgdbpool import forks, greenlets
from pgdbpool.endpoint import identity

logger = logging.getLogger(__name__)

Answer = Callable[[dict[str, Any]], object]

# The number of what is asked and answered here; it is raised when that changes.
PROTOCOL: Final = 2

# How long a worker may take over one question, before it turns to the next.
QUESTION_SECONDS: Final = 0.5
# What no question is longer than, and how much of an answer is taken at once.
LONGEST_QUESTION: Final = 4096
PART: Final = 65536
# What the path of a socket may have (unix(7): ``sun_path``), less what ours adds.
LONGEST_PARENT: Final = 107 - 50


# What a socket is called, see `name_of`; other files are of no interest.
NAME: Final = re.compile(r"[0-9]+\.[0-9]+")

# The same in all processes that are forked from the one that imports this first; nobody
# can guess it.
_directory_name: Final = f"pgdbpool-{secrets.token_hex(8)}"
_directory: Path | None = None

_numbers = itertools.count()
# By the order in which they came.
_answers: dict[int, "weakref.WeakMethod[Answer]"] = {}
_is_member = False
_listener: socket.socket | None = None


def _place() -> Path:
    """Return the directory where the workers meet, which need not be there.

    Raises:
        OSError: there is no place for temporary files.
    """
    global _directory  # noqa: PLW0603 - one a process
    if _directory is None:
        parent = Path(tempfile.gettempdir())
        if len(os.fsencode(parent)) > LONGEST_PARENT:
            parent = Path("/tmp")  # noqa: S108 - what is in it is not trusted unseen
        _directory = parent / _directory_name
    return _directory


@dataclass
class Reply:
    """What another worker said.

    Attributes:
        name: the worker's: its age in the service, and its process id.
        content: its answer; None: it gave none in time, or none that can be read.
        is_meant: whether it has what was asked for.
    """

    name: str
    content: Any = None
    is_meant: bool = True
    received: bytearray = field(default_factory=bytearray, repr=False)


def name_of(age: int | str, pid: int) -> str:
    """Return what a worker is called among the others."""
    return f"{age}.{pid}"


def answer_with(answer: Answer) -> None:
    """Answer the other workers from now on; for one that is none yet, from `join` on.

    Args:
        answer: a method, which is called with each question, in a thread of its own. It
            returns what `json` can write, or None for a question that another one is
            to answer. It is forgotten with the object it is of.
    """
    number = next(_numbers)
    _answers[number] = weakref.WeakMethod(answer, lambda _: _answers.pop(number, None))
    if _is_member:
        _listen()


def join() -> None:
    """Be a worker of a service, whose `identity` tells which; answer if wanted."""
    global _is_member  # noqa: PLW0603 - one a process
    _is_member = True
    if _answers:
        _listen()


def leave() -> None:
    """Answer no longer, and leave no file behind."""
    global _is_member, _listener
    listener, _listener, _is_member = _listener, None, False
    if listener is not None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread; close() would not
        listener.close()
        forget(my_name())


def forget(name: str) -> None:
    """Remove what a worker that has ended left, and the directory after the last."""
    with contextlib.suppress(OSError):
        (_place() / name).unlink()
    with contextlib.suppress(OSError):
        _place().rmdir()


def remove() -> None:
    """Remove what all workers left; for their arbiter, at its end."""
    with contextlib.suppress(OSError):
        shutil.rmtree(_place(), ignore_errors=True)


def my_name() -> str:
    """Return what this process is called; by its process id where it is alone."""
    return name_of(identity.token().rpartition(".")[2] or 0, os.getpid())


def ask(question: dict[str, Any], timeout: float) -> list[Reply]:
    """Return what all other workers answer. Blocks for ``timeout`` seconds at most.

    Who answers that nothing of its is meant is left out, as who has ended.
    """
    deadline = time.monotonic() + timeout
    line = json.dumps({**question, "protocol": PROTOCOL}).encode() + b"\n"
    replies = []
    with selectors.DefaultSelector() as selector:
        for name in _others():
            reply = Reply(name)
            try:
                _call(selector, reply, line)
            except (ConnectionRefusedError, FileNotFoundError):
                continue  # it has ended, or is about to
            except OSError:
                pass  # it has more callers than it can serve
            replies.append(reply)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for key, _ in selector.select(left):
                _take_in(selector, key)
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return [reply for reply in replies if reply.is_meant]


def _others() -> list[str]:
    if not _is_member:
        return []
    try:
        names = [path.name for path in _place().iterdir()]
    except OSError:
        return []
    others = {name for name in names if NAME.fullmatch(name)} - {my_name()}
    return sorted(others, key=lambda name: [*map(int, name.split("."))])


def _call(selector: selectors.BaseSelector, reply: Reply, line: bytes) -> None:
    """Send a question and have the answer waited for."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(str(_place() / reply.name))
        sock.send(line)
        selector.register(sock, selectors.EVENT_READ, reply)
    except BaseException:
        sock.close()
        raise


def _take_in(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Read a part of an answer; its end is the end of the connection."""
    sock: Any = key.fileobj
    reply: Reply = key.data
    try:
        part = sock.recv(PART)
    except BlockingIOError:
        return
    except OSError:
        part = b""
        reply.received.clear()
    reply.received += part
    if not part:
        selector.unregister(sock)
        sock.close()
        _read(reply)


def _read(reply: Reply) -> None:
    """Make sense of an answer; of one cut off, or of another version, there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(reply.received)
        if isinstance(told, dict) and told.get("protocol") == PROTOCOL:
            reply.content = told.get("answer")
            reply.is_meant = reply.content is not None


def _listen() -> None:
    """Begin to answer, unless this worker does already or cannot."""
    global _listener  # noqa: PLW0603 - one a process
    if _listener is not None or not identity.token():
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listener, str(_place() / my_name()))
        listener.listen()
        greenlets.start(_serve, listener)
    except (OSError, RuntimeError) as error:
        listener.close()
        logger.warning("other workers cannot ask this one: %s", error)
        return
    _listener = listener


def _bind(listener: socket.socket, path: str) -> None:
    while True:
        _make_directory()
        try:
            listener.bind(path)
        except FileNotFoundError:  # the last of the others has just left
            continue
        return


def _make_directory() -> None:
    """Make the directory; one that is there has to be ours, and nobody else's.

    Raises:
        PermissionError: it is not.
    """
    directory = _place()
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    is_private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if not is_private or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "others can write to it", str(directory))


def _serve(listener: socket.socket) -> None:
    """Answer until the listener is closed."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if listener is not _listener or error.errno in {errno.EBADF, errno.EINVAL}:
                return
            time.sleep(QUESTION_SECONDS)  # out of descriptors, it may be
            continue
        with sock:
            try:
                sock.settimeout(QUESTION_SECONDS)
                _answer_one(sock)
            except Exception:
                logger.debug("another worker's question went wrong", exc_info=True)


def _answer_one(sock: socket.socket) -> None:
    received = b""
    while not received.endswith(b"\n"):
        part = sock.recv(LONGEST_QUESTION)
        received += part
        if not part or len(received) > LONGEST_QUESTION:
            return
    question = json.loads(received)
    if question.get("protocol") != PROTOCOL:
        return
    told = {"protocol": PROTOCOL, "answer": _answer(question)}
    sock.sendall(json.dumps(told).encode())


def _answer(question: dict[str, Any]) -> object:
    """Return the first answer that anything in this process has."""
    for reference in list(_answers.values()):
        answer = reference()
        if answer is not None and (told := answer(question)) is not None:
            return told
    return None


def _forget_in_child() -> None:
    """Be no worker: what a worker forks is not one, and its file is the parent's."""
    global _is_member, _listener
    if _listener is not None:
        _listener.close()
    _listener, _is_member = None, False


forks.in_child(_forget_in_child)

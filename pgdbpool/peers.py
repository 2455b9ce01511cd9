"""The workers of one service, which ask each other how they are doing.

Each worker listens on a Unix socket of its own, in a directory that only its account
can enter. The directory's name is random and known to all that are forked from one
arbiter. Nothing is made until something in a worker wants to answer.
"""

import contextlib
import errno
import json
import logging
import os
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

# How long a worker may take over one question, before it turns to the next.
QUESTION_SECONDS: Final = 0.5
# What no question is longer than, and how much of an answer is taken at once.
LONGEST_QUESTION: Final = 4096
PART: Final = 65536
# What the path of a socket may have (unix(7): ``sun_path``), less what ours adds.
LONGEST_PARENT: Final = 107 - 50


def _place() -> Path:
    """Return a directory that nobody has, and whose name nobody can guess."""
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) > LONGEST_PARENT:
        parent = Path("/tmp")  # noqa: S108 - what is in it is not trusted unseen
    return parent / f"pgdbpool-{secrets.token_hex(8)}"


# The same in all processes that are forked from the one that imports this first.
_directory = _place()

_answer: weakref.WeakMethod[Answer] | None = None
_is_member = False
_listener: socket.socket | None = None


@dataclass
class Reply:
    """What another worker said.

    Attributes:
        name: the worker's: its age in the service, and its process id.
        content: its answer; None: it gave none in time.
    """

    name: str
    content: Any = None
    received: bytearray = field(default_factory=bytearray, repr=False)


def name_of(age: int | str, pid: int) -> str:
    """Return what a worker is called among the others."""
    return f"{age}.{pid}"


def answer_with(answer: Answer) -> None:
    """Answer the other workers from now on; for one that is none yet, from `join` on.

    Args:
        answer: a method, which is called with the question, in a thread of its own, and
            returns what `json` can write. It is forgotten with the object it is of.
    """
    global _answer  # noqa: PLW0603 - one a process
    _answer = weakref.WeakMethod(answer)
    if _is_member:
        _listen()


def join() -> None:
    """Be a worker of a service, whose `identity` tells which; answer if wanted."""
    global _is_member  # noqa: PLW0603 - one a process
    _is_member = True
    if _answer is not None:
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
        (_directory / name).unlink()
    with contextlib.suppress(OSError):
        _directory.rmdir()


def remove() -> None:
    """Remove what all workers left; for their arbiter, at its end."""
    shutil.rmtree(_directory, ignore_errors=True)


def my_name() -> str:
    """Return what this process is called; by its process id where it is alone."""
    return name_of(identity.token().rpartition(".")[2] or 0, os.getpid())


def ask(question: dict[str, Any], timeout: float) -> list[Reply]:
    """Return what all other workers answer. Blocks for ``timeout`` seconds at most."""
    deadline = time.monotonic() + timeout
    replies = []
    with selectors.DefaultSelector() as selector:
        for name in _others():
            reply = Reply(name)
            try:
                _call(selector, reply, question)
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
    return replies


def _others() -> list[str]:
    if not _is_member:
        return []
    try:
        names = [path.name for path in _directory.iterdir()]
    except OSError:
        return []
    return sorted(
        set(names) - {my_name()}, key=lambda name: [*map(int, name.split("."))]
    )


def _call(
    selector: selectors.BaseSelector, reply: Reply, question: dict[str, Any]
) -> None:
    """Send a question and have the answer waited for."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(str(_directory / reply.name))
        sock.send(json.dumps(question).encode() + b"\n")
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
        with contextlib.suppress(ValueError):  # cut off
            reply.content = json.loads(reply.received)


def _listen() -> None:
    """Begin to answer, unless this worker does already or cannot."""
    global _listener  # noqa: PLW0603 - one a process
    if _listener is not None or not identity.token():
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listener, str(_directory / my_name()))
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
    with contextlib.suppress(FileExistsError):
        _directory.mkdir(mode=0o700)
    found = _directory.lstat()
    is_private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if not is_private or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "others can write to it", str(_directory))


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
    answer = None if _answer is None else _answer()
    if answer is not None:
        sock.sendall(json.dumps(answer(json.loads(received))).encode())


def _forget_in_child() -> None:
    """Be no worker: what a worker forks is not one, and its file is the parent's."""
    global _is_member, _listener
    if _listener is not None:
        _listener.close()
    _listener, _is_member = None, False


forks.in_child(_forget_in_child)

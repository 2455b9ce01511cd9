"""Hears at once when a server ends a session that nobody is using.

One thread a process sleeps in ``epoll`` until a peer hangs up, and tells whose
session it was. So a connection that died while idle is replaced before anyone
asks for it, and an acquire that skips the ping needs no look at the socket of
its own, which would cost more than all the rest of it.

Only the hang-up wakes the thread, never data. Where there is no epoll, or where
gevent took it away, nobody listens, and the pool looks for itself.
"""

import _thread
import contextlib
import logging
import select
import threading
from collections.abc import Callable

from pgdbpool import forks

logger = logging.getLogger(__name__)


class Hangups:
    """The sessions of this process that are listened for.

    Attributes:
        is_listening: whether a hang-up is heard.
        thread: the id of the thread that listens.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self.forget()

    def forget(self) -> None:
        """Start anew, as a forked child must: the thread is not in it."""
        if self._epoll is not None:
            self._epoll.close()  # the child's copy: the parent listens on
        self._epoll = None
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()  # guards the start of the thread
        self.is_listening = False
        self.thread = 0

    def listen(self, fd: int, callback: Callable[[], None]) -> bool:
        """Call ``callback`` on a thread of its own when the peer of ``fd`` hangs up.

        It must not block, and must look again whether it is so: a descriptor
        may have been closed and used anew in the meantime.

        Returns:
            Whether anyone listens.
        """
        if not hasattr(select, "epoll"):
            return False
        try:
            epoll = self.start()
            self._callbacks[fd] = callback
            # What a child still has open is still registered.
            with contextlib.suppress(FileExistsError):
                # Edge-triggered: told once, whatever becomes of the connection.
                epoll.register(fd, select.EPOLLRDHUP | select.EPOLLET)
        except (OSError, RuntimeError) as error:  # no more descriptors, or threads
            logger.debug("nobody listens to descriptor %d: %s", fd, error)
            return False
        return True

    def ignore(self, fd: int) -> None:
        """Forget a descriptor that is about to be closed."""
        if self._callbacks.pop(fd, None) is not None and self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError as error:
                logger.debug("descriptor %d was gone already: %s", fd, error)

    def start(self) -> "select.epoll":
        """Listen, also again after the thread was ended by an exception."""
        with self._lock:
            epoll = self._epoll
            if epoll is None:
                epoll = self._epoll = select.epoll()
            if not self.is_listening:
                _thread.start_new_thread(self._run, (epoll,))
                self.is_listening = True
            return epoll

    def _run(self, epoll: "select.epoll") -> None:
        self.thread = threading.get_ident()
        try:
            while True:
                for fd, _ in epoll.poll():
                    callback = self._callbacks.get(fd)
                    if callback is not None:
                        self._tell(callback)
        finally:
            if self._epoll is epoll:  # else this is a forked child's, or over
                self.is_listening = False
                self.start()

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("a hang-up could not be dealt with")


hangups = Hangups()
forks.in_child(hangups.forget)

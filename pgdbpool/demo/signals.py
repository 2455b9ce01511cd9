"""The signals that end the demo: noted, never raised.

An exception out of a signal handler could come between the start of a process
and the line that remembers it. A noted signal is looked at where everything
started has its owner: what the demo does between two looks is bounded.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

    from typing_extensions import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESTART = signal.SIGUSR1
FREEZE = signal.SIGUSR2


class Interrupted(Exception):  # noqa: N818 (the user's wish, not an error)
    """The user asked the demo to end."""


class Signals:
    """Notes signals while it is entered; for the main thread only."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self._ending: int | None = None
        self._asked: set[int] = set()
        self._previous: dict[signal.Signals, Any] = {}
        self._wakeup: tuple[int, int] | None = None
        self._previous_fd = -1

    def __enter__(self) -> Self:
        """Install the handlers; a signal ignored from outside (nohup) stays so."""
        reader, writer = self._wakeup = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for signum in (*ENDING, RESTART, FREEZE):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_fd)
        if self._wakeup is not None:
            for fd in self._wakeup:
                os.close(fd)
        self._wakeup = None

    @property
    def exit_status(self) -> int | None:
        """The exit status of who is ended by a signal; None: it goes on."""
        return None if self._ending is None else 128 + self._ending

    def check(self) -> None:
        """Go on, or raise `Interrupted` when the user asked for the end."""
        if self._ending is not None:
            raise Interrupted

    def pause(self, seconds: float) -> None:
        """Sleep, woken by any signal; then `check`."""
        self.check()
        if self._wakeup is not None:
            reader = self._wakeup[0]
            if select.select([reader], [], [], seconds)[0]:
                os.read(reader, 4096)
        self.check()

    def take(self, signum: int) -> bool:
        """Return whether `RESTART` or `FREEZE` came since the last call."""
        asked = signum in self._asked
        self._asked.discard(signum)
        return asked

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if signum in (RESTART, FREEZE):
            self._asked.add(signum)
        elif self._ending is None:
            self._ending = signum

"""What runs for the time of a block, and is gone after it."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Running(abc.ABC):
    """A server, or several: begun by a block, closed by its end or by a failed begin.

    A subclass says how, in `_begin` and `close`.
    """

    def __enter__(self) -> Self:
        """Start it and wait until it can be used. Blocks."""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it and remove what it had. Blocks."""
        self.close()

    @abc.abstractmethod
    def _begin(self) -> None:
        """Start it and wait until it can be used. Blocks."""

    @abc.abstractmethod
    def close(self) -> None:
        """End it and remove what it had; may be called twice. Blocks."""

"""A response body whose blocks are still to come: our part runs last, once."""

from __future__ import annotations

import _thread
import contextlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

    from pgdbpool.wsgi.response import Response

logger = logging.getLogger("pgdbpool.wsgi")

END: Any = object()


class Body:
    """The iterable that the server gets in place of the app's.

    Blocks are passed on as they come. At their end the transaction is committed
    and the connection released; a close before that rolls back. ``close()`` may be
    called by any thread, any number of times. Should nobody call it, the garbage
    collector gives the connection back.
    """

    __slots__ = ("_blocks", "_claims", "_response", "_source")

    def __init__(self, response: Response, source: Iterable[bytes]) -> None:
        self._response = response
        self._source: Iterable[bytes] = source
        self._blocks: Iterator[bytes] | None = None
        response.holder.stream()
        # Whoever pops it may close. A list's pop() is atomic and takes no lock.
        self._claims = [None]

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next block, as soon as the app has made it. May block.

        Raises:
            psycopg2.Error: the COMMIT failed, and the response must not end well.
        """
        response = self._response
        if response.holder.has_failed or not self._claims:
            raise StopIteration
        try:
            if self._blocks is None:
                self._blocks = iter(self._source)
            block = next(self._blocks, END)
            if block is not END:
                return response.pass_on(block)
            last = response.conclude()
        except BaseException as error:
            if response.fail(error):
                return response.refuse(error)
            raise
        if last is None:
            raise StopIteration
        return last

    def close(self) -> None:
        """Close the app's body and end the request. Blocks."""
        try:
            self._claims.pop()
        except IndexError:
            return
        source, self._source = self._source, ()
        self._blocks = None
        _end(self._response, source)

    def __del__(self) -> None:
        """Give back what nobody closed; on another thread, for this takes no lock."""
        if self._claims and self._response.holder.is_holding:
            # At the interpreter's exit there are no threads, and nothing to save.
            with contextlib.suppress(RuntimeError):
                _thread.start_new_thread(_abandon, (self._response, self._source))


def _end(response: Response, source: Iterable[bytes]) -> None:
    """Close the app's body, then do our part, whatever the first one raised."""
    try:
        close = getattr(source, "close", None)
        if close is not None:
            close()
        if response.is_finished:
            # For what the app did in its close(), after a response that stood.
            response.finish()
    except BaseException as error:
        response.fail(error)
        raise
    finally:
        response.end()


def _abandon(response: Response, source: Iterable[bytes]) -> None:
    """Do what close() would have done."""
    name = response.holder.name
    logger.warning("%s: nobody closed the body; its connection is released", name)
    try:
        _end(response, source)
    except Exception:
        logger.exception("%s: closing the body failed", name)

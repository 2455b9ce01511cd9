"""The response of one request, held back until it is known whether it may stand.

PEP 3333 lets start_response be called as late as the first block of the body.
So the app's call is kept until then, and as long as it is kept a failing COMMIT
can still become the error that the client sees.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from pgdbpool.wsgi.body import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgdbpool.wsgi.request import Request
    from pgdbpool.wsgi.rules import Environ, ExcInfo, Headers, StartResponse

logger = logging.getLogger("pgdbpool.wsgi")

WITHOUT_BODY = ("204", "304")


def _refuse_when_over(*_: object) -> NoReturn:
    raise AssertionError("the response is complete: nothing can be added to it")


class Response:
    """What the app answers, on its way to the server.

    Attributes:
        holder: the request's connection.
        status: what the app gave to start_response; empty until then.
        headers: likewise.
        has_begun: it was passed on to the server and cannot be taken back.
        is_finished: the app's body is exhausted.
    """

    status: str = ""
    headers: Headers
    has_begun = False
    is_finished = False
    _exc_info: ExcInfo = None
    _error: BaseException | None = None
    _sent = 0
    _length: int | None = None
    _is_measured = False
    _send: Callable[[bytes], object] = staticmethod(_refuse_when_over)

    def __init__(self, holder: Request, start: StartResponse) -> None:
        self.holder = holder
        self._start = start

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo = None, /
    ) -> Callable[[bytes], object]:
        """Do for the app what PEP 3333 says, but hold it back."""
        if self.has_begun:
            # The server knows whether headers were sent, and raises if so.
            self._send = self._pass_start(status, headers, exc_info)
        elif self.status and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        else:
            self._exc_info = exc_info
        self.status = status
        self.headers = headers
        self._is_measured = False
        return self.write

    def _pass_start(
        self, status: str, headers: Headers, exc_info: ExcInfo
    ) -> Callable[[bytes], object]:
        if self.holder.rules.read_your_writes is not None:
            headers = [*headers, *self.holder.announce()]
        if exc_info is None:
            return self._start(status, headers)
        return self._start(status, headers, exc_info)

    def write(self, data: bytes) -> None:
        """Send data past the body, as PEP 3333 has it. Blocks, for a COMMIT if due."""
        try:
            self._commit_if_complete(data)
        except BaseException as error:
            # Should the app swallow it, there is still no success to report.
            self._error = error
            raise
        self._sent += len(data)
        if not self.has_begun:
            self._begin()
        self._send(data)

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return what goes to the server in place of the app's ``body``. May block.

        Raises:
            psycopg2.Error: the COMMIT failed.
        """
        kind = type(body)
        if kind is list or kind is tuple:
            if self.holder.is_used:
                if self._must_refuse():
                    return self._refused(None)
                self.finish()
            self._begin()
            self.end()
            return body
        if self._may_stay(body):
            return self._answer_file(body)
        return Body(self, body)

    def _may_stay(self, body: Iterable[bytes]) -> bool:
        """Whether a body is a file that nothing of ours must follow."""
        holder = self.holder
        return (
            not holder.is_holding
            and _is_file(holder.environ, body)
            and not self._must_refuse()
        )

    def _answer_file(self, body: Iterable[bytes]) -> Iterable[bytes]:
        try:
            self._begin()
        except BaseException:
            # The server never sees it, so nobody else will.
            body.close()  # type: ignore[attr-defined]
            raise
        self.end()
        return body

    def pass_on(self, block: bytes) -> bytes:
        """Return what to send in place of a block of the body. May block.

        Raises:
            psycopg2.Error: the block completes the response, and the COMMIT failed.
        """
        if self.holder.is_used:
            if self._must_refuse():
                return self.refuse(None)
            self._commit_if_complete(block)
        self._sent += len(block)
        if not self.has_begun:
            self._begin()
        return block

    def _commit_if_complete(self, block: bytes) -> None:
        """Commit if ``block`` has the byte that completes the response. May block."""
        if not self._is_measured and self.status:
            self._is_measured = True
            self._length = self._announced()
        if self._length is not None and self._sent + len(block) >= self._length:
            self._length = None
            self.holder.settle(self.status, self.headers)

    def _announced(self) -> int | None:
        """Return how many bytes complete the response, None if it does not say."""
        if self.holder.method == "HEAD" or self.status.startswith(WITHOUT_BODY):
            return 0
        for name, value in self.headers:
            if name.lower() == "content-length":
                return int(value) if value.isdecimal() else None
        return None

    def _begin(self) -> None:
        """Pass the app's start_response call on: from now on it stands."""
        if self.has_begun or not self.status:
            return  # where it never called, the server will say so
        self.has_begun = True
        exc_info, self._exc_info = self._exc_info, None
        self._send = self._pass_start(self.status, self.headers, exc_info)

    def finish(self) -> None:
        """Commit and release: the app's body is exhausted. Blocks.

        Raises:
            psycopg2.Error: the COMMIT failed.
        """
        self.is_finished = True
        if self._error is not None:
            raise self._error
        self.holder.settle(self.status, self.headers)
        self.holder.give_all_back()

    def conclude(self) -> bytes | None:
        """Finish a body that ran out; return a block if there is one to send yet.

        Raises:
            psycopg2.Error: the COMMIT failed.
        """
        if self._must_refuse():
            return self.refuse(None)
        self.finish()
        if not self.has_begun:
            self._begin()
        return None

    def fail(self, error: BaseException) -> bool:
        """Roll back and release after ``error``. Blocks.

        Returns:
            Whether a 503 is the true answer to it, and can still be sent.
        """
        self.holder.has_failed = True
        # After an exception from outside nobody knows what the session is at,
        # but GeneratorExit only says that the client went away.
        keep = isinstance(error, (Exception, GeneratorExit))
        try:
            self.holder.blame(error)
        finally:
            self.holder.give_all_back(keep=keep)
        return not self.has_begun and keep and self.holder.may_try_again(error)

    def _must_refuse(self) -> bool:
        """Whether the app made a 500 of what should be a 503."""
        return (
            not self.has_begun
            and self.holder.is_used
            and self.status.startswith("500")
            and self.holder.may_try_again(None)
        )

    def refuse(self, error: BaseException | None) -> bytes:
        """Begin a 503 in place of the app's response; return its body. Blocks.

        Args:
            error: what the app raised; None if it answered 500.
        """
        holder = self.holder
        cause = holder.last_failure or error or "its session was lost"
        holder.has_failed = True
        holder.give_all_back()
        # Its text alone: who keeps log records shall not keep the request.
        logger.warning(
            "%s is answered 503: %s", holder.name, " ".join(str(cause).split())
        )
        refusal = holder.rules.refusal
        self.status = refusal.status
        self.headers = list(refusal.headers)
        self._exc_info = None
        self._begin()
        return b"" if holder.method == "HEAD" else refusal.text

    def _refused(self, error: BaseException | None) -> list[bytes]:
        text = self.refuse(error)
        self.end()
        return [text]

    def refused_whole(self, error: BaseException) -> list[bytes] | None:
        """End a request whose app raised before it returned a body. Blocks.

        Returns:
            The body of the 503, if that is the true answer; else None.
        """
        try:
            return self._refused(error) if self.fail(error) else None
        finally:
            self.end()

    def end(self) -> None:
        """End the request, whatever is left of it. Blocks."""
        self.holder.end()
        self._start = self._send = _refuse_when_over
        self._exc_info = self._error = None


def _is_file(environ: Environ, body: object) -> bool:
    """Whether the server wants to see this very body, to send a file by itself."""
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # mod_wsgi's and uWSGI's are functions.
    return wrapper is not None and (hasattr(body, "filelike") or hasattr(body, "read"))

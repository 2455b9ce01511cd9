"""A good HTTP client: keeps its connection, and repeats what it was told to.

It repeats a request answered 503 after its Retry-After, twice at most, and
nothing else: a 503 promises that nothing happened, any other end does not.
"""

from __future__ import annotations

import dataclasses
import enum
import http.client
import select
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

MOST_REPEATS = 2
LONGEST_RETRY_AFTER = 10.0
ANSWER_TIMEOUT = 30.0
# Well below the server's keep-alive time: who closes an idle connection first
# cannot send a request into one that the other is closing.
LONGEST_IDLE = 5.0


@dataclasses.dataclass(frozen=True)
class Call:
    """A request to be made."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response read to its end; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Ending(enum.Enum):
    """How a call ended."""

    GOOD = "good"
    FAILED = "failed"
    UNKNOWN = "unknown"  # a write whose COMMIT was cut off


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a call ended, its repeats included."""

    ending: Ending
    repeats: int
    answer: Answer | None = None
    reason: str = ""


class Client:
    """One keep-alive connection to a server; for one thread."""

    def __init__(self, host: str, port: int, timeout: float = ANSWER_TIMEOUT) -> None:
        """Take the server's address; connects at the first call."""
        self._conn = http.client.HTTPConnection(host, port, timeout=timeout)
        self._last_use = 0.0

    def send(self, call: Call) -> Answer:
        """Send a request and read its response; blocks for 30 s a read at most.

        A server may close an idle connection at any time: that is looked for
        before anything is sent, and answered by a new connection.

        Raises:
            OSError: The connection failed or was cut.
            http.client.HTTPException: What came back was no whole response.
        """
        if self._is_stale():
            self._conn.close()
        try:
            self._conn.request(call.method, call.path, call.body, dict(call.headers))
            response = self._conn.getresponse()
            body = response.read()
        except BaseException:
            self._conn.close()
            raise
        self._last_use = time.monotonic()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body)

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def _is_stale(self) -> bool:
        sock: socket.socket | None = self._conn.sock
        if sock is None:
            return False
        # Between two requests the server has nothing to say but its goodbye.
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return time.monotonic() - self._last_use > LONGEST_IDLE or bool(poll.poll(0))


def perform(
    call: Call,
    send: Callable[[Call], Answer],
    pause: Callable[[float], object],
    is_right: Callable[[Answer], bool],
) -> Outcome:
    """Make a call as a good client does, and tell how it ended.

    Args:
        call: What to ask for.
        send: Sends it once, as `Client.send` does.
        pause: Waits that many seconds before a repeat.
        is_right: Whether a 2xx is the answer to this very question.
    """
    for repeats in range(MOST_REPEATS + 1):
        try:
            answer = send(call)
        except (OSError, http.client.HTTPException) as error:
            reason = f"{call.method} {call.path}: {error!r}"
            return Outcome(Ending.FAILED, repeats, reason=reason)
        delay = retry_after(answer)
        if delay is None or repeats == MOST_REPEATS:
            break
        pause(delay)
    ending = _judge(answer, is_right)
    reason = ""
    if ending is Ending.FAILED:
        reason = f"{call.method} {call.path}: {answer.status} {answer.body[:200]!r}"
    return Outcome(ending, repeats, answer, reason)


def retry_after(answer: Answer) -> float | None:
    """Return after how many seconds to repeat, or None for "do not".

    Both forms of Retry-After, seconds and a date, as RFC 9110 has them (10.2.3).
    A server that asks for more than 10 s is not waited for.
    """
    given = answer.headers.get("retry-after", "")
    if answer.status != http.HTTPStatus.SERVICE_UNAVAILABLE or not given:
        return None
    if given.isdecimal():
        delay = float(given)
    else:
        try:
            when = parsedate_to_datetime(given)
        except ValueError:
            return None
        delay = max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    return delay if delay <= LONGEST_RETRY_AFTER else None


def _judge(answer: Answer, is_right: Callable[[Answer], bool]) -> Ending:
    if answer.headers.get("x-outcome") == "unknown":
        return Ending.UNKNOWN
    if not http.HTTPStatus.OK <= answer.status < http.HTTPStatus.MULTIPLE_CHOICES:
        return Ending.FAILED
    try:
        return Ending.GOOD if is_right(answer) else Ending.FAILED
    except (LookupError, TypeError, ValueError):
        return Ending.FAILED

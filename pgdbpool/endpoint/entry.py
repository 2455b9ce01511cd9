"""One place in the pool, what fills it, and who holds it.

An idle connection is owned by the shelf, one in use by its holder alone: the
entry keeps a weak reference. So a connection that its holder lost is collected,
which tells the pool that the place is vacant again.
"""

import math
import threading
import weakref
from types import FrameType
from typing import TYPE_CHECKING, ClassVar

from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.stack import Stack, place_of
from pgdbpool.endpoint.state import Reason, State

if TYPE_CHECKING:
    from pgdbpool.endpoint.connection import PooledConnection
    from pgdbpool.endpoint.endpoint import Endpoint
    from pgdbpool.limit import Permit


class Hold:
    """The time between an acquire and its release, and who has it.

    Attributes:
        entry: what is held; unset while its holder waits in the line.
        since: when it was asked for, then when it was given, monotonic seconds.
        thread: the id of the thread that acquired.
        request: what it is for, such as ``GET /report``; None if unknown.
        is_block: whether it ends with a block or request of its own thread,
            so that it cannot end while that thread waits.
        has_committed: something may have been committed in it.
        need: which servers may serve it; None: the pool's default.
        after: how far a standby that serves it must have replayed, bytes of WAL.
        avoided: a standby that must not serve it.
        is_reading: its transactions are READ ONLY.
        code, instruction: what acquired.
        began, waited: when its connection was given, monotonic seconds, and after how
            long; unset where nobody observes, as are the others.
        stack: who acquired, the innermost first.
        route: what its request has in common with others, or its request; None: it is
            of none.
        is_reported: a warning has named it.
    """

    entry: "Entry"
    began: float
    waited: float
    stack: Stack
    route: str | None
    is_reported: bool
    need: ClassVar["Need | None"] = None
    after: ClassVar[int | None] = None
    avoided: ClassVar["Endpoint | None"] = None
    is_reading: ClassVar[bool] = False

    __slots__ = (
        "began",
        "code",
        "entry",
        "has_committed",
        "instruction",
        "is_block",
        "is_reported",
        "request",
        "route",
        "since",
        "stack",
        "thread",
        "waited",
    )

    def __init__(
        self,
        since: float,
        frame: FrameType,
        request: str | None,
        is_block: bool,  # noqa: FBT001 - a keyword costs, on the path of every acquire
    ) -> None:
        self.since = since
        self.thread = threading.get_ident()
        self.request = request
        self.is_block = is_block
        self.has_committed = False
        # Not the frame, which would keep its variables alive, and not the line,
        # which takes long to find.
        self.code = frame.f_code
        self.instruction = frame.f_lasti

    @property
    def place(self) -> str:
        """Where it was acquired, such as ``shop/report.py:41``."""
        return place_of(self.code, self.instruction)

    def __repr__(self) -> str:
        """Return who holds, in words for a message."""
        who = f" by {self.request}" if self.request else ""
        return f"hold{who}, acquired at {self.place}"


class Reading(Hold):
    """A hold that only reads, from a standby where one qualifies.

    Args:
        since, frame, request, is_block: as of `Hold`.
        after: how far the standby must have replayed.
    """

    is_reading = True
    need = Need.PREFER_STANDBY

    __slots__ = ("after",)

    def __init__(
        self,
        since: float,
        frame: FrameType,
        request: str | None,
        is_block: bool,  # noqa: FBT001 - as `Hold`
        after: int | None = None,
    ) -> None:
        super().__init__(since, frame, request, is_block)
        self.after = after  # type: ignore[misc] # a slot


class StrictReading(Reading):
    """A hold that only reads, and never from the primary."""

    need = Need.STANDBY

    __slots__ = ()


class ReadingElsewhere(Reading):
    """A hold that reads what another server may have failed to let it read.

    Args:
        since, frame, request, is_block: as of `Hold`.
        need: which servers may serve it.
        avoided: which standby may not; None: each may.
    """

    __slots__ = ("avoided", "need")

    def __init__(
        self,
        since: float,
        frame: FrameType,
        request: str | None,
        is_block: bool,  # noqa: FBT001 - as `Hold`
        *,
        need: Need,
        avoided: "Endpoint | None",
    ) -> None:
        super().__init__(since, frame, request, is_block)
        self.need = need  # type: ignore[misc] # a slot
        self.avoided = avoided  # type: ignore[misc] # a slot


class Entry:
    """One place in an endpoint, from its connect to its closing.

    Everything but ``endpoint`` is guarded by the pool's lock.

    Attributes:
        state: who may touch the socket.
        is_heard: somebody listens for its server to hang up.
        has_begun: its connect was begun, and was not only decided.
        reference: the connection as long as it lives, whoever owns it.
        address: what its server's name led to when it was opened; None: no name.
        hold: whose it is; None when in use only while it is being released.
        generation: the endpoint's when the connect was planned.
        since: when it became idle, or when its connect was planned.
        expires_at: when it must go, monotonic seconds.
        expires_as: the reason it will go for.
        permit: of a limit that pools share; None: there is none.
    """

    __slots__ = (
        "address",
        "endpoint",
        "expires_as",
        "expires_at",
        "generation",
        "has_begun",
        "hold",
        "is_heard",
        "permit",
        "reference",
        "since",
        "state",
    )

    def __init__(self, endpoint: "Endpoint", now: float, expires_at: float) -> None:
        self.endpoint = endpoint
        self.state = State.CONNECTING
        self.has_begun = False
        self.is_heard = False
        self.reference: weakref.ref[PooledConnection] | None = None
        self.address: str | None = None
        self.hold: Hold | None = None
        self.generation = endpoint.generation
        self.since = now
        self.expires_at = expires_at
        self.expires_as = Reason.LIFETIME
        self.permit: Permit | None = None

    def expire(self, reason: Reason) -> None:
        """Make it go: an idle one at the next upkeep, a busy one at its release."""
        self.expires_at = -math.inf
        self.expires_as = reason

    @property
    def conn(self) -> "PooledConnection | None":
        """The connection, if there is one and it lives."""
        return None if self.reference is None else self.reference()

    def __repr__(self) -> str:
        """Return endpoint, state and holder in one line."""
        holder = f", {self.hold!r}" if self.hold else ""
        return (
            f"<Entry {self.endpoint.name} {self.state.name} "
            f"generation {self.generation}{holder}>"
        )

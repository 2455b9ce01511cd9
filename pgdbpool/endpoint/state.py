"""The states of an entry, the moves between them, and why an entry is closed.

A state says who may touch the socket: in ``IDLE`` nobody, in ``CONNECTING``,
``IN_USE`` and ``RESERVED`` exactly one thread. `move` is the only way from one
state to another; its caller holds the pool's lock.
"""

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgdbpool.endpoint.entry import Entry


# IntEnum because plain Enum hashes in Python, on a path that runs twice a hold.
class State(enum.IntEnum):
    """Who may touch the socket of an entry."""

    CONNECTING = 0
    IDLE = 1
    IN_USE = 2
    RESERVED = 3
    CLOSED = 4


class Reason(enum.Enum):
    """Why an entry was closed, for stats and log."""

    CONNECT_FAILED = "connect failed"
    LOST = "lost"
    DIRTY = "dirty"
    PING_FAILED = "ping failed"
    WRONG_ROLE = "wrong role"
    LIFETIME = "lifetime"
    IDLE_TIME = "idle time"
    DRAINED = "drained"
    ROTATED = "credentials"
    SHRUNK = "shrunk"
    GAVE_WAY = "another pool needed its place"
    MOVED = "its name leads elsewhere"
    ABANDONED = "abandoned"
    POOL_CLOSED = "pool closed"


MOVES: Final[dict[State, tuple[State, ...]]] = {
    State.CONNECTING: (State.IDLE, State.CLOSED),
    State.IDLE: (State.IN_USE, State.RESERVED, State.CLOSED),
    State.IN_USE: (State.IDLE, State.CLOSED),
    State.RESERVED: (State.IDLE, State.CLOSED),
    State.CLOSED: (),
}


class IllegalMoveError(AssertionError):
    """An entry was to make a move that the table does not know: a defect."""


def move(entry: "Entry", to: State) -> None:
    """Bring ``entry`` into the state ``to``; the pool's lock is held.

    Raises:
        IllegalMoveError: the table of moves has no such move.
    """
    if to not in MOVES[entry.state]:
        raise IllegalMoveError(f"{entry!r} cannot become {to.name}")
    entry.state = to

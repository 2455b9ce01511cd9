"""How a server is doing, for people and programs to look at."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.health import in_public
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import State

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class EndpointState:
    """One server of a pool at the moment it was asked for.

    Attributes:
        name: host and port.
        role: `Role.PRIMARY` or `Role.STANDBY`; None until it was heard, which of a
            single server may be never: poolers, and PostgreSQL before 14, tell none.
        state: ``up``, ``down``, ``unknown`` before the first answer, or ``astray``: a
            standby of what the primary never wrote.
        lag: seconds its data are behind the primary's; None: unknown.
        lag_bytes: WAL it has to replay yet; None: unknown.
        timeline: a primary's; None: unknown.
        round_trip: of the last probe, or with a single endpoint of the last ping,
            seconds; None before the first.
        in_use, idle, connecting: connections.
        max_size: their limit.
        weight: its share of the reads, with ``balance="weighted"``.
        last_error: what a connect or ping last failed with, without secrets; kept
            after it is over.
    """

    name: str
    role: Role | None
    state: Literal["up", "down", "unknown", "astray"]
    lag: float | None
    lag_bytes: int | None
    timeline: int | None
    round_trip: float | None
    in_use: int
    idle: int
    connecting: int
    max_size: int
    weight: float
    last_error: str | None

    @classmethod
    def of(cls, endpoint: Endpoint, max_size: int) -> "Self":
        """Return the state of an endpoint; the pool's lock is held."""
        health, standing = endpoint.health, endpoint.standing
        state: Literal["up", "down", "unknown", "astray"] = "up"
        if health.is_down:
            state = "down"
        elif standing.is_astray:
            state = "astray"
        elif not has_answered(endpoint):
            state = "unknown"
        return cls(
            name=endpoint.name,
            role=standing.role,
            state=state,
            lag=standing.lag,
            lag_bytes=standing.lag_bytes,
            timeline=standing.timeline,
            round_trip=standing.round_trip,
            in_use=endpoint.count(State.IN_USE),
            idle=endpoint.count(State.IDLE, State.RESERVED),
            connecting=endpoint.count(State.CONNECTING),
            max_size=max_size,
            weight=endpoint.weight,
            last_error=None if health.error is None else in_public(health.error),
        )


def has_answered(endpoint: Endpoint) -> bool:
    """Whether a server was reached; the pool's lock is held."""
    return endpoint.standing.role is not None or endpoint.health.has_answered

"""What an error of the pool says: how long, how full, the last cause, what to do.

Called with the pool's lock held, so that the figures belong together.
"""

from collections.abc import Sequence

import psycopg2

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import State
from pgdbpool.errors import (
    AuthenticationFailed,
    CredentialError,
    EndpointDown,
    NestedCheckout,
    NoPrimary,
    NoStandby,
    PoolClosed,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    TooManyConnections,
    TooManyRequests,
)
from pgdbpool.roster import Roster

ADVICE: dict[type[PoolError], str] = {
    PoolExhausted: "Raise max_size, or look for connections held too long.",
    EndpointDown: "Check that the server runs and can be reached from here.",
    AuthenticationFailed: "Check user, password and the server's pg_hba.conf.",
    TooManyConnections: "Lower max_size or the number of processes, or raise the "
    "server's max_connections.",
    NoPrimary: "Promote a standby, or add the server that is the primary.",
    NoStandby: "Look at the standbys, raise max_lag, or do without strict=True.",
    PoolTimeout: "Raise timeout, or look at what slows connecting down.",
}


# Seconds below which nobody has waited.
AT_ONCE = 0.001

# What comes from the server or the way to it, and not from a hook.
SERVERS = (psycopg2.OperationalError, OSError)


class Report:
    """The words for one pool's errors.

    Args:
        name: the pool's.
        roster: its state.
    """

    def __init__(self, name: str, roster: Roster) -> None:
        self._name = name
        self._roster = roster

    def closed(self) -> PoolClosed:
        """Return the error for an acquire from a pool that does not serve."""
        if self._roster.was_closed:
            return PoolClosed(f"pool {self._name!r} is closed")
        return PoolClosed(f"pool {self._name!r} is not open yet: call open()")

    def line_is_full(self, now: float) -> TooManyRequests:
        """Return the error for one waiter too many."""
        return TooManyRequests(
            f"pool {self._name!r}: {len(self._roster.line)} callers wait already, and "
            f"max_waiting allows no more ({self.fullness(now)}). Raise max_waiting, "
            "max_size, or look for connections held too long."
        )

    def deadlock(self, hold: Hold) -> NestedCheckout:
        """Return the error for an acquire that could never be served."""
        mine = [h for h in self._roster.holds() if h.thread == hold.thread]
        first = f"; this thread has a {mine[0]!r}" if mine else ""
        return NestedCheckout(
            f"pool {self._name!r}: each of its {self._roster.size()} connections is "
            f"held by a thread that waits for another{first}, and wants a second "
            f"at {hold.place}. Use the connection you have, or raise max_size."
        )

    def no_connection(self, hold: Hold, asked: float, now: float) -> PoolError:
        """Return the error for a caller who was refused, or whose time is up."""
        if not self._roster.is_open:
            return self.closed()
        kind = self._kind(hold, asked, now)
        facts = [self.fullness(now, list(self._roster.candidates(hold, now)))]
        cause: BaseException | None = None
        for endpoint in self._roster.endpoints:
            health = endpoint.health
            if kind in (NoPrimary, NoStandby):
                facts.append(f"{endpoint.name} {self._part(endpoint, now)}")
            elif kind is not PoolExhausted and (
                kind is not PoolTimeout or health.error_at >= asked
            ):
                facts.append(f"{endpoint.name} {health.describe(now)}")
                cause = cause or health.error
        asker = f" for {hold.request}" if hold.request else ""
        waited = now - asked
        within = f"within {waited:.3g} s" if waited > AT_ONCE else "to be had at once"
        advice = ADVICE[kind]
        if kind is PoolExhausted and self._roster.is_short():
            advice = "Raise the SharedLimit, or look for connections held too long."
        if isinstance(cause, CredentialError):
            advice = "Look at what provides the password."
        elif cause is not None and not isinstance(cause, SERVERS):
            advice = "Look at what your configure and check hooks do."
        error = kind(
            f"pool {self._name!r}: no connection {within}{asker} "
            f"({'; '.join(facts)}). {advice}"
        )
        error.__cause__ = cause
        return error

    def _kind(self, hold: Hold, asked: float, now: float) -> type[PoolError]:
        roster = self._roster
        refused = roster.refuses(hold, now)
        if refused is not None:
            return refused
        servers = list(roster.candidates(hold, now))
        if not servers:
            return self._why_nobody(hold)
        if roster.is_short() or all(
            e.count(State.IN_USE) >= roster.max_size for e in servers
        ):
            return PoolExhausted
        for endpoint in servers:
            if endpoint.health.is_down or self._is_silent(endpoint, asked, now):
                return endpoint.health.refusal or EndpointDown
        return PoolTimeout

    def _why_nobody(self, hold: Hold) -> type[PoolError]:
        """Return why no endpoint may serve a hold at this moment."""
        if all(e.health.is_down for e in self._roster.endpoints):
            return EndpointDown
        is_strict = self._roster.chooser.need_of(hold) is Need.STANDBY
        return NoStandby if is_strict else NoPrimary

    @staticmethod
    def _is_silent(endpoint: Endpoint, asked: float, now: float) -> bool:
        """Whether a connect has been without an answer while the caller waited."""
        return now - asked > AT_ONCE and any(
            entry.state is State.CONNECTING and now - entry.since > (now - asked) / 2
            for entry in endpoint.entries
        )

    def fullness(self, now: float, servers: Sequence[Endpoint] = ()) -> str:
        """Return how many are in use and wait, and the oldest hold.

        Args:
            now: monotonic seconds.
            servers: those that are meant; none for all.
        """
        roster = self._roster
        servers = servers or roster.endpoints
        in_use = sum(endpoint.count(State.IN_USE) for endpoint in servers)
        text = f"{in_use} of {roster.max_size * len(servers)} in use"
        connecting = sum(endpoint.count(State.CONNECTING) for endpoint in servers)
        if connecting:
            text += f", {connecting} connecting"
        if room := roster.room():
            text += f", {room}"
        if roster.line:
            text += f", {len(roster.line)} waiting"
        holds = roster.holds()
        if holds:
            text += f"; oldest, for {now - holds[0].since:.1f} s: {holds[0]!r}"
        return text

    def _part(self, endpoint: Endpoint, now: float) -> str:
        """Return what a server is to its cluster, and since when."""
        standing, health = endpoint.standing, endpoint.health
        if health.is_down:
            return health.describe(now)
        if standing.role is None:
            return "has not answered yet"
        since = f"for {now - standing.role_since:.1f} s"
        if endpoint is self._roster.monitor.primary:
            return f"has been the primary {since}"
        if standing.role is Role.PRIMARY:
            claim = f"by its own word, on timeline {standing.timeline}"
            return f"has been a primary {since}, {claim}"
        if standing.is_astray:
            return f"has been a standby {since}, of what the primary never wrote"
        behind = "unknown" if standing.lag is None else f"{standing.lag:.1f} s"
        return f"has been a standby {since}, lag {behind}"

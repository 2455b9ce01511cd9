"""Where the servers of a name are, and so which endpoints there are.

A pool begins with one endpoint for each name. When a survey of the name's addresses
finds several servers there, each gets an endpoint of its own. When the name leads to
one of them no more, that one leaves with its last connection.
"""

import math

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.host import Addresses, Host, Presence
from pgdbpool.endpoint.names import INTERVAL
from pgdbpool.endpoint.standing import Role
from pgdbpool.endpoint.state import Reason
from pgdbpool.roster import Roster


class PlacedRoster(Roster):
    """A roster that follows its servers' names; the pool's lock guards it."""

    def resolve(self, now: float) -> float:
        """Have names that are in use resolved again; return when to come again."""
        self._strike_off(now)
        if not self.is_open:
            return math.inf
        hosts = {e.host for e in self.endpoints if e.host is not None and e.entries}
        for host in hosts:
            if host.resolve_at <= now:
                host.resolve_at = math.inf  # until it was
                self.jobs.append(self._acts.resolve(host))
        return min((host.resolve_at for host in hosts), default=math.inf)

    def resolved(self, host: Host, addresses: Addresses | None, now: float) -> None:
        """Take note of where a name leads now; None: nobody could tell."""
        host.resolve_at = now + INTERVAL
        if addresses is not None and self.is_open:
            was_stale = host.is_stale(now)
            host.answered(addresses, now)
            if host.is_sure or was_stale:
                self._let_go(host, now)
            if not host.pending:
                host.presences.clear()
                self._survey(host)
        if not host.pending:
            host.is_met = True
            self._settle_down(now)

    def visited(
        self, host: Host, address: str, presence: Presence | None, now: float
    ) -> None:
        """Take note of who answers at an address; None: nobody."""
        if address in host.pending:
            host.pending.discard(address)
            host.presences[address] = presence
        if not host.pending and host.presences and self.is_open:
            self._survey(host)
            if not host.pending:
                self._place(host, now)
        elif not host.is_met and presence is not None:
            self._place_early(host, address, presence, now)

    def _survey(self, host: Host) -> None:
        for endpoint in self._named(host)[:1]:
            host.pending = set(host.visit_next())
            for address in sorted(host.pending):
                self.jobs.append(self._acts.visit(endpoint, address))

    def _named(self, host: Host) -> list[Endpoint]:
        return [e for e in self.monitor.endpoints if e.host is host]

    def _place(self, host: Host, now: float) -> None:
        """Give each server that a survey found one endpoint."""
        host.conclude()
        self._put(host, now)
        host.presences.clear()
        self._settle_down(now)

    def _place_early(
        self, host: Host, address: str, presence: Presence, now: float
    ) -> None:
        """Serve as soon as the primary has answered, whoever has not."""
        at = {entry.address for e in self._named(host) for entry in e.entries}
        if presence.finding.role is Role.PRIMARY and at <= {None, address}:
            host.is_met = True
            self._put(host, now)
            self._settle_down(now)

    def _put(self, host: Host, now: float) -> None:
        found = host.servers()
        answered = frozenset[str]().union(*found)
        named = self._named(host)
        if not found or not named:
            return
        first = named[0]
        if not first.addresses:  # it was wherever libpq found one
            first.addresses = max(found, key=lambda at: _sessions(first, at))
        owners: dict[Addresses, Endpoint] = {}
        for at in found:
            mine = (e for e in named if e.addresses & at and e not in owners.values())
            owners[at] = next(mine, None) or first.sibling()
        # What was silent stays whose it was.
        placed = {e: e.addresses - answered for e in named}
        for at, endpoint in owners.items():
            placed[endpoint] = at | placed.get(endpoint, frozenset())
        self._settle(placed, now)
        if len(self.endpoints) > 1:
            for at, endpoint in owners.items():
                endpoint.standing.system = found[at].system
                self.monitor.found(endpoint, found[at].finding, now)
            self.serve(now)

    def _settle_down(self, now: float) -> None:
        """Begin to serve, once it is known who is at the name."""
        if not self.monitor.is_settled:
            self.monitor.is_settled = all(
                endpoint.host is None or endpoint.host.is_met
                for endpoint in self.monitor.endpoints
            )
            self._regroup(list(self.endpoints), now)
            self.serve(now)
            self.plan(now)
            self.notify()

    def _let_go(self, host: Host, now: float) -> None:
        """Leave the addresses that a name leads to no more."""
        living = host.addresses
        host.known &= living
        named = self._named(host)
        for endpoint in named:
            for entry in endpoint.entries:
                if entry.address is not None and entry.address not in living:
                    entry.expire(Reason.MOVED)
        if named:
            self._settle({e: e.addresses & living for e in named}, now)

    def _settle(self, placed: dict[Endpoint, Addresses], now: float) -> None:
        """Have these endpoints of a name, at these addresses, and no others of it.

        Who has none leaves, but not the last: that one goes with the name.
        """
        stays = [e for e in placed if placed[e]] or list(placed)[:1]
        for endpoint in stays:
            endpoint.settle(placed[endpoint], is_only=len(stays) == 1)
            for entry in endpoint.entries:
                if not endpoint.is_at(entry.address):
                    entry.expire(Reason.MOVED)
        for endpoint in placed:
            if endpoint not in stays:
                endpoint.is_leaving = True
                self.condemn(endpoint, Reason.MOVED)
        new = [e for e in stays if e not in self.endpoints]
        self._regroup([*self.endpoints, *new], now)

    def _regroup(self, endpoints: list[Endpoint], now: float) -> None:
        self.endpoints = endpoints
        self.is_single = len(endpoints) == 1 and self.monitor.is_settled
        staying = [e for e in endpoints if not e.is_leaving]
        for endpoint in staying:
            endpoint.is_alone = len(staying) == 1
        if staying != list(self.monitor.endpoints):
            self.monitor.regroup(staying, now)

    def _strike_off(self, now: float) -> None:
        """Forget who has left."""
        if any(e.is_leaving and not e.entries for e in self.endpoints):
            left = [e for e in self.endpoints if e.entries or not e.is_leaving]
            self._regroup(left, now)


def _sessions(endpoint: Endpoint, addresses: Addresses) -> int:
    return sum(entry.address in addresses for entry in endpoint.entries)

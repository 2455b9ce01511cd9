"""A roster of one name, of which the test says where it leads and who is there."""

from collections.abc import Mapping

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.host import Host, Presence
from pgdbpool.endpoint.need import Need
from pgdbpool.waiters import Waiter
from tests.unit.scripted_cluster import ScriptedCluster, primary_at, standby_at

A, B, C, D = (f"192.0.2.{number}" for number in range(1, 5))

PRIMARY, STANDBY, OTHER = (
    Presence("100.5", primary_at(1000)),
    Presence("200.5", standby_at(1000)),
    Presence("300.5", standby_at(1000)),
)


class Named(ScriptedCluster):
    """A pool of one name.

    Attributes:
        where: who answers at which address.
        leads_to: what the name is resolved to.
    """

    def __init__(
        self,
        where: Mapping[str, Presence],
        *,
        need: Need | None = None,
        hosts: tuple[str, ...] = ("db",),
        is_settled: bool = True,
    ) -> None:
        super().__init__(
            *hosts,
            need=need,
            is_met=False,
            max_size=4,
            max_idle=None,
            max_lifetime=None,
        )
        assert self.endpoint.host is not None
        self.host: Host = self.endpoint.host
        if not is_settled:
            self.host.is_met = self.monitor.is_settled = self.is_single = False
        self.where = dict(where)
        self.leads_to = frozenset(where)

    def introduce(self, entry: object) -> None:
        """Say nothing: what a survey found is known."""

    def hold(self, address: str) -> Waiter:
        """Let somebody have a connection that was opened to an address."""
        waiter = self.acquire()
        for entry in self.begun:
            entry.address = address
        while self.begun:
            self.connect()
        return waiter

    def look_up(self, times: int = 1) -> list[str]:
        """Let the name be resolved, and the survey end; return what was visited at."""
        visited = []
        for _ in range(times):
            self.resolved(self.host, self.leads_to, self.now)
            self.pass_time(0.0)
            while self.visiting:
                address = self.visiting.pop(0)
                visited.append(address)
                self.visited(self.host, address, self.where.get(address), self.now)
                self.pass_time(0.0)
        return visited

    @property
    def at(self) -> list[set[str]]:
        """The addresses of each endpoint."""
        return sorted(
            map(set, (e.addresses for e in self.monitor.endpoints)), key=sorted
        )


def place_of(endpoint: Endpoint) -> tuple[str | None, str | None, str | None]:
    """Return whom a connect to an endpoint asks libpq for."""
    params = {**endpoint._params, **endpoint._place(endpoint.addresses)}
    keys = "host", "hostaddr", "target_session_attrs"
    host, addresses, attributes = (params.get(key) for key in keys)
    if addresses is not None:  # in any order
        addresses = ",".join(sorted(addresses.split(",")))
    return host, addresses, attributes

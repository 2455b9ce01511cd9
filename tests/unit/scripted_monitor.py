"""A monitor of servers of which the test says what probes find."""

from dataclasses import replace

from pgdbpool.endpoint.endpoint import Endpoint
from pgdbpool.endpoint.need import Need
from pgdbpool.endpoint.standing import Finding, Role
from pgdbpool.routing.monitor import Monitor
from pgdbpool.settings import Settings
from tests.unit.scripted_roster import START

SILENT = Finding(Role.PRIMARY)  # a server that tells its role and nothing else


class Watched:
    """A monitor of three servers, and the time.

    Args:
        wanted: what the user said a plain hold needs.

    Attributes:
        monitor: the monitor.
        endpoints: what it watches.
        now: the time, which only the test moves.
        warnings: what it told.
    """

    def __init__(self, wanted: Need | None = None) -> None:
        settings = Settings.of("", {})
        self.endpoints = [
            Endpoint({"host": host}, {}, settings) for host in ("db1", "db2", "db3")
        ]
        self.warnings: list[str] = []
        self.monitor = Monitor(self.endpoints, self.warnings.append, wanted)
        self.now = START

    def found(self, endpoint: Endpoint, finding: Finding) -> None:
        """Let a probe have found something, without taking any time."""
        finding = replace(finding, asked_at=self.now)
        self.monitor.found(endpoint, finding, self.now)

    def heard(self, endpoint: Endpoint, role: Role) -> None:
        """Let a session report a role."""
        self.monitor.heard(endpoint, role, self.now)

    def lost(self, endpoint: Endpoint) -> None:
        """Let a server be lost."""
        self.monitor.lost(endpoint, self.now)

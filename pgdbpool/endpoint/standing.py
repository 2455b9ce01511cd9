"""What is known of a server's part in its cluster: role, position, lag, pace.

Pure: facts and times come in as arguments, and the pool's lock guards every
instance. Positions are bytes of WAL since the beginning, as ``pg_lsn - '0/0'``.
"""

import enum
from dataclasses import dataclass
from typing import Final

# How much the newest ping counts in a server's pace.
PACE_WEIGHT: Final = 0.1
MOST_GROWTH: Final = 3.0
# Before that many, a server's pace is unknown: the first pings are slow.
FEWEST_PINGS: Final = 8


class Role(enum.Enum):
    """What a server is to its cluster."""

    PRIMARY = "primary"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found.

    Attributes:
        role: the server's.
        position: what it wrote, or as a standby replayed; None if it does not say.
        timeline: a primary's, which is higher after each promotion.
        seconds: how long the probe took.
        asked_at: when it was sent, monotonic seconds.
    """

    role: Role
    position: int | None = None
    timeline: int | None = None
    seconds: float = 0.0
    asked_at: float = 0.0


class Standing:
    """The facts about one server.

    Attributes:
        role: as last heard; None until there was a connection.
        role_since: since when, monotonic seconds.
        was_primary: it has been heard to be the primary.
        system: the cluster it is of, where a survey asked for that.
        is_known: probed since it was last lost; only then it may be the primary.
        position, timeline: as last found.
        lag: how many seconds its data are behind the primary's; None: unknown.
        lag_bytes: how much WAL it has to replay yet.
        found_at: when it was last probed, monotonic seconds.
        is_astray: a standby of what the primary never wrote, or wrote off.
        round_trip: how long the last probe took, seconds; of a single server, which is
            not probed, the last ping.
        pace: how long it takes to answer a ping, seconds, the latest counting most;
            0: unknown.
        latest, pings: what it is made of.
        probe_at: when to probe next, monotonic seconds.
        returned_at: when it came back after it was lost.
    """

    __slots__ = (
        "found_at",
        "is_astray",
        "is_known",
        "lag",
        "lag_bytes",
        "latest",
        "pace",
        "pings",
        "position",
        "probe_at",
        "returned_at",
        "role",
        "role_since",
        "round_trip",
        "system",
        "timeline",
        "was_primary",
    )

    def __init__(self) -> None:
        self.role: Role | None = None
        self.role_since = 0.0
        self.was_primary = False
        self.system: str | None = None
        self.is_known = False
        self.position: int | None = None
        self.timeline: int | None = None
        self.found_at = 0.0
        self.is_astray = False
        self.lag: float | None = None
        self.lag_bytes: int | None = None
        self.round_trip: float | None = None
        self.pace = self.latest = 0.0
        self.pings = 0
        self.probe_at = 0.0
        self.returned_at: float | None = None

    def heard(self, role: Role, now: float) -> None:
        """Take note of the role that a session reports."""
        if role is not self.role:
            self.role, self.role_since = role, now
            self.was_primary |= role is Role.PRIMARY
            self.lag = self.lag_bytes = None

    def found(self, finding: Finding, now: float) -> None:
        """Take note of a probe."""
        self.heard(finding.role, now)
        self.is_known = True
        self.found_at = now
        self.position = finding.position
        self.timeline = finding.timeline
        self.round_trip = finding.seconds
        if finding.role is Role.PRIMARY:
            self.lag, self.lag_bytes = 0.0, 0

    def lost(self) -> None:
        """What is known may be so no more: it is probed before it is relied on."""
        self.is_known = False
        self.probe_at = 0.0
        self.returned_at = None

    def answered(self, seconds: float) -> None:
        """Take note of how long a ping took.

        Not a hold: those differ by what is asked, and one long report would keep
        others away. May be called without the lock: a lost one does no harm.
        """
        self.pings += 1
        if self.pings == 1:
            self.latest = seconds
        # One hiccup is no pace.
        most = self.latest * MOST_GROWTH
        self.latest += (min(seconds, most) - self.latest) * PACE_WEIGHT
        if self.pings >= FEWEST_PINGS:
            self.pace = self.latest

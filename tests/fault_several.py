"""The seeded faults of several servers: which there are, who is what, who serves."""

from tests.fault_table import Fault

PLANNING = "planning.py"
CENSUS = "census.py"
HOSTS = "routing/hosts.py"
MONITOR = "routing/monitor.py"
CHOOSE = "routing/choose.py"

SEVERAL_SERVERS = [
    Fault(
        "routing/choose.py",
        "if endpoint is hold.avoided:",
        "if False:",
        "what is read again is read elsewhere",
    ),
    Fault(
        HOSTS,
        "if len(ports) not in (0, 1, number):",
        "if len(ports) > number:",
        "whom a port is for is not guessed",
    ),
    Fault(
        HOSTS,
        "ports * number if len(ports) == 1 else",
        "",
        "one port is for all hosts",
    ),
    Fault(
        HOSTS,
        'params[ATTRIBUTES] = "any"',
        "pass",
        "libpq does not see to the role of one of several",
    ),
    Fault(
        HOSTS,
        "if len({params.get(key) for params in several}) > 1:",
        "if False:",
        "the endpoints of a pool are one cluster",
    ),
    Fault(HOSTS, "if len(set(places)) <", "if 0 >", "no server is named twice"),
    Fault(
        HOSTS, "if len(meant) != 1:", "if not meant:", "a weight is for one endpoint"
    ),
    Fault(
        MONITOR,
        "standing.role is Role.PRIMARY and standing.is_known",
        "standing.role is Role.PRIMARY",
        "nobody is the primary before it was probed",
    ),
    Fault(
        MONITOR,
        "max([self._highest_timeline, *timelines])",
        "max([0, *timelines])",
        "an old timeline is never written to again",
    ),
    Fault(
        MONITOR,
        "if self.primary not in chosen:",
        "if True:",
        "of two equal primaries the first stays",
    ),
    Fault(
        MONITOR,
        "        if claim in self._doubted:\n            return\n",
        "",
        "a doubtful primary is told of once",
    ),
    Fault(
        MONITOR,
        "elif self.leaderless_since is None:",
        "else:",
        "the grace of writers counts from the first moment",
    ),
    Fault(
        MONITOR,
        "while self._positions and position < self._positions[-1]:",
        "while False:",
        "a promotion to a lower position is no lag",
    ),
    Fault(
        MONITOR,
        "elif reached == 0 and len(self._positions) < HISTORY:",
        "elif False:",
        "who is behind all that is known may be hours behind",
    ),
    Fault(
        MONITOR,
        "self._times[max(reached - 1, 0)]",
        "self._times[reached]",
        "lag is never told smaller than it is",
    ),
    Fault(
        MONITOR,
        "if reached == len(self._positions):",
        "if False:",
        "where nothing is written there is no lag",
    ),
    Fault(
        MONITOR,
        "return SHORT_INTERVAL if self.primary is None else INTERVAL",
        "return INTERVAL",
        "without a primary all are asked often",
    ),
    Fault(
        MONITOR,
        "if not endpoint.count(State.RESERVED):",
        "if True:",
        "a frozen server takes one connection to probe it",
    ),
    Fault(
        CHOOSE,
        "if health.unreachable_since or (",
        "if (",
        "who is down serves no read",
    ),
    Fault(
        CHOOSE,
        "standing.lag is None or standing.lag > limit",
        "standing.lag is not None and standing.lag > limit",
        "an unknown lag is too much",
    ),
    Fault(
        CHOOSE,
        "(standing.position or 0) < after",
        "(standing.position or 0) < 0",
        "who wrote reads what was written",
    ),
    Fault(
        CHOOSE,
        "if not is_served and need is Need.PREFER_STANDBY",
        "if not is_served",
        "who is strict never reads from the primary",
    ),
    Fault(
        CHOOSE,
        "return busy * pace / others",
        "return busy",
        "a slow standby gets little",
    ),
    Fault(
        CHOOSE,
        "if chance % 1.0 < EXPLORED:",
        "if False:",
        "who was slow may show that it is not any more",
    ),
    Fault(
        CHOOSE,
        "endpoint.count(State.IN_USE) < FIRST_HOLDS * 2 ** (now - since)",
        "True",
        "who comes back begins slowly",
    ),
    Fault(
        "endpoint/standing.py",
        "if self.pings >= FEWEST_PINGS:",
        "if True:",
        "the first pings say nothing of a server",
    ),
    Fault(
        CENSUS,
        "hold is not None and not hold.is_reading",
        "hold is not None",
        "a connection is renewed only for who writes",
    ),
    Fault(
        CENSUS,
        "if self.is_single or self.chooser.need_of(hold) is not Need.PRIMARY:",
        "if self.is_single:",
        "without a primary readers are not refused",
    ),
    Fault(
        CENSUS,
        "since is None or grace is None or now - since < grace",
        "since is None or grace is None",
        "within the grace writers wait for a primary",
    ),
    Fault(
        CENSUS,
        "(one for one in since if now - one < grace)",
        "since",
        "a standby that is down does not hasten upkeep",
    ),
    Fault(
        "roster.py",
        "entry.endpoint.standing.probe_at = math.inf",
        "pass",
        "one probe at a time is under way",
    ),
    Fault(
        "roster.py",
        "if not self.is_single and endpoint.standing.probe_at <= now:",
        "if False:",
        "with all in use the next release probes",
    ),
    Fault(
        "roster.py",
        "entry.since = since",
        "pass",
        "a probe is no use of a connection",
    ),
    Fault(
        "roster.py",
        "if entry.state is not State.RESERVED:",
        "if False:",
        "the answer to a probe given up changes nothing",
    ),
    Fault(
        "roster.py",
        "self.serve(now)\n        self.plan(now)\n\n    def probe_later",
        "self.plan(now)\n\n    def probe_later",
        "a promotion serves who waits",
    ),
    Fault(
        "upkeep.py",
        "if entry.endpoint.health.refusal is None:",
        "if True:",
        "a refused login is no lost primary",
    ),
    Fault(
        "upkeep.py",
        "            self.monitor.hurry(now)\n",
        "            pass\n",
        "a new primary is found at once",
    ),
    Fault(
        PLANNING,
        "is_of_interest = not endpoint.entries or",
        "is_of_interest = False and",
        "all servers are asked who they are",
    ),
    Fault(
        PLANNING,
        "not endpoint.entries or self.monitor.primary is None",
        "not endpoint.entries",
        "a long hold keeps no primary from being found",
    ),
    Fault(
        "upkeep.py",
        "            or endpoint.health.retry_at <= now",
        "            or False",
        "upkeep does not come for a connect that nobody wants",
    ),
    Fault(
        "endpoint/host.py",
        "living <= LOOPBACK or ",
        "",
        "the two addresses of localhost are one",
    ),
    Fault(
        "endpoint/host.py",
        "if new - self.presences.keys():\n            return new -",
        "if living - self.presences.keys():\n            return living -",
        "an address where nobody answers is visited alone",
    ),
    Fault(
        "endpoint/host.py",
        "found.setdefault(present.started,",
        "found.setdefault(address,",
        "two addresses of one server are one endpoint",
    ),
    Fault(
        "endpoint/host.py",
        "return len(self._answers) == ANSWERS",
        "return True",
        "a name that answers by turns costs no connection",
    ),
    Fault(
        "whereabouts.py",
        "host.resolve_at = math.inf",
        "host.resolve_at = now",
        "a name is not resolved while it is",
    ),
    Fault(
        "whereabouts.py",
        "if not host.pending:\n            host.presences.clear()",
        "if True:\n            host.presences.clear()",
        "one survey at a time",
    ),
    Fault(
        "whereabouts.py",
        "host.known |= answered",
        "pass",
        "who is known is not visited again",
    ),
    Fault(
        "whereabouts.py",
        "max(found, key=lambda at: _sessions(first, at))",
        "min(found, key=lambda at: _sessions(first, at))",
        "the first keeps its connections",
    ),
    Fault(
        "whereabouts.py",
        "e.addresses - answered for e in named",
        "e.addresses for e in named",
        "an address that became another's is its",
    ),
    Fault(
        "whereabouts.py",
        "host.known &= living",
        "pass",
        "an address that came back is visited",
    ),
    Fault(
        "whereabouts.py",
        "or list(placed)[:1]",
        "or []",
        "the last of a name goes where the name goes",
    ),
    Fault(
        "whereabouts.py",
        "endpoint.is_leaving = True",
        "pass",
        "who has left is not chosen",
    ),
    Fault(
        "whereabouts.py",
        "e for e in self.endpoints if e.entries or not e.is_leaving",
        "e for e in self.endpoints if not e.is_leaving",
        "a connection of who left can be put back",
    ),
    Fault(
        "whereabouts.py",
        "endpoint.is_alone = len(staying) == 1",
        "endpoint.is_alone = True",
        "libpq chooses no server where the pool does",
    ),
    Fault(
        "planning.py",
        "or endpoint.is_leaving",
        "or False",
        "nothing is opened to who is leaving",
    ),
    Fault(
        "routing/monitor.py",
        "Need.PRIMARY if was_primary else Need.ANY",
        "Need.ANY",
        "a plain hold has the primary of a name",
    ),
    Fault(
        "routing/monitor.py",
        "if self.primary is None and all(map(_is_met, self.endpoints)):",
        "if self.primary is None:",
        "lag is unknown before the primary has answered",
    ),
    Fault(
        "routing/monitor.py",
        "    self._measure_lag(standby, now)\n\n    def _note",
        "    pass\n\n    def _note",
        "who is furthest makes the others late",
    ),
]

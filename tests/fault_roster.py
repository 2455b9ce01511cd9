"""The seeded faults of what decides: the roster and its upkeep."""

from tests.fault_several import SEVERAL_SERVERS
from tests.fault_table import Fault

PLANNING = "planning.py"
CENSUS = "census.py"

ONE_SERVER = [
    Fault(
        "roster.py",
        "if entry.expires_at > now:",
        "if True:",
        "who is too old is not given",
    ),
    Fault(
        "roster.py",
        'settings.order == "lifo"',
        'settings.order == "fifo"',
        "the newest idle connection serves first",
    ),
    Fault(
        "roster.py",
        "if entry.hold is not hold:",
        "if entry.hold is None:",
        "a second release touches nothing",
    ),
    Fault(
        "roster.py",
        "            or entry.generation != endpoint.generation\n",
        "",
        "what was condemned goes at its release",
    ),
    Fault(
        "roster.py",
        "elif self.line:\n            self._serve_next",
        "elif False:\n            self._serve_next",
        "nobody waits while something is idle",
    ),
    Fault(
        "roster.py", "self.line[0], now", "self.line[-1], now", "first come is first"
    ),
    Fault("roster.py", "        hold.since = now\n", "", "waiting is not holding"),
    Fault(
        "roster.py",
        "self.jobs.append(self._closing(entry, conn, reason))",
        "pass",
        "what is retired is closed",
    ),
    Fault(
        "roster.py",
        "if is_of_it and entry.generation == endpoint.generation:",
        "if is_of_it:",
        "an old loss condemns nothing new",
    ),
    Fault(
        "endpoint/endpoint.py",
        "self.generation += 1",
        "self.generation += 0",
        "a loss condemns its generation",
    ),
    Fault(
        PLANNING,
        "room = self.max_size - size",
        "room = self.max_size - size + 1",
        "max_size is never exceeded",
    ),
    Fault(
        PLANNING,
        "wanted = waiting - connecting",
        "wanted = waiting",
        "each waiter has one connect",
    ),
    Fault(
        PLANNING,
        "connecting == 0 and now >= health.retry_at",
        "connecting == 0",
        "a prober pauses between tries",
    ),
    Fault(
        PLANNING,
        "connecting == 0 and now >= health",
        "now >= health",
        "there is one prober at a time",
    ),
    Fault(
        PLANNING,
        "MOST_CONNECTING - connecting",
        "MOST_CONNECTING",
        "few connect at a time",
    ),
    Fault(
        PLANNING,
        "max(wanted, self.min_size - size)",
        "max(wanted, self.min_size)",
        "no more than min_size are opened unasked",
    ),
    Fault(
        "roster.py",
        "if entry.state is not State.CONNECTING or not self.is_open:",
        "if not self.is_open:",
        "a late connect is not put in twice",
    ),
    Fault(
        "roster.py",
        "            self.serve(now)\n        self.plan(now)",
        "            self.serve(now)",
        "the first success begins the other connects",
    ),
    Fault(
        "roster.py",
        "        endpoint.health.connected()\n",
        "",
        "a success ends an outage",
    ),
    Fault(
        "upkeep.py",
        "        self._refuse(now)\n",
        "",
        "who waits when the grace ends is told to go",
    ),
    Fault(
        CENSUS,
        "health.refusal and not endpoint.entries",
        "health.refusal",
        "behind living connections callers wait",
    ),
    Fault(
        "upkeep.py",
        "len(entry.endpoint.entries) > self.min_size",
        "len(entry.endpoint.entries) >= self.min_size",
        "the last min_size stay, however long they are idle",
    ),
    Fault(
        CENSUS,
        "            and entry.hold.is_block\n",
        "",
        "what getconn gave can end in another thread",
    ),
    Fault(
        CENSUS,
        "if not served:",
        "if True:",
        "who can still be served makes no deadlock",
    ),
    Fault(
        "upkeep.py",
        "self.was_closed = True\n        self.line.dismiss()",
        "self.was_closed = True",
        "closing tells who waits to go",
    ),
    Fault(
        "roster.py",
        "elif conn is None or (entry.state is IDLE and conn not in endpoint.shelf):",
        "elif conn is None:",
        "an abandoned entry is taken back",
    ),
    Fault(
        "roster.py",
        "        entry.expire(Reason.LOST)\n",
        "",
        "a busy session that hung up goes at its release",
    ),
    Fault(
        "upkeep.py",
        "while endpoint.shelf and len(endpoint.entries) > max_size:",
        "if endpoint.shelf and len(endpoint.entries) > max_size:",
        "shrinking closes all idle ones that are too many",
    ),
    Fault(
        "roster.py",
        "            or len(endpoint.entries) > self.max_size\n",
        "",
        "after a shrink, what is too many goes at its release",
    ),
    Fault(
        PLANNING,
        "(health.is_down and self.is_filling)",
        "health.is_down",
        "a pool told to open nothing does not probe",
    ),
    Fault(
        "upkeep.py",
        "            not self.is_open\n            or not endpoint.health",
        "            not endpoint.health",
        "nothing is due in a closed pool",
    ),
    Fault(
        "upkeep.py",
        "or endpoint.count(State.CONNECTING)\n            or endpoint.health",
        "or endpoint.health",
        "nothing is due while a probe is under way",
    ),
    Fault(
        "upkeep.py",
        "max(entry.expires_at, now + 1.0)",
        "entry.expires_at",
        "upkeep comes once a second at most for what is in use",
    ),
    Fault(
        "upkeep.py",
        "entry.endpoint.health.connect_failed(error, now)\n        self.monitor",
        "self.monitor",
        "a connect that is given up counts as a failure",
    ),
]

ROSTER = [*ONE_SERVER, *SEVERAL_SERVERS]

"""The seeded faults of a pool that is observed."""

from tests.fault_table import Fault

OBSERVED_FILE = "observed.py"
HISTOGRAMS = "histograms.py"
SNAPSHOT = "snapshot.py"

OBSERVED = [
    Fault(HISTOGRAMS, "bisect_left(", "bisect_right(", "a bound belongs to its bucket"),
    Fault(
        HISTOGRAMS,
        "and len(self._routes) >= MOST_ROUTES:",
        "and False:",
        "routes are bounded",
        needs_server=True,
    ),
    Fault(
        HISTOGRAMS,
        "if len(self._known) >= MOST_REQUESTS:",
        "if False:",
        "what finds a route again is bounded",
    ),
    Fault(HISTOGRAMS, "|[^/]{41,})", ")", "a token in a path is no route"),
    Fault(
        "endpoint/stack.py",
        "return _short_stack_of(frame)",
        "return NO_STACK",
        "a short stack is told as well",
    ),
    Fault(
        OBSERVED_FILE,
        "hold.is_reported = True",
        "pass",
        "a leak is told of once",
        needs_server=True,
    ),
    Fault(
        OBSERVED_FILE,
        "if now + self._patience < self._upkeep_at:",
        "if False:",
        "a leak is told of in time",
        needs_server=True,
    ),
    Fault(
        OBSERVED_FILE,
        "due = min(due, ends)",
        "pass",
        "a second leak is told of as well",
        needs_server=True,
    ),
    Fault(
        OBSERVED_FILE,
        "self.release(conn, hold, keep=False)\n            raise",
        "raise",
        "an observer that fails costs no connection",
        needs_server=True,
    ),
    Fault(
        SNAPSHOT,
        "bool(has_answered) and not endpoint.health.is_down",
        "bool(has_answered)",
        "a server that is down is not ready",
        needs_server=True,
    ),
    Fault(
        SNAPSHOT,
        "saturated = bool(up) and (is_full or roster.is_short())",
        "saturated = False",
        "a pool whose connections are all held is saturated",
        needs_server=True,
    ),
]

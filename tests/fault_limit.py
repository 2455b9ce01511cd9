"""The seeded faults of a limit that pools share."""

from tests.fault_table import Fault

LIMIT = "limit.py"
SHARING = "sharing.py"

SHARED = [
    Fault(LIMIT, "<= turn:", "< math.inf:", "who asked first has the next place"),
    Fault(LIMIT, "self._free -= 1", "pass", "a place that is taken counts"),
    Fault(
        LIMIT,
        "elif len(wants) <= self._going:",
        "elif False:",
        "for what is being closed nothing else is closed",
    ),
    Fault(
        LIMIT,
        "member = min(idle, key",
        "member = max(idle, key",
        "what has been idle for longest makes room",
    ),
    Fault(
        LIMIT,
        "self._is_settling = False\n            raise",
        "raise",
        "an exception from outside stops nobody else",
    ),
    Fault(
        LIMIT,
        "if member.is_at_work():",
        "if False:",
        "a finalizer enters no other pool",
    ),
    Fault(
        LIMIT,
        "if self.is_taken and self._era is",
        "if self._era is",
        "a place is left once",
    ),
    Fault(
        LIMIT,
        "if self.is_taken and self._era is limit._era:",
        "if self.is_taken:",
        "what the parent had open is not the child's",
    ),
    Fault(
        SHARING,
        "if line is None or _is_heard_out(line, patience):",
        "if True:",
        "a place is free when the server has seen the session go",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "if wanted_since < self._asked_since():",
        "if False:",
        "a release serves who has waited for longest, in whichever pool",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "if wanted_since < self._asked_since():",
        "if wanted_since < math.inf:",
        "who waits in its own pool for longer goes before",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "self._limit.forgo(self._pool)",
        "pass",
        "who waited in vain costs nobody a connection",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "elif not is_connecting:",
        "elif False:",
        "what a holder lost keeps no place",
        needs_server=True,
    ),
]

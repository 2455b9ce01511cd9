"""The seeded faults of a limit that pools share."""

from tests.fault_table import Fault

LIMIT = "limit.py"
SHARING = "sharing.py"

SHARED = [
    Fault(LIMIT, "<= turn:", "< math.inf:", "who asked first has the next permit"),
    Fault(LIMIT, "self._free -= 1", "pass", "a permit that is taken counts"),
    Fault(
        LIMIT,
        "if not is_free and len(wants) <= self._going:",
        "if False:",
        "for what is being closed nothing else is closed",
    ),
    Fault(
        LIMIT,
        "(since := member.idle_since()) < oldest:",
        "(since := member.idle_since()) < math.inf:",
        "what has been idle for longest makes room",
    ),
    Fault(
        LIMIT,
        "finally:\n            if self._settler is me:",
        "finally:\n            if False:",
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
        "limit._going -= self.is_going  # noqa: SLF001\n            self.is_taken",
        "limit._going -= self.is_going  # noqa: SLF001\n            self.is_going",
        "a permit is left once",
    ),
    Fault(
        LIMIT,
        "if self._wants.get(pool) is want:",
        "if False:",
        "who was served and wants no more does not stand in the way",
    ),
    Fault(
        SHARING,
        "is_over = _is_heard_out(line, SHORT_FAREWELL)",
        "is_over = True",
        "a permit is free when the server has seen the session go",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "if left <= 0:",
        "if False:",
        "a server that always has more to say is not listened to for ever",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "if self._limit.is_owed_since(self._pool) < self._asked_since():",
        "if False:",
        "a release serves who has waited for longest, in whichever pool",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "if self._limit.is_owed_since(self._pool) < self._asked_since():",
        "if self._limit.is_owed_since(self._pool) < math.inf:",
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
        "what a holder lost keeps no permit",
        needs_server=True,
    ),
    Fault(
        LIMIT,
        "if len(self._wants) - (pool in self._wants) <= self._going:",
        "if False:",
        "what is being closed is for who wanted first",
        needs_server=True,
    ),
    Fault(
        LIMIT,
        "others.pop(pool, None)",
        "pass",
        "a pool takes no permit from itself",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "since += PATIENCE",
        "pass",
        "busy pools do not take permits from each other all the time",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "and not any(e.health.is_down for e in self.endpoints)",
        "",
        "who was refused has a permit made free for finding out",
        needs_server=True,
    ),
    Fault(
        SHARING,
        "if since is None and endpoint.health.is_down:",
        "if False:",
        "a server that is down and nobody asks for takes no permit",
        needs_server=True,
    ),
    Fault(
        "planning.py",
        "since = asked if hold is None",
        "since = now if hold is None",
        "nobody wants a permit for a server that nobody asks for",
        needs_server=True,
    ),
]

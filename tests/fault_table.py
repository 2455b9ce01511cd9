"""The seeded faults: one wrong line each, and the promise that it breaks."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One wrong line.

    Attributes:
        file: below the package.
        old: what stands there, once in the file.
        new: what stands there instead.
        breaks: the promise that does not hold any more.
        needs_server: whether only a test with a server can notice.
    """

    file: str
    old: str
    new: str
    breaks: str
    needs_server: bool = False


STATE = "endpoint/state.py"
HEALTH = "endpoint/health.py"
ENDPOINT = "endpoint/endpoint.py"
ENTRY = "endpoint/entry.py"
SESSION = "endpoint/session.py"
CLEANING = "endpoint/cleaning.py"
MULTIPLEXED = "endpoint/multiplexed.py"

PURE = [
    Fault(
        STATE,
        "State.IN_USE: (State.IDLE, State.CLOSED)",
        "State.IN_USE: (State.IDLE, State.RESERVED, State.CLOSED)",
        "what is in use is never checked by the pool",
    ),
    Fault(STATE, "not in MOVES[entry.state]", "not in MOVES", "illegal moves raise"),
    Fault(
        HEALTH,
        "elif self.unreachable_since is None:",
        "else:",
        "an outage counts from its first failure",
    ),
    Fault(HEALTH, "now - since >= grace", "now - since > grace", "grace 0 is no grace"),
    Fault(
        HEALTH,
        "self.unreachable_since = None\n        self.refusal = None",
        "self.unreachable_since = None",
        "a success ends a refusal",
    ),
    Fault(
        HEALTH, "min(LONGEST_PAUSE", "max(LONGEST_PAUSE", "pauses begin short and end"
    ),
    Fault(HEALTH, ".with_traceback(None)", "", "a kept error keeps no frames alive"),
    Fault(HEALTH, "uniform(0.5, 1.0)", "uniform(1.0, 1.5)", "no pause is over 2 s"),
    Fault("waiters.py", "self.appendleft(", "self.append(", "bad luck keeps its place"),
    Fault("waiters.py", "if not self.is_awake:", "if True:", "a wake happens once"),
    Fault("waiters.py", "max(seconds, 0.0)", "seconds", "no time is no sleep"),
    Fault(
        ENDPOINT,
        "self.entries.discard(entry)",
        "pass",
        "what is closed makes room",
    ),
    Fault(
        ENDPOINT,
        "uniform(1 - LIFETIME_JITTER, 1)",
        "uniform(1, 1 + LIFETIME_JITTER)",
        "no lifetime is longer than the setting",
    ),
    Fault(
        ENDPOINT,
        "max(seconds, 2) * hosts",
        "max(seconds, 2)",
        "each of several hosts may take its time",
    ),
    Fault(
        ENDPOINT,
        'if "service" in params or "PGSERVICE" in os.environ:',
        'if "service" in params:',
        "a service file is not overruled",
    ),
    Fault(
        "endpoint/stack.py",
        "if start > instruction:",
        "if False:",
        "a hold knows its place",
    ),
    Fault(
        "endpoint/identity.py",
        "room = LONGEST_NAME - len(suffix)",
        "room = LONGEST_NAME",
        "a long name never pushes the token out",
    ),
    Fault(
        "settings.py",
        'values.setdefault("grace", timeout)',
        "pass",
        "grace is the timeout unless given",
    ),
    Fault(
        "settings.py",
        "max(0.1, min(2.0, timeout / 2))",
        "min(2.0, timeout / 2)",
        "a timeout of zero leaves time for a ping",
    ),
    Fault(
        "checks.py",
        "if math.isnan(seconds) or seconds < 0:",
        "if seconds < 0:",
        "NaN is no duration",
    ),
    Fault(
        "checks.py",
        "if isinstance(value, bool) or not isinstance(value, (int, float)):",
        "if not isinstance(value, (int, float)):",
        "True is no duration",
    ),
    Fault(
        "parameters.py",
        "    if params is None:\n",
        "    try:\n        driver.parse_dsn(dsn)\n    except Exception:\n",
        "no error is chained to one that quotes the DSN",
    ),
    Fault(
        "parameters.py",
        "(dsn.startswith(SCHEMES) and _is_torn(dsn))",
        "False",
        "no part of a password is taken for a database",
    ),
    Fault(
        "settings.py",
        'variables of libpq.",\n        repr=False,',
        'variables of libpq.",\n        repr=True,',
        "no repr has the password",
    ),
    Fault(
        "settings.py",
        "LONGEST_PING if timeout is None else max(0.1, timeout)",
        "max(0.1, min(2.0, (timeout or 4.0) / 2))",
        "a ping keeps its place in a pooler's line",
    ),
    Fault(
        "checks.py",
        'if via == "transaction-pooler" and reset == "session":',
        "if False:",
        "no session is reset behind a transaction pooler",
    ),
    Fault("parameters.py", "== [name]", "", "a parameter unknown to libpq is refused"),
    Fault("watchdog.py", "if when <= now:", "if when < now:", "what is due is fired"),
    Fault(
        "watchdog.py",
        "if when < self._next or self._alarm is None:",
        "if self._alarm is None:",
        "an earlier deadline is not slept past",
    ),
    Fault(
        "watchdog.py",
        "with self._firing:\n            return False",
        "return False",
        "who cancels too late waits until the firing is over",
    ),
    Fault(
        "watchdog.py",
        "                    self._alarm = None\n",
        "                    pass\n",
        "a thread that died is started again",
    ),
    Fault(
        "watchdog.py",
        "if self._alarm is None and self._deadlines:",
        "if False:",
        "a thread that dies leaves no deadline behind",
    ),
    Fault(
        "watchdog.py",
        "self._next = math.inf\n        now =",
        "now =",
        "the thread sleeps when nothing is due",
    ),
    Fault(
        "watchdog.py",
        "        self._deadlines.clear()\n",
        "",
        "a child has none of its parent's deadlines",
    ),
    Fault(
        "watchdog.py",
        "error is None or isinstance(error, psycopg2.Error):",
        "error is None or isinstance(error, BaseException):",
        "what the outside raised passes through",
    ),
    Fault(
        "watchdog.py",
        "fileno=os.dup(conn.fileno())",
        "fileno=conn.fileno()",
        "the descriptor stays its owner's",
    ),
    Fault("report.py", "error.__cause__ = cause", "pass", "the cause is chained"),
    Fault(
        "report.py",
        ">= roster.max_size for",
        "> roster.max_size for",
        "a pool that is full says so",
    ),
    Fault(
        "stats.py",
        '"returns_bad": self.returns_bad',
        '"returns_bad": self.connections_lost',
        "every counter is told under its name",
    ),
    Fault(
        "__init__.py",
        "import pgdbpool.errors  #",
        "#",
        "without the driver it is said what to install",
    ),
]

WITH_SERVER = [
    Fault(*fault, needs_server=True)
    for fault in (
        (
            "releasing.py",
            "isinstance(error, (Exception, GeneratorExit))",
            "isinstance(error, BaseException)",
            "what was interrupted is closed",
        ),
        (
            "block.py",
            "elif conn.hold is hold",
            "if conn.hold is hold",
            "a block that raises is rolled back",
        ),
        (
            "keeper.py",
            "os.dup2(null, fd)",
            "pass",
            "a child touches no socket of its parent",
        ),
        (
            "connecting.py",
            "vacated = functools.partial(_on_vacated, weakref.ref(self), entry)",
            "vacated = None",
            "a connection that its holder lost makes room",
        ),
        (
            SESSION,
            "if conn.autocommit:\n        # psycopg2 believes",
            "if False:\n        # psycopg2 believes",
            "what an SQL BEGIN opened in autocommit is ended",
        ),
        (
            SESSION,
            "if status == FAILED:",
            "if False:",
            "the commit of a failed transaction is an error",
        ),
        (
            "endpoint/preparing.py",
            "if not isinstance(conn, MultiplexedConnection):",
            "if True:",
            "a transaction pooler hears nothing of a new connection",
        ),
        (
            SESSION,
            "if is_reading and not (conn.autocommit and",
            "if is_reading and not (False and",
            "no hold for reading makes a pooler's session read only",
        ),
        (
            MULTIPLEXED,
            "if parameter in OUTDATED",
            "if False",
            "behind a pooler BEGIN overrules no default of the administrator",
        ),
        (
            MULTIPLEXED,
            "            super().set_session(**given)\n            given = {}\n",
            "",
            "a default is not SET",
        ),
        (
            MULTIPLEXED,
            "        self.autocommit = False\n",
            "",
            "a release behind a pooler undoes autocommit first",
        ),
        (
            CLEANING,
            "and not (conn.cursors and session.open_cursors(conn))\n",
            "\n",
            "a cursor kept too long reads no rows of another request",
        ),
        (
            SESSION,
            "            driver.connection.rollback(conn)\n        if (error",
            "            pass\n        if (error",
            "after a refused COMMIT the driver knows that nothing is open",
        ),
        (
            SESSION,
            "in FAILS_BEGIN",
            "in ()",
            "a COMMIT that was cancelled along with a BEGIN is unknown",
        ),
        (
            "releasing.py",
            "if is_clean and conn.is_renewed and not roster.is_wanted(conn, now):",
            "if False:",
            "a transaction begun for nobody is ended",
        ),
        (
            "holding.py",
            "if conn.pinged_for is not conn.hold:",
            "if conn.pinged_for is None:",
            "a ping is for one hold",
        ),
    )
]

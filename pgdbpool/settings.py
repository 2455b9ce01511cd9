"""The settings of a pool: frozen, checked once, documented at the field.

Durations are seconds as float; ``None`` means no limit and zero means zero.
A wrong setting is a `SettingsError` that names it, never silently corrected.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pgdbpool.auth.provider import Credential, Provider, as_provider
from pgdbpool.checks import (
    check_balance,
    check_duration,
    check_int,
    check_sizes,
    check_type,
    check_via,
)
from pgdbpool.errors import SettingsError
from pgdbpool.limit import SharedLimit

if TYPE_CHECKING:
    from typing_extensions import Self

Hook = Callable[[Any], object]
Password = str | Provider | Callable[[], Credential | str]

# Seconds, behind a transaction pooler, where callers wait without limit.
LONGEST_PING = 30.0

# What psycopg_pool has and this pool has no use for, with the reason.
UNNEEDED = {
    "connection_class": "give kwargs={'connection_factory': …}",
    "close_returns": "use putconn(), or connection() as a context manager",
    "reconnect_timeout": "a lost server is tried again for as long as the pool is open",
    "reconnect_failed": "a lost server is tried again for as long as the pool is open",
    "num_workers": "connects run in short-lived threads, started on demand",
}


class SettingsDict(TypedDict, total=False):
    """The keyword arguments of a pool; `Settings` documents each."""

    password: Password | None
    kwargs: Mapping[str, Any] | None
    via: Literal["direct", "transaction-pooler"]
    threaded: bool
    min_size: int
    max_size: int | None
    timeout: float | None
    max_waiting: int
    max_lifetime: float | None
    max_idle: float | None
    grace: float | None
    ping_timeout: float
    ping_idle: float
    order: Literal["lifo", "fifo"]
    endpoints: Sequence[str] | None
    balance: Literal["least_in_use", "round_robin", "weighted", "nearest"]
    weights: Mapping[str, float] | None
    max_lag: float | None
    autocommit: bool
    reset: Literal["rollback", "session"] | Hook
    configure: Hook | None
    check: Hook | None
    name: str | None
    open: bool
    shared_limit: SharedLimit | None
    observe: bool
    sql_comments: bool
    leak_warn_after: float | None


def _setting(default: object, group: str, unit: str, doc: str, **more: Any) -> Any:
    """Return a field with what the manual says of it."""
    metadata = {"group": group, "unit": unit, "doc": doc}
    return dataclasses.field(default=default, metadata=metadata, **more)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The checked settings of one pool; make one with `Settings.of`."""

    conninfo: str | Sequence[str] = _setting(
        "",
        "essential",
        "DSN or URL",
        "Where the database is. With several hosts, or as a list: a primary and its "
        "standbys. Empty: the `PG*` variables of libpq.",
        repr=False,
    )
    password: Password | None = _setting(
        None,
        "often",
        "",
        "A string, a function that returns one, or a provider whose credentials can "
        "expire: see [doc/credentials.md](doc/credentials.md). Default: as libpq finds "
        "it, in the DSN, `PGPASSWORD` or the password file.",
        repr=False,
    )
    min_size: int = _setting(
        1,
        "essential",
        "connections",
        "Kept open to each server, from the first use of the pool on.",
    )
    max_size: int = _setting(
        20,
        "essential",
        "connections",
        "Never exceeded by a process, to each server; but for a moment by one, where a "
        "name leads to a new address. `None`: the same as `min_size`.",
    )
    timeout: float | None = _setting(
        5.0,
        "essential",
        "s",
        "A connection within this time, or an exception. "
        "Below the 30 s after which gunicorn kills a worker.",
    )
    autocommit: bool = _setting(
        False, "often", "", "Connections commit each statement by itself."
    )
    max_waiting: int = _setting(
        0,
        "often",
        "callers",
        "More callers in the line are refused with `TooManyRequests`. 0: no bound.",
    )
    max_lifetime: float | None = _setting(
        3600.0,
        "often",
        "s",
        "Older connections are replaced, each up to a fifth earlier by chance, "
        "so that not all go at once.",
    )
    max_idle: float | None = _setting(
        600.0,
        "often",
        "s",
        "Idle longer than this are closed, down to `min_size`. Below 1 s it is 1 s.",
    )
    reset: str | Hook = _setting(
        "rollback",
        "often",
        "",
        "What release undoes. `rollback`: the open transaction and the driver's "
        "settings. `session`: also SET, temporary tables, advisory locks, LISTEN "
        "and WITH HOLD cursors, for one round trip. Or a function of the connection.",
    )
    kwargs: Mapping[str, Any] | None = _setting(
        None,
        "often",
        "",
        "More parameters of libpq, and `connection_factory` and `cursor_factory` "
        "of psycopg2.",
        repr=False,
    )
    via: str = _setting(
        "direct",
        "often",
        "",
        "What the DSN leads to. `direct`: PostgreSQL, or a pooler that keeps a session "
        "for each client. `transaction-pooler`: PgBouncer in transaction mode or RDS "
        "Proxy, to which nothing is sent that outlives a transaction. See "
        "[doc/poolers.md](doc/poolers.md).",
    )
    name: str | None = _setting(
        None, "often", "", "The pool's name in messages and logs. Default: `pool-1`, …"
    )
    threaded: bool = _setting(
        True,
        "rarely",
        "",
        "Whether threads share the pool. `False`: for a process of one thread that "
        "serves one request at a time; it starts no thread and takes no lock. See "
        "[doc/threadless.md](doc/threadless.md).",
    )
    grace: float | None = _setting(
        5.0,
        "rarely",
        "s",
        "How long an unreachable server may make callers wait before they are "
        "refused at once. Default: `timeout`.",
    )
    ping_timeout: float = _setting(
        2.0,
        "rarely",
        "s",
        "Pings and resets that take longer lose their connection. "
        "Default: half the `timeout`, at most 2 s; behind a transaction pooler all "
        "of it, or 30 s where it is `None`. No default is below 0.1 s.",
    )
    ping_idle: float = _setting(
        0.0,
        "rarely",
        "s",
        "Connections used less than this ago are not pinged: one whose server hung "
        "up some milliseconds ago can be acquired. 0: always ping.",
    )
    order: str = _setting(
        "lifo",
        "rarely",
        "",
        "Which idle connection serves first: `lifo` the newest, which keeps the set "
        "small and warm; `fifo` the oldest.",
    )
    endpoints: Sequence[str] | None = _setting(
        None,
        "several",
        "DSNs or URLs",
        "The servers of one cluster, in any order and any role, where `conninfo` has "
        "only what they share.",
        repr=False,
    )
    balance: str = _setting(
        "least_in_use",
        "several",
        "",
        "Which standby reads: `least_in_use` of two drawn by chance, slower ones "
        "less; `round_robin`; `weighted` by `weights`; `nearest`, the one with the "
        "shortest round trip.",
    )
    weights: Mapping[str, float] | None = _setting(
        None,
        "several",
        "",
        "How much each endpoint reads as compared with the others, by `host:port` or "
        "host, with `balance` `weighted` or `least_in_use`; with another they are an "
        "error. Default: 1 each.",
    )
    max_lag: float | None = _setting(
        10.0,
        "several",
        "s",
        "Standbys whose data are older do not serve. `None`: they serve, however old.",
    )
    configure: Hook | None = _setting(
        None,
        "rarely",
        "",
        "Called with each new connection; must leave no transaction open.",
    )
    check: Hook | None = _setting(
        None,
        "rarely",
        "",
        "Called with the connection before each hold, in addition to the ping; "
        "raises when the connection is unfit.",
    )
    open: bool = _setting(
        True,
        "rarely",
        "",
        "Whether the pool serves from the start, or only after `open()`.",
    )
    shared_limit: SharedLimit | None = _setting(
        None,
        "rarely",
        "",
        "A `SharedLimit` on the connections of all pools that are given it. Excludes "
        "`min_size`. See [doc/tenants.md](doc/tenants.md).",
    )
    observe: bool = _setting(
        False,
        "often",
        "",
        "How long waits and holds take is measured, by route, for metrics and the "
        "status page.",
    )
    sql_comments: bool = _setting(
        False,
        "rarely",
        "",
        "What a request executes ends with a comment that tells its route, in the form "
        "of sqlcommenter.",
    )
    leak_warn_after: float | None = _setting(
        None,
        "often",
        "s",
        "A connection held for longer is told of in one warning, with who acquired it.",
    )
    explicit: frozenset[str] = dataclasses.field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, conninfo: str | Sequence[str], given: Mapping[str, Any]) -> Self:
        """Check what the user gave and fill in the rest.

        Args:
            conninfo: a DSN or URL of libpq, or empty.
            given: the keyword arguments, unchecked.

        Raises:
            SettingsError: something is unknown, wrong or contradictory.
        """
        _refuse_unknown(given)
        values = dict(given)
        if values.get("shared_limit") is not None:
            values.setdefault("min_size", 0)
        if values.get("max_size", 0) is None:
            values["max_size"] = values.get("min_size", cls.min_size)
        timeout = values.get("timeout", cls.timeout)
        check_duration("timeout", timeout)
        values.setdefault("grace", timeout)
        values.setdefault("ping_timeout", _ping_timeout(timeout, values.get("via")))
        settings = cls(conninfo=conninfo, explicit=frozenset(given), **values)
        settings._check()
        return settings

    def _check(self) -> None:
        """Raise SettingsError at the first setting that is wrong."""
        check_type("conninfo", self.conninfo, str, list, tuple)
        check_type("shared_limit", self.shared_limit, SharedLimit, type(None))
        check_sizes(self.min_size, self.max_size, self.shared_limit)
        check_int("max_waiting", self.max_waiting, least=0)
        for name in ("max_lifetime", "max_idle", "grace", "max_lag", "leak_warn_after"):
            check_duration(name, getattr(self, name))
        for name in ("ping_timeout", "ping_idle"):
            check_duration(name, getattr(self, name), may_be_none=False)
        for name in ("autocommit", "open", "threaded", "observe", "sql_comments"):
            check_type(name, getattr(self, name), bool)
        check_type("name", self.name, str, type(None))
        if self.order not in ("lifo", "fifo"):
            raise SettingsError(f"order: must be 'lifo' or 'fifo', not {self.order!r}")
        if self.reset not in ("rollback", "session") and not callable(self.reset):
            raise SettingsError(
                "reset: must be 'rollback', 'session' or a function of the "
                f"connection, not {self.reset!r}"
            )
        check_via(self.via, self.reset)
        check_type("endpoints", self.endpoints, list, tuple, type(None))
        check_balance(self.balance, self.weights)
        self._check_what_is_called()

    def _check_what_is_called(self) -> None:
        if self.password is not None and not isinstance(self.password, str):
            as_provider(self.password)
        for name in ("configure", "check"):
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise SettingsError(f"{name}: must be a function, not {hook!r}")


def _ping_timeout(timeout: float | None, via: object) -> float:
    if via == "transaction-pooler":
        # It can wait in the pooler's line, and would lose its place there.
        return LONGEST_PING if timeout is None else max(0.1, timeout)
    # Not below a tenth of a second, or timeout=0 would find every ping too slow.
    return 2.0 if timeout is None else max(0.1, min(2.0, timeout / 2))


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    known = SettingsDict.__annotations__
    for name in given:
        if name in UNNEEDED:
            raise SettingsError(
                f"{name}: this pool has no such setting; {UNNEEDED[name]}"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"{name}: unknown setting{hint}")

"""From the dictionary of pgdbpool 1.x to the settings of one pool for each group.

The dictionary is read and never changed. What is wrong with it is a `SettingsError`
that names the key, such as ``db[1].ssl``; no password is quoted.
"""

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from psycopg2 import extensions as driver

from pgdbpool.checks import check_duration, check_int, check_type
from pgdbpool.compat.dbpool.prepared import Prepare
from pgdbpool.errors import SettingsError
from pgdbpool.settings import SettingsDict

THREADED: Final = "threaded"
MODELS: Final = (THREADED, "non-threaded")
SSL: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TARGETS: Final = (
    "primary",
    "read-write",
    "any",
    "prefer-standby",
    "standby",
    "read-only",
)
# Fewer milliseconds than this were meant to be seconds: the examples of 1.x did so.
SHORTEST_QUERY: Final = 1000

Check = Callable[[str, object], None]
Config = Mapping[str, Any]


def _text(where: str, value: object) -> None:
    check_type(where, value, str)
    if not value:
        raise SettingsError(f"{where}: must not be empty")


def _secret(where: str, value: object) -> None:
    check_type(where, value, str)


def _flag(where: str, value: object) -> None:
    check_type(where, value, bool)


def _whole(least: int) -> Check:
    return lambda where, value: check_int(where, value, least=least)


def _one_of(*choices: str) -> Check:
    def check(where: str, value: object) -> None:
        if value not in choices:
            raise SettingsError(
                f"{where}: must be one of {', '.join(choices)}, not {value!r}"
            )

    return check


def _ssl(where: str, value: object) -> None:
    if value is not False:  # as the manual of 1.x has it
        _one_of(*SSL)(where, value)


def _anything(where: str, value: object) -> None:
    """Accept what has no effect."""


REQUIRED: Final = {
    "db": ("host", "name", "user", "pass"),
    "groups": ("connection_count",),
    "": ("db", "groups"),
}
TOP: Final[Mapping[str, Check]] = {
    "type": _one_of(*MODELS),
    "db": _anything,
    "groups": _anything,
}
DB: Final[Mapping[str, Check]] = {
    "host": _text,
    "name": _text,
    "user": _text,
    "pass": _secret,
    "port": _whole(1),
    "ssl": _ssl,
    "connect_timeout": _whole(0),
    "query_timeout": _whole(0),
    "session_tmp_buffer": _whole(1),
    "connection_retry_sleep": check_duration,
}
GROUP: Final[Mapping[str, Check]] = {
    "connection_count": _whole(1),
    "autocommit": _flag,
    "sqlprepare": _flag,
    "timeout": check_duration,
    "target_session_attrs": _one_of(*TARGETS),
    "connections": _anything,
    "connection_iter": _anything,
}
WITHOUT_EFFECT: Final = {
    "connection_retry_sleep": "a lost server is tried again after 0.1 s, then less "
    "and less often, up to every 2 s",
    "connections": "it was 1.x's own",
    "connection_iter": "it was 1.x's own",
}


@dataclasses.dataclass(frozen=True)
class GroupPlan:
    """What the pool of a group is made with.

    Attributes:
        connection_count: how many connections it may have to a server.
        conninfo: a DSN for each server.
        given: the keyword arguments of the pool.
    """

    connection_count: int
    conninfo: Sequence[str] = dataclasses.field(repr=False)
    given: SettingsDict


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a configuration means.

    Attributes:
        threading_model: ``threaded`` or ``non-threaded``.
        groups: what each is made with, by its name.
        warnings: what an operator should look at; no secret is among them.
    """

    threading_model: str
    groups: Mapping[str, GroupPlan]
    warnings: Sequence[str]


def plan_of(config: object) -> Plan:
    """Check a configuration and return what it means. No I/O.

    Raises:
        SettingsError: something is missing, unknown or wrong.
    """
    top = _checked("config", "", config, TOP)
    model = top.get("type", THREADED)
    servers = _servers(top["db"])
    warnings = [
        note for where, server in servers.items() for note in _notes(where, server)
    ]
    plans = {}
    for name, given in _groups(top["groups"]).items():
        group = _checked(f"groups.{name}", "groups", given, GROUP)
        warnings += _group_notes(f"groups.{name}", group)
        plans[name] = _group_plan(
            name, group, list(servers.values()), is_threaded=model == THREADED
        )
    return Plan(model, plans, warnings)


def _servers(db: object) -> dict[str, Config]:
    """Return each server by the place it has in the configuration."""
    if isinstance(db, Mapping):
        return {"db": _checked("db", "db", db, DB)}
    if not isinstance(db, (list, tuple)):
        raise SettingsError(f"db: must be dict or list, not {type(db).__name__}")
    if not db:
        raise SettingsError("db: an empty list has no server")
    places = {f"db[{index}]": one for index, one in enumerate(db)}
    return {where: _checked(where, "db", one, DB) for where, one in places.items()}


def _groups(groups: object) -> Mapping[str, object]:
    if not isinstance(groups, Mapping):
        raise SettingsError(f"groups: must be dict, not {type(groups).__name__}")
    if not groups:
        raise SettingsError("groups: there is none")
    for name in groups:
        check_type(f"groups: the name {name!r}", name, str)
    return groups


def _checked(
    where: str, part: str, given: object, checks: Mapping[str, Check]
) -> Config:
    """Return a part of the configuration that is as it should be."""
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where}: must be dict, not {type(given).__name__}")
    for key in given:
        if key not in checks:
            near = difflib.get_close_matches(str(key), checks, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"{where}: unknown key {key!r}{hint}")
    for key in REQUIRED[part]:
        if key not in given:
            raise SettingsError(f"{where}: {key!r} is missing")
    for key, value in given.items():
        checks[key](f"{where}.{key}" if part else key, value)
    return given


def _notes(where: str, db: Config) -> Iterable[str]:
    yield from _without_effect(where, db)
    limit = db.get("query_timeout", 0)
    if 0 < limit < SHORTEST_QUERY:
        yield f"{where}.query_timeout: these are milliseconds, so {limit / 1000:g} s"


def _group_notes(where: str, group: Config) -> Iterable[str]:
    yield from _without_effect(where, group)
    if "autocommit" not in group:
        yield (
            f"{where}.autocommit: is missing, and so True as the manual of 1.x has "
            "it; 1.x itself took it for False. Say which"
        )


def _without_effect(where: str, given: Config) -> Iterable[str]:
    for key in given:
        if key in WITHOUT_EFFECT:
            yield f"{where}.{key}: has no effect; {WITHOUT_EFFECT[key]}"


def _group_plan(
    name: str, group: Config, servers: Sequence[Config], *, is_threaded: bool
) -> GroupPlan:
    count = group["connection_count"]
    given: SettingsDict = {
        "name": name,
        "max_size": count,
        "autocommit": group.get("autocommit", True),
        # Whatever was set in a session is undone, and prepared statements stay.
        "reset": "session",
        "threaded": is_threaded,
    }
    if "timeout" in group:
        given["timeout"] = group["timeout"]
    if group.get("sqlprepare", False):
        given["configure"] = Prepare()
    if len(servers) > 1:
        given["balance"] = "round_robin"
    target = group.get("target_session_attrs")
    return GroupPlan(count, [_dsn(server, target) for server in servers], given)


def _dsn(db: Config, target: str | None) -> str:
    ssl = db.get("ssl", "disable")
    made: str = driver.make_dsn(
        host=db["host"],
        port=db.get("port"),
        dbname=db["name"],
        user=db["user"],
        password=db["pass"] or None,
        sslmode="disable" if ssl is False else ssl,
        connect_timeout=db.get("connect_timeout", 10),
        options=_options(db),
        target_session_attrs=target,
    )
    return made


def _options(db: Config) -> str:
    """Return the options of a session; of those that say the same the last counts.

    So the environment goes before the defaults, and the configuration before both.
    """
    defaults: list[str] = []
    chosen: list[str] = []
    for key, default, form in (
        ("query_timeout", 5000, "-c statement_timeout={}"),
        ("session_tmp_buffer", 128, "-c temp_buffers={}MB"),
    ):
        options = chosen if key in db else defaults
        options.append(form.format(db.get(key, default)))
    users = os.environ.get("PGOPTIONS", "").strip()
    return " ".join(filter(None, [*defaults, users, *chosen]))

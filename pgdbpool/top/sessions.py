"""The sessions of the service as its servers see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgdbpool.top.texts import duration
from pgdbpool.top.told import count, seconds, seconds_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdbpool.top.figures import Holder

# The token of a worker, which is the end of what its sessions are called.
TOKEN: Final = re.compile(r":([0-9a-f]+)\.([0-9]+)\Z")
# Who has a session: its server, and its process there.
Owners = dict[tuple[str, int | None], "Holder"]


@dataclass(frozen=True)
class Session:
    """One session in pg_stat_activity.

    Attributes:
        server, pid: which.
        state: in the server's words; empty: not ours to see.
        seconds: for how long it has been so; None: unknown.
        waits_for: what; empty: nothing.
        transaction: how old its transaction is, seconds; None: there is none.
        whose: the worker, or the host and program.
        holder: what it is in use for; None: for nothing we know of.
        age: how long ago it was so, seconds.
    """

    server: str
    pid: int
    state: str
    seconds: float | None
    waits_for: str
    transaction: float | None
    whose: str
    holder: str | None
    age: float


@dataclass(frozen=True)
class Seen:
    """What the servers said last.

    Attributes:
        sessions: those in a transaction first, the oldest first.
        notes: of each server, how long ago it was asked.
    """

    sessions: tuple[Session, ...]
    notes: tuple[str, ...]


def seen_of(state: dict[str, Any], holders: Sequence[Holder]) -> Seen:
    """Return the sessions of all pools, each once."""
    owners: Owners = {(one.server, one.backend): one for one in holders}
    found: dict[tuple[str, int], Session] = {}
    notes: dict[str, str] = {}
    for seen in state["server"]:
        server = str(seen["endpoint"])
        age = max(0.0, seconds(state["taken_at"]) - seconds(seen["taken_at"]))
        notes[server] = _note(seen, age)
        for told in seen["sessions"]:
            one = _session(told, server, state, owners, age)
            found[server, one.pid] = one
    return Seen(
        sessions=tuple(sorted(found.values(), key=_urgency)),
        notes=tuple(notes.values()),
    )


def _note(seen: dict[str, Any], age: float) -> str:
    """Return when a server was asked, in the page's words (`askedWhen`)."""
    asked = f"{seen['endpoint']}: {duration(age)} ago"
    if not seen["error"]:
        return asked
    refused = f"could not be asked ({seen['error']}); in a minute again"
    return (
        f"{asked}, then it {refused}"
        if seen["sessions"]
        else (f"{seen['endpoint']} {refused}")
    )


def _urgency(one: Session) -> tuple[bool, float, str, int]:
    is_free = one.transaction is None and one.holder is None
    return is_free, -(one.transaction or 0.0), one.server, one.pid


def _session(
    told: dict[str, Any], server: str, state: dict[str, Any], owners: Owners, age: float
) -> Session:
    pid = count(told["pid"])
    whose = _whose(told, state)
    if told["is_asking"]:
        return Session(server, pid, "asks for this", None, "", None, whose, None, age)
    owner = owners.get((server, pid))
    event = told["wait_event"]
    return Session(
        server=server,
        pid=pid,
        state=str(told["state"]),
        seconds=seconds_or_none(told["seconds"]),
        waits_for=f"{told['wait_type']}: {event}" if event else "",
        transaction=seconds_or_none(told["transaction_seconds"]),
        whose=whose,
        holder=None if owner is None else owner.request or owner.place,
        age=age,
    )


def _whose(told: dict[str, Any], state: dict[str, Any]) -> str:
    """Return the worker, or else host and program: the page's `clientOf`."""
    name = told["application_name"]
    token = TOKEN.search(name)
    if token and token[1] == state["service"]["id"]:
        for worker in state["workers"]:
            if str(worker["age"]) == token[2]:
                return f"worker {worker['pid']}"
    program = name[: token.start()] if token else name
    return f"{told['client'] or 'local'}, {program}"

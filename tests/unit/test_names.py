"""Names that lead elsewhere: which connections go, and when the name is asked for."""

import pytest

from pgdbpool.endpoint import names
from pgdbpool.endpoint.state import Reason
from tests.unit.scripted_roster import ScriptedRoster

OLD, NEW = "192.0.2.1", "192.0.2.2"


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"host": "db1"}, "db1"),
        ({"host": "127.0.0.1"}, None),
        ({"host": "::1"}, None),
        ({"host": "/run/postgresql"}, None),
        ({"host": "@abstract"}, None),
        ({"host": "db1", "hostaddr": "127.0.0.1"}, None),
        ({}, None),
    ],
)
def test_only_a_name_is_resolved(
    params: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses, sockets, and a name whose address is given do not change."""
    for variable in ("PGHOST", "PGHOSTADDR"):
        monkeypatch.delenv(variable, raising=False)
    assert names.name_of(params) == name


def test_a_pool_without_connections_by_name_resolves_nothing() -> None:
    """Nothing wakes it for that."""
    roster = ScriptedRoster(max_lifetime=None, max_idle=None)
    (holder,) = roster.fill(1)
    roster.release(holder)

    roster.pass_time(names.INTERVAL * 3)

    assert roster.resolving == []


def test_a_name_is_resolved_again_after_a_while() -> None:
    """Not at once: the connect has just done that."""
    roster = ScriptedRoster(max_lifetime=None, max_idle=None)
    (holder,) = roster.fill(1)
    assert holder.conn is not None
    holder.conn.entry.address = OLD

    roster.pass_time(0.0)
    assert roster.resolving == []
    roster.pass_time(names.INTERVAL + 0.1)
    assert roster.resolving == [roster.endpoint]


def test_what_leads_to_a_vanished_address_goes() -> None:
    """An idle connection at once, one in use at its release, a new one not."""
    roster = ScriptedRoster(max_size=3, max_idle=None)
    idle, busy, moved = roster.fill(3)
    for waiter, address in ((idle, OLD), (busy, OLD), (moved, NEW)):
        assert waiter.conn is not None
        waiter.conn.entry.address = address
    roster.release(idle)

    for _ in range(names.ANSWERS):
        assert roster.reasons == []
        roster.resolved(roster.endpoint, frozenset({NEW}))
        roster.pass_time(0.0)
    assert roster.reasons == [Reason.MOVED]

    roster.release(busy)
    assert roster.reasons == [Reason.MOVED] * 2

    roster.release(moved)
    assert roster.reasons == [Reason.MOVED] * 2


def test_a_name_that_answers_by_turns_costs_no_connection() -> None:
    """As that of a cloud's readers, which gives one of them each time."""
    roster = ScriptedRoster(max_size=2, max_idle=None)
    for waiter, address in zip(roster.fill(2), (OLD, NEW), strict=True):
        assert waiter.conn is not None
        waiter.conn.entry.address = address
        roster.release(waiter)

    for address in (OLD, NEW) * names.ANSWERS:
        roster.resolved(roster.endpoint, frozenset({address}))
        roster.pass_time(0.0)

    assert roster.reasons == []

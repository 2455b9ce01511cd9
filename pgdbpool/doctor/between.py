"""The rule about what stands between the pool and the server. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgdbpool.doctor.facts import Facts, Mode
from pgdbpool.doctor.findings import Finding, fine, warning, wrong

if TYPE_CHECKING:
    from pgdbpool.settings import Settings


def pooler(facts: Facts, settings: Settings) -> Finding | None:
    """Return whether ``via`` says what is in between."""
    is_told = settings.via == "transaction-pooler"
    mode = facts.pooler
    if mode is Mode.STATEMENT:
        return wrong(
            "pooler",
            "a pooler in between lends a session for one statement only",
            "pool_mode = transaction in PgBouncer; a transaction cannot be had "
            "otherwise.",
        )
    if mode is Mode.TRANSACTION and not is_told:
        return wrong(
            "pooler",
            "a pooler in between gives each transaction another session, and via is "
            "direct: what the pool or a handler sets would meet other clients",
            'via="transaction-pooler" (PGDBPOOL_VIA=transaction-pooler): see '
            "doc/poolers.md.",
        )
    if mode is Mode.UNKNOWN:
        return warning(
            "pooler",
            "there is a pooler in between, and it could not be found out how it lends "
            "its sessions: a second client got none in time",
            "Ask again when it is less busy. In transaction mode give "
            'via="transaction-pooler".',
        )
    return _no_transaction_pooler(mode, is_told=is_told)


def _no_transaction_pooler(mode: Mode | None, *, is_told: bool) -> Finding:
    what = "no pooler" if mode is None else f"a pooler in {mode.value} mode"
    if not is_told or mode is Mode.TRANSACTION:
        return fine("pooler", f"{what} is in between")
    return warning(
        "pooler",
        f"via is transaction-pooler, and {what} is in between: the pool does without "
        "much for nothing",
        'via="direct", or the address of the pooler in the DSN.',
    )

"""What doc/migrating.md says of the old APIs is what they have here."""

import re

import pytest

from pgdbpool.compat.dbpool import Connection
from pgdbpool.compat.dbpool.config import (
    DB,
    GROUP,
    REQUIRED,
    TARGETS,
    TOP,
    WITHOUT_EFFECT,
)
from tests.documentation import ROOT, table

MIGRATING = ROOT / "doc" / "migrating.md"
# Of the classes here, and of nobody's concern.
INNER = {"get_group", "get_held"}


def names(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]*)`", cell)


@pytest.mark.parametrize(
    ("heading", "checks", "part"),
    [("key", TOP, ""), ("key of `db`", DB, "db"), ("key of a group", GROUP, "groups")],
    ids=["top", "db", "groups"],
)
def test_the_keys_are_all_told(
    heading: str, checks: dict[str, object], part: str
) -> None:
    """In the order of the code; and which of them are required or without effect."""
    rows = table(MIGRATING, heading)
    told = {names(row[0])[0]: row for row in rows}
    assert list(told) == list(checks)
    required = [key for key, row in told.items() if row[1] == "required"]
    assert sorted(required) == sorted(REQUIRED[part])
    without = {key for key, row in told.items() if row[3].startswith("no effect")}
    assert without == WITHOUT_EFFECT.keys() & checks.keys()


def test_the_targets_are_all_told() -> None:
    """Each with who serves."""
    rows = table(MIGRATING, "its value")
    assert {name for row in rows for name in names(row[0])} == set(TARGETS)


def test_the_methods_are_all_told() -> None:
    """Each with what it does here."""
    methods = {name for name in vars(Connection) if not name.startswith("_")}
    told = {names(row[0])[0] for row in table(MIGRATING, "method")}
    assert told == methods - INNER

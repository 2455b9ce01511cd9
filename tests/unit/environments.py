"""Environments for tests, in which nothing of this machine's is set."""

import os

import pytest

from pgdbpool import SettingsError
from pgdbpool.environment import Found, find

OURS = ("PG", "DB_", "DATABASE_URL", "IDENTITY_ENABLED")
SINGLETON = {"DB_HOST": "db1", "DB_USER": "app", "DB_NAME": "shop"}


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset everything that says something to a pool or to libpq."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


def found(**environ: str) -> Found:
    """Return what is found in this environment."""
    return find(environ=environ)


def value(setting: str, text: str) -> object:
    """Return what the variable of a setting says with this text."""
    return found(**{f"PGDBPOOL_{setting.upper()}": text}).values[setting]


def refused(**environ: str) -> str:
    """Return what is said of an environment that must be refused."""
    with pytest.raises(SettingsError) as caught:
        found(**environ).settings()
    return str(caught.value)

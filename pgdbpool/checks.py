"""Whether a single value is what a setting may be.

Each check raises a `SettingsError` that begins with the name of the setting.
"""

import math

from pgdbpool.errors import SettingsError


def check_type(name: str, value: object, *types: type) -> None:
    """Raise SettingsError unless the value is of one of the types."""
    if not isinstance(value, types):
        wanted = " or ".join(t.__name__ for t in types)
        raise SettingsError(f"{name}: must be {wanted}, not {type(value).__name__}")


def check_int(name: str, value: object, *, least: int) -> None:
    """Raise SettingsError unless it is a whole number, and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(f"{name}: must be a whole number, not {value!r}")
    if value < least:
        raise SettingsError(f"{name}: must be at least {least}, not {value}")


def check_duration(name: str, value: object, *, may_be_none: bool = True) -> None:
    """Raise SettingsError unless it is a number of seconds, from zero on."""
    if value is None and may_be_none:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingsError(f"{name}: must be seconds as a number, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        raise SettingsError(f"{name}: is too large; None is for no limit") from None
    if math.isnan(seconds) or seconds < 0:
        raise SettingsError(f"{name}: must not be negative, but is {value}")


def check_via(via: object, reset: object) -> None:
    """Raise SettingsError unless a pool can go that way and reset its sessions so."""
    if via not in ("direct", "transaction-pooler"):
        raise SettingsError(
            f"via: must be 'direct' or 'transaction-pooler', not {via!r}"
        )
    if via == "transaction-pooler" and reset == "session":
        raise SettingsError(
            "reset: 'session' contradicts via='transaction-pooler': the reset would "
            "hit a session that by then can serve another client"
        )

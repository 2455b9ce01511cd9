"""Whether values are what a setting, or two that belong together, may be.

Each check raises a `SettingsError` that begins with the name of the setting.
"""

import math
from collections.abc import Mapping

from pgdbpool.errors import SettingsError

BALANCES = ("least_in_use", "round_robin", "weighted", "nearest")


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


def check_balance(balance: object, weights: object) -> None:
    """Raise SettingsError unless it is a policy, and has a use for the weights."""
    if balance not in BALANCES:
        raise SettingsError(
            f"balance: must be one of {', '.join(BALANCES)}, not {balance!r}"
        )
    check_type("weights", weights, Mapping, type(None))
    if not isinstance(weights, Mapping):
        return
    if balance in ("round_robin", "nearest"):
        raise SettingsError(f"weights: balance={balance!r} has no use for them")
    for place, weight in weights.items():
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise SettingsError(
                f"weights: {place!r}: must be a number above zero, not {weight!r}"
            )


def check_sizes(min_size: int, max_size: int, shared_limit: object = None) -> None:
    """Raise SettingsError unless the sizes make sense together."""
    check_int("min_size", min_size, least=0)
    check_int("max_size", max_size, least=1)
    if shared_limit is not None and min_size:
        raise SettingsError(
            f"min_size: must be 0 with a shared_limit, not {min_size}: what is idle "
            "makes room for other pools"
        )
    if min_size > max_size:
        raise SettingsError(
            f"min_size: {min_size} is greater than max_size, which is {max_size}"
        )

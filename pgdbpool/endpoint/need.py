"""What a caller needs of a server, by the words of libpq."""

import enum

from pgdbpool.errors import SettingsError


class Need(enum.Enum):
    """Which servers may serve, named by libpq's ``target_session_attrs``."""

    ANY = "any"
    PRIMARY = "primary"
    STANDBY = "standby"
    PREFER_STANDBY = "prefer-standby"


def default_need(attributes: str | None, *, is_one_name: bool) -> Need | None:
    """Return what a plain ``connection()`` needs in a pool of several endpoints.

    Args:
        attributes: ``target_session_attrs``; without one it is the primary.
        is_one_name: what leads to one server leads to any: with neither, it is the
            primary only if there is one, None.

    Raises:
        SettingsError: libpq knows no such value.
    """
    if attributes is None:
        return None if is_one_name else Need.PRIMARY
    # Which differ only where an administrator made a primary read only.
    known = {"read-write": "primary", "read-only": "standby"}
    try:
        return Need(known.get(attributes, attributes))
    except ValueError:
        raise SettingsError(
            f"target_session_attrs: libpq has no {attributes!r}"
        ) from None

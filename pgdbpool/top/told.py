"""What another program says, as what it has to be to be shown."""

from __future__ import annotations

from typing import Final

# Of seconds, and of whatever is counted: what is more is nonsense, or to do harm.
MOST: Final = 1e12


def words(said: object) -> str | None:
    """Return words; None: nothing was said."""
    return None if said is None else str(said)


def seconds(said: object) -> float:
    """Return a duration that can be reckoned with.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(said, int | float) or not -MOST < said < MOST:
        raise ValueError(f"{said!r} is no number of seconds")
    return float(said)


def seconds_or_none(said: object) -> float | None:
    """Return a duration, if one is known.

    Raises:
        ValueError: it is none.
    """
    return None if said is None else seconds(said)


def count(said: object) -> int:
    """Return how many there are.

    Raises:
        ValueError: it is no such number.
    """
    if not isinstance(said, int) or not 0 <= said < MOST:
        raise ValueError(f"{said!r} is no number of anything")
    return said

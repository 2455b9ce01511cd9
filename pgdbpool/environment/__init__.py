"""The settings of a pool as environment variables have them."""

from pgdbpool.environment.finding import (
    ARGUMENT,
    PREFIX,
    Found,
    Given,
    find,
    find_outline,
)
from pgdbpool.environment.variables import Dotenv

__all__ = [
    "ARGUMENT",
    "PREFIX",
    "Dotenv",
    "Found",
    "Given",
    "find",
    "find_outline",
]

"""How each setting is written in a variable, and what that text means.

Durations are seconds, ``none`` is `None`. A text that cannot be read is quoted in the
error only where it looks like a number or a word: what stands in the wrong variable
may be a password.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pgdbpool.checks import BALANCES
from pgdbpool.errors import SettingsError
from pgdbpool.limit import SharedLimit
from pgdbpool.parameters import SCHEMES

NONE: Final = "none"
WORDS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
# What stands between URLs; a space within one is nobody's business but libpq's.
_BETWEEN_URLS = re.compile(r"\s+(?=postgres(?:ql)?://)")
_HARMLESS = re.compile(r"[-+]?[\d.,_]{0,12} ?[A-Za-z_-]{0,20}", re.ASCII)
_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_WEIGHT = re.compile(r"(?P<place>@?[^@=\s]+)=(?P<weight>[^=]+)")
_HOOK = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<function>\w+(?:\.\w+)*)")


@dataclasses.dataclass(frozen=True)
class Form:
    """How a kind of value is written.

    Attributes:
        words: says it, for messages and the manual.
        read: returns the value; raises ValueError where the text is not of this form.
        may_be_none: whether ``none`` is a value.
    """

    words: str
    read: Callable[[str], object]
    may_be_none: bool = False

    def __str__(self) -> str:
        """Return what to write."""
        return f"{self.words}, or `{NONE}`" if self.may_be_none else self.words


def read(form: Form, text: str, variable: str) -> object:
    """Return the value that a variable's text stands for.

    Raises:
        SettingsError: none; it names the variable.
    """
    if form.may_be_none and text.lower() == NONE:
        return None
    try:
        return form.read(text)
    except SettingsError as error:
        raise SettingsError(f"{variable}: {error}") from error.__cause__
    except ValueError:
        wanted = str(form).replace("`", "")
        raise SettingsError(f"{variable}: must be {wanted}{_but(text)}") from None


def _but(text: str) -> str:
    return f", not {text!r}" if _HARMLESS.fullmatch(text) else ""


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError
    return seconds


def _boolean(text: str) -> bool:
    if text.lower() not in WORDS:
        raise ValueError
    return WORDS[text.lower()]


def _one_of(*choices: str) -> Form:
    def choice(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return Form(" or ".join(f"`{one}`" for one in choices), choice)


def split_urls(text: str) -> list[str]:
    """Return each of several URLs; a DSN is one."""
    return _BETWEEN_URLS.split(text) if text.startswith(SCHEMES) else [text]


def _dsns(text: str) -> str | list[str]:
    several = split_urls(text)
    return several if len(several) > 1 else text


def _urls(text: str) -> list[str]:
    if not text.startswith(SCHEMES):
        raise ValueError
    return split_urls(text)


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        found = _WEIGHT.fullmatch(part.strip())
        if not found or found["place"] in weights:
            raise ValueError
        weights[found["place"]] = float(found["weight"])
    return weights


def _imported(text: str) -> object:
    """Import what ``module:function`` names; blocks for as long as that takes."""
    found = _HOOK.fullmatch(text)
    if not found:
        raise ValueError
    module = found["module"]
    try:
        value: object = importlib.import_module(module)
    except Exception as error:
        # Only an ImportError is known to have nothing but names in its text.
        why = f": {error}" if isinstance(error, ImportError) else ""
        raise SettingsError(
            f"cannot import {module!r}: {type(error).__name__}{why}"
        ) from error
    for name in found["function"].split("."):
        value = getattr(value, name, None)
    return value


def _hook(text: str) -> object:
    value = _imported(text)
    if not callable(value):
        raise _has_no("function", text)
    return value


def _shared_limit(text: str) -> object:
    value = _imported(text)
    if not isinstance(value, SharedLimit):
        raise _has_no("SharedLimit", text)
    return value


def _has_no(kind: str, text: str) -> SettingsError:
    module, _, name = text.partition(":")
    return SettingsError(f"{module!r} has no {kind} {name!r}")


def _reset(text: str) -> object:
    return text if text in ("rollback", "session") else _hook(text)


WHOLE: Final = Form("a whole number", _whole)
SECONDS: Final = Form("seconds as a number", _seconds)
BOOLEAN: Final = Form(
    "`true`, `yes`, `on`, `1` or `false`, `no`, `off`, `0`",
    _boolean,
)
TEXT: Final = Form("text", str)
# Blanks at its ends belong to it.
SECRET: Final = Form("text, never shown", str)
HOOK: Final = Form("`module:function`", _hook)
_SECONDS_OR_NONE: Final = Form(SECONDS.words, _seconds, may_be_none=True)

# By setting; what is missing here has no variable, for the reason in UNWRITABLE.
FORMS: Final[dict[str, Form]] = {
    "conninfo": Form("a DSN, or URLs with spaces between them", _dsns),
    "password": SECRET,
    "min_size": WHOLE,
    "max_size": Form(WHOLE.words, _whole, may_be_none=True),
    "timeout": _SECONDS_OR_NONE,
    "autocommit": BOOLEAN,
    "max_waiting": WHOLE,
    "max_lifetime": _SECONDS_OR_NONE,
    "max_idle": _SECONDS_OR_NONE,
    "reset": Form("`rollback`, `session` or `module:function`", _reset),
    "via": _one_of("direct", "transaction-pooler"),
    "name": TEXT,
    "threaded": BOOLEAN,
    "grace": _SECONDS_OR_NONE,
    "ping_timeout": SECONDS,
    "ping_idle": SECONDS,
    "order": _one_of("lifo", "fifo"),
    "endpoints": Form("URLs with spaces between them", _urls),
    "balance": _one_of(*BALANCES),
    "weights": Form("such as `db1=2,db2:5433=1`", _weights),
    "max_lag": _SECONDS_OR_NONE,
    "configure": HOOK,
    "check": HOOK,
    "open": BOOLEAN,
    "observe": BOOLEAN,
    "sql_comments": BOOLEAN,
    "leak_warn_after": _SECONDS_OR_NONE,
    "shared_limit": Form("`module:name` of a `SharedLimit`", _shared_limit),
}
UNWRITABLE: Final = {
    "kwargs": "libpq's parameters can stand in the DSN, factories are classes",
}


def text_of(value: object) -> str:
    """Return how a value of a setting is written; not for what may hold a secret."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{place}={text_of(weight)}" for place, weight in value.items())
    if callable(value):
        named: Any = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}:{named.__qualname__}"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)

"""What a pool of this environment would be, with every secret masked.

What is shown is chosen from a list of what is harmless: a parameter of libpq that is
not on it is masked, and so is what a URL that is not percent-encoded has torn apart.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pgdbpool.environment import Found
from pgdbpool.environment.finding import PLACE
from pgdbpool.environment.forms import text_of
from pgdbpool.parameters import libpq_params
from pgdbpool.routing.hosts import endpoint_params
from pgdbpool.settings import Settings

MASK: Final = "********"
DEFAULT: Final = "default"
DSN: Final = "DSN"
# What libpq takes in place of a parameter that is not given, and at last.
COLUMNS: Final = {
    "host": ("PGHOST", "local socket"),
    "port": ("PGPORT", "5432"),
    "user": ("PGUSER", ""),
    "dbname": ("PGDATABASE", ""),
    "sslmode": ("PGSSLMODE", "prefer"),
}
HARMLESS: Final = frozenset(
    {
        *COLUMNS,
        "hostaddr",
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "passfile",
        "require_auth",
        "service",
        "ssl_min_protocol_version",
        "sslcert",
        "sslkey",
        "sslnegotiation",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
    }
)


@dataclasses.dataclass(frozen=True)
class Effective:
    """A value that holds, and where it came from."""

    value: object
    origin: str

    def __str__(self) -> str:
        """Return the value as it is written in a variable."""
        if isinstance(self.value, (list, tuple)):
            return "\n".join(self.value)
        return text_of(self.value)


def settings_of(settings: Settings, found: Found) -> dict[str, Effective]:
    """Return each setting by its name."""
    return {
        field.name: Effective(
            _masked(field.name, getattr(settings, field.name)),
            found.origins.get(field.name) or _default_of(field, settings),
        )
        for field in dataclasses.fields(settings)
        if field.metadata
    }


def _default_of(field: dataclasses.Field[object], settings: Settings) -> str:
    is_own = getattr(settings, field.name) == field.default
    return DEFAULT if is_own else f"{DEFAULT}, by timeout"


def _masked(name: str, value: object) -> object:
    """Return what may be shown of a setting, as JSON can have it."""
    if name in PLACE and isinstance(value, str) and value:
        return masked_dsn(value)
    if name in PLACE and isinstance(value, (list, tuple)):
        return [masked_dsn(one) for one in value]
    if name == "password" and value is not None:
        return MASK if isinstance(value, str) else type(value).__name__
    return text_of(value) if callable(value) else value


def masked_dsn(dsn: str) -> str:
    """Return the parameters of a DSN or URL, secrets masked."""
    params, _ = libpq_params(dsn, None)
    given = {key: value for key, value in params.items() if value.strip(",")}
    keys = dict.fromkeys([*COLUMNS, *sorted(given)])
    return " ".join(f"{key}={_shown(key, given[key])}" for key in keys if key in given)


def _shown(key: str, value: str) -> str:
    is_torn = "://" in value or (key == "dbname" and "@" in value)
    return MASK if is_torn or key not in HARMLESS else value


def endpoints_of(
    settings: Settings, environ: Mapping[str, str]
) -> list[dict[str, Effective]]:
    """Return how libpq will see each endpoint.

    It takes what the DSN says, then its service file, then its own variables.
    """
    each, _, _ = endpoint_params(settings)
    return [_endpoint(params, settings, environ) for params in each]


def _endpoint(
    params: Mapping[str, str], settings: Settings, environ: Mapping[str, str]
) -> dict[str, Effective]:
    service = _given("service", "PGSERVICE", params, environ)
    told = {
        key: _given(key, variable, params, environ, service)
        or Effective(default, DEFAULT)
        for key, (variable, default) in COLUMNS.items()
    }
    if "host" not in params and "hostaddr" in params:
        told["host"] = Effective(params["hostaddr"], DSN)
    told["user"] = told["user"] if told["user"].value else Effective(_me(), DEFAULT)
    told["dbname"] = told["dbname"] if told["dbname"].value else told["user"]
    told["password"] = _password(params, settings, environ, service)
    if service is not None:
        told["service"] = service
    return told


def _given(
    key: str,
    variable: str,
    params: Mapping[str, str],
    environ: Mapping[str, str],
    service: Effective | None = None,
) -> Effective | None:
    """Return what is said of a parameter, None if nothing."""
    if params.get(key):
        return Effective(_shown(key, params[key]), DSN)
    if service is not None:
        return Effective("as the service says", f"service {service.value}")
    if environ.get(variable):
        return Effective(_shown(key, environ[variable]), variable)
    return None


def _password(
    params: Mapping[str, str],
    settings: Settings,
    environ: Mapping[str, str],
    service: Effective | None,
) -> Effective:
    """Return whether there is a password, and where; never which."""
    if settings.password is not None:
        return Effective(_masked("password", settings.password), "password")
    given = _given("password", "PGPASSWORD", params, environ, service)
    if given is not None:
        return given
    passfile = _given("passfile", "PGPASSFILE", params, environ)
    if passfile is not None:
        return Effective(f"as {passfile.value} says", passfile.origin)
    usual = Path("~/.pgpass").expanduser()
    is_there = usual.is_file()
    return Effective("as ~/.pgpass says" if is_there else None, DEFAULT)


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "none, this uid has no name"

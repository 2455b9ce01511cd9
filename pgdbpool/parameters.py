"""From a DSN or URL to the parameters of libpq. Nothing of either is ever quoted."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from psycopg2 import extensions as driver

from pgdbpool.checks import check_type
from pgdbpool.errors import SettingsError

# What libpq takes for the beginning of a URL.
SCHEMES: Final = ("postgresql://", "postgres://")
SECRET_KEYS: Final = ("password", "sslpassword")
# Parameters that are names, which may be those of a place.
MAY_HAVE_AT: Final = ("user", "dbname", "application_name", "service", "krbsrvname")
# For messages, without the name of a setting.
ENCODE: Final = (
    "in a URL, percent-encode the credentials: %40 for @, %2F for /, %25 for %"
)


def libpq_params(
    conninfo: str, kwargs: Mapping[str, Any] | None, setting: str = "conninfo"
) -> tuple[dict[str, str], dict[str, type]]:
    """Split a DSN and kwargs into what libpq takes and psycopg2's factories.

    Args:
        conninfo: a DSN or URL.
        kwargs: the setting of that name.
        setting: the one that the DSN is from, for messages.

    Returns:
        The parameters of libpq, and the factories by their keyword.

    Raises:
        SettingsError: the DSN does not parse, or has a password that tears it apart,
            or a keyword is none of libpq's. Neither the DSN nor a value is quoted:
            both can hold a password.
    """
    params = _parse_dsn(conninfo, setting)
    check_type("kwargs", kwargs, Mapping, type(None))
    factories: dict[str, type] = {}
    for key, value in (kwargs or {}).items():
        if key in ("connection_factory", "cursor_factory"):
            if value is not None:
                factories[key] = _factory(key, value)
        elif key in ("async", "async_"):
            raise SettingsError(f"kwargs: {key}: a pool cannot hold async connections")
        elif value is not None:
            params[_libpq_keyword(key)] = str(value)
    return params, factories


def _parse_dsn(dsn: str, setting: str) -> dict[str, str]:
    check_type(setting, dsn, str)
    params = None
    with contextlib.suppress(Exception):  # its text quotes parts of the DSN
        params = dict(driver.parse_dsn(dsn))
    if params is None:
        hint = f"; {ENCODE}" if dsn.startswith(SCHEMES) else ""
        raise SettingsError(
            f"{setting}: neither a DSN nor a URL that libpq can parse{hint}"
        )
    _refuse_torn(setting, dsn, params)
    return params


def _libpq_keyword(key: str) -> str:
    """Return the name libpq has for a keyword of psycopg2."""
    name = {"database": "dbname"}.get(key, key)
    try:
        is_known = list(driver.parse_dsn(f"{name}=1")) == [name]
    except Exception:  # noqa: BLE001 - whatever is wrong, the name is not libpq's
        is_known = False
    if not is_known:
        raise SettingsError(f"kwargs: libpq has no connection parameter {key!r}")
    return name


def _factory(key: str, value: object) -> type:
    required = driver.connection if key == "connection_factory" else driver.cursor
    if isinstance(value, type) and issubclass(value, required):
        return value
    raise SettingsError(
        f"kwargs: {key}: must be a subclass of psycopg2.extensions."
        f"{required.__name__}, not {value!r}"
    )


def is_part_of_url(host: str) -> bool:
    """Whether the name of a host is a URL, or what a torn one leaves of it."""
    # An abstract socket begins with an @, and a path may have one.
    return "://" in host or ("@" in host and not host.startswith(("@", "/")))


def _refuse_torn(setting: str, dsn: str, params: Mapping[str, str]) -> None:
    """Raise SettingsError where a part of a password is taken for something else.

    Nothing of it is quoted.

    Args:
        setting: the one that it is from.
        dsn: a DSN or URL.
        params: what libpq made of it.
    """
    hosts, ports = (params.get(key, "").split(",") for key in ("host", "port"))
    has_at = any(map(is_part_of_url, hosts))
    is_no_number = any(port and not port.isdecimal() for port in ports)
    if has_at or is_no_number or (dsn.startswith(SCHEMES) and _is_torn(dsn)):
        raise SettingsError(
            f"{setting}: a host or a database with an @, or a port that is no number; "
            f"{ENCODE}"
        )


def _is_torn(url: str) -> bool:
    """Whether an @ stands between the one that ends the password and the query.

    A password ends at the first @, and there is none if a / comes before that (libpq,
    ``conninfo_uri_parse_options``). What a ? of it tears off is taken for the query.
    """
    rest = url.partition("://")[2]
    before, _, after = rest.partition("@")
    place, _, query = (rest if "/" in before else after).partition("?")
    return "@" in place or any(map(_has_end_of_password, query.split("&")))


def _has_end_of_password(part: str) -> bool:
    """Whether an @ stands in a query where none is to be expected.

    Of what follows a password the host is a part, often with the / of a database.
    """
    key, _, value = part.partition("=")
    if "@" not in value or key in SECRET_KEYS or value.startswith(("/", "@")):
        return False  # the last are paths and abstract sockets
    return "/" in value or key not in MAY_HAVE_AT

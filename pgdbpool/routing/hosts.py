"""From what the user gave to one set of libpq's parameters for each endpoint.

libpq takes several hosts in one DSN and tries them in order at every connect. The
pool gives each an endpoint of its own instead, so each connect is to one server.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Final

from pgdbpool.endpoint.endpoint import endpoint_name
from pgdbpool.errors import SettingsError
from pgdbpool.parameters import is_part_of_url, libpq_params
from pgdbpool.settings import Settings

Params = dict[str, str]

# What has to be the same, or it would not be one cluster.
SHARED: Final = {"dbname": "databases", "user": "users"}

ATTRIBUTES: Final = "target_session_attrs"


def endpoint_params(
    settings: Settings,
) -> tuple[list[Params], dict[str, type], str | None]:
    """Return the parameters of each endpoint, psycopg2's factories, and the need.

    The need is ``target_session_attrs``, which with one server libpq sees to.

    Raises:
        SettingsError: a DSN does not parse, or together they are no cluster.
    """
    conninfo, kwargs = settings.conninfo, settings.kwargs
    dsns = [conninfo] if isinstance(conninfo, str) else list(conninfo)
    if not dsns:
        raise SettingsError("conninfo: an empty list has no endpoint")
    parsed = [libpq_params(dsn, kwargs) for dsn in dsns]
    factories = parsed[0][1]
    found = [one for params, _ in parsed for one in split(params)]
    if settings.endpoints is not None:
        found = _placed(found, settings.endpoints)
    _refuse_strangers(found)
    return found, factories, _wanted(found)


def _placed(base: list[Params], endpoints: Sequence[str]) -> list[Params]:
    """Return what ``endpoints`` name, with all else from the one DSN there is."""
    if len(base) > 1 or any(key in base[0] for key in ("host", "hostaddr", "port")):
        raise SettingsError("endpoints: conninfo names a server already; give either")
    if not endpoints:
        raise SettingsError("endpoints: an empty list has no endpoint")
    return [
        base[0] | one
        for dsn in endpoints
        for one in split(libpq_params(dsn, None, "endpoints")[0])
    ]


def _wanted(found: list[Params]) -> str | None:
    """Return which of several servers is wanted; no libpq is to choose among them."""
    given = {params.get(ATTRIBUTES) for params in found}
    if len(given) > 1:
        raise SettingsError(f"conninfo: the DSNs differ in {ATTRIBUTES}")
    if len(found) > 1:
        for params in found:
            params[ATTRIBUTES] = "any"  # or PGTARGETSESSIONATTRS would say
    return given.pop() or os.environ.get("PGTARGETSESSIONATTRS")


def split(params: Mapping[str, str]) -> list[Params]:
    """Return one set of parameters for each host, as libpq would pair them.

    Raises:
        SettingsError: the numbers of hosts, addresses and ports do not match, or a
            host is a URL.
    """
    environ = os.environ
    hosts = _listed(params.get("host") or environ.get("PGHOST", ""))
    addresses = _listed(params.get("hostaddr") or environ.get("PGHOSTADDR", ""))
    ports = _listed(params.get("port") or environ.get("PGPORT", ""))
    if any(map(is_part_of_url, hosts)):  # it would be in the log, with its password
        raise SettingsError(
            "conninfo: a host, perhaps PGHOST, is a URL or a part of one; the place of "
            "a URL is conninfo or DATABASE_URL"
        )
    number = max(len(hosts), len(addresses), 1)
    if number == 1 and len(ports) <= 1:
        return [dict(params)]
    for name, values in (("host", hosts), ("hostaddr", addresses)):
        if values and len(values) != number:
            raise SettingsError(
                f"conninfo: {name} names {len(values)} servers, the other {number}"
            )
    if len(ports) not in (0, 1, number):
        raise SettingsError(f"conninfo: {len(ports)} ports for {number} hosts")
    rest = {k: v for k, v in params.items() if k not in ("host", "hostaddr", "port")}
    each = zip(
        hosts or repeat("", number),
        addresses or repeat("", number),
        ports * number if len(ports) == 1 else ports or repeat("", number),
        strict=False,
    )
    return [
        rest
        | {k: v for k, v in zip(("host", "hostaddr", "port"), one, strict=True) if v}
        for one in each
    ]


def _listed(text: str) -> list[str]:
    return text.split(",") if text else []


def _refuse_strangers(several: Sequence[Params]) -> None:
    for key, what in SHARED.items():
        if len({params.get(key) for params in several}) > 1:
            raise SettingsError(
                f"conninfo: endpoints of one pool are one cluster, and these are "
                f"different {what}"
            )
    places = [(p.get("hostaddr"), endpoint_name(p)) for p in several]
    if len(set(places)) < len(places):
        raise SettingsError("conninfo: the same server is named twice")


def weights_of(names: Sequence[str], given: Mapping[str, float] | None) -> list[float]:
    """Return the weight of each endpoint, 1 where nothing is said.

    Args:
        names: host and port of each endpoint.
        given: weights by ``host:port``, or by host alone where that is one endpoint.

    Raises:
        SettingsError: a weight is for no endpoint, or for more than one.
    """
    weights: dict[str, float] = {}
    for place, weight in (given or {}).items():
        meant = [name for name in names if place in (name, name.rpartition(":")[0])]
        if len(meant) != 1:
            what = "no endpoint" if not meant else f"{len(meant)} endpoints"
            raise SettingsError(
                f"weights: {place!r} is {what}; there are {', '.join(names)}"
            )
        if meant[0] in weights:
            raise SettingsError(f"weights: {meant[0]} has two")
        weights[meant[0]] = float(weight)
    return [weights.get(name, 1.0) for name in names]

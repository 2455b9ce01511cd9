"""Makes the endpoints of a pool, from its settings."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.provider import Source, as_provider
from pgdbpool.endpoint.endpoint import (
    Endpoint,
    endpoint_name,
    endpoint_names,
    safe_params,
)
from pgdbpool.endpoint.need import Need, default_need
from pgdbpool.errors import SettingsError
from pgdbpool.routing.hosts import Params, endpoint_params, weights_of
from pgdbpool.settings import Settings
from pgdbpool.watchdog import Watchdog

# Who meets a silent server has to have time left for another, where nobody else tries
# that meanwhile. Less than this libpq does not know, seconds.
QUICK: Final = {"connect_timeout": "2"}


def endpoints_of(
    settings: Settings, name: str
) -> tuple[Callable[[], list[Endpoint]], Need | None]:
    """Return what makes the endpoints, anew each time, and what a plain hold needs.

    Args:
        settings: the pool's.
        name: the pool's.

    Raises:
        SettingsError: together they are no cluster, or the password is of no use.
    """
    each, factories, attributes = endpoint_params(settings)
    if not settings.threaded and len(each) > 1:
        each = [safe_params(params, QUICK) for params in each]
    names = endpoint_names(each)
    weights = weights_of(names, settings.weights)
    # Who signs for a host has to know it as it is.
    hosts = [endpoint_name(params) for params in each]
    logins = logins_of(settings, each, hosts, name)

    def make() -> list[Endpoint]:
        return [
            Endpoint(params, factories, settings, weight, credentials, name=called)
            for params, weight, credentials, called in zip(
                each, weights, logins, names, strict=True
            )
        ]

    return make, default_need(attributes, is_one_name=len(each) == 1)


def logins_of(
    settings: Settings, each: Sequence[Params], names: Sequence[str], pool: str
) -> Sequence[Credentials | None]:
    """Return where each endpoint has its password from; None: libpq finds it.

    Where that is a string, it is put into ``each``.

    Args:
        settings: the pool's.
        each: the parameters of each endpoint.
        names: host and port of each.
        pool: its name.

    Raises:
        SettingsError: there are two passwords, or what is given is of no use.
    """
    password: Any = settings.password
    if password in (None, ""):
        return [None] * len(each)
    if any("password" in params for params in each):
        raise SettingsError("password: the DSN has one already; give either")
    if isinstance(password, str):
        _put(password, each)
        return [None] * len(each)
    user = each[0].get("user")
    if not hasattr(password, "at"):
        return [_kept(as_provider(password, user), pool, settings)] * len(each)
    places = [name.rpartition(":") for name in names]
    return [
        _kept(as_provider(password.at(host, int(port)), user), pool, settings)
        for host, _, port in places
    ]


def known_params(settings: Settings) -> list[Params]:
    """Return libpq's parameters for each endpoint, with the password if it is a string.

    Raises:
        SettingsError: as `endpoint_params` does.
    """
    each, _, _ = endpoint_params(settings)
    if isinstance(settings.password, str) and settings.password:
        _put(settings.password, each)
    return each


def _put(password: str, each: Sequence[Params]) -> None:
    for params in each:
        params["password"] = password


def _kept(source: Source, pool: str, settings: Settings) -> Credentials:
    if settings.threaded:
        return Credentials(source, name=pool)
    return Credentials(source, name=pool, timer=NoTimer(), start=lambda run: run())


class NoTimer(Watchdog):
    """Wakes nobody: without threads what has expired is fetched by who needs it."""

    def at(self, when: float, key: object, fire: Callable[[], None]) -> None:
        """Do nothing."""

"""With what to log in, and a second try where that was outdated."""

from collections.abc import Callable
from typing import TypeVar

import psycopg2

from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.provider import Credential
from pgdbpool.endpoint.health import refusal_of
from pgdbpool.errors import AuthenticationFailed

T = TypeVar("T")

Login = dict[str, str]


def log_in(
    credentials: Credentials, credential: Credential, connect: Callable[[Login], T]
) -> T:
    """Connect with a credential; once more with a newer one if that is refused. Blocks.

    Args:
        credentials: where it is from.
        credential: what to log in with.
        connect: takes libpq's parameters for it.

    Raises:
        psycopg2.Error: the server cannot be reached or refuses.
    """
    try:
        return connect(login_of(credential))
    except psycopg2.OperationalError as error:
        newer = _after_refusal(credentials, credential, error)
        if newer is None:
            raise
    try:
        return connect(login_of(newer))
    except psycopg2.OperationalError as error:
        _after_refusal(credentials, newer, error)
        raise


def login_of(credential: Credential) -> Login:
    """Return a credential as libpq's parameters."""
    login = {"password": credential.secret}
    return login if credential.user is None else {**login, "user": credential.user}


def _after_refusal(
    credentials: Credentials, credential: Credential, error: psycopg2.Error
) -> Credential | None:
    if refusal_of(error) is not AuthenticationFailed:
        return None
    return credentials.refused(credential)

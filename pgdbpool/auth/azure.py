"""Microsoft Entra ID, for Azure Database for PostgreSQL: a token is the password."""

import base64
import binascii
import json
from typing import Any, Final, Protocol

from pgdbpool.auth.provider import Credential
from pgdbpool.auth.sdk import PerProcess, missing

# Learn, "Use Microsoft Entra ID for authentication with Azure Database for
# PostgreSQL": the resource that its tokens are for, in the public cloud.
SCOPE: Final = "https://ossrdbms-aad.database.windows.net/.default"
# The role of a person has the user principal name; which claim has it depends on
# the version of the token and on the kind of account. Of a service principal it
# is the display name, which most tokens do not have.
NAMES: Final = ("upn", "preferred_username", "unique_name", "app_displayname")
MANAGED_IDENTITY: Final = "/providers/microsoft.managedidentity/userassignedidentities/"


class AccessToken(Protocol):
    """As azure-core has it."""

    @property
    def token(self) -> str:
        """What a server takes for a password."""
        ...

    @property
    def expires_on(self) -> int:
        """Seconds since the epoch."""
        ...


class TokenCredential(Protocol):
    """As azure-core has it."""

    def get_token(self, *scopes: str) -> AccessToken:
        """Return a token; may block."""
        ...


class AzureIdentity:
    """Logs in as a managed identity, a service principal, or a person.

    Args:
        credential: one of azure-identity's; by default a `DefaultAzureCredential`,
            one for the life of the process: it keeps tokens of its own.
        user: the role to log in as. By default it is read from the token, which
            has the name of a person or of a user-assigned managed identity. If it
            has none, the DSN has to name the role. To log in as a member of a
            group, give the name of the group.
        scope: what the token is for; other clouds have other ones.

    Raises:
        ImportError: azure-identity is not installed.
    """

    def __init__(
        self,
        credential: TokenCredential | None = None,
        *,
        user: str | None = None,
        scope: str = SCOPE,
    ) -> None:
        try:
            from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - optional
        except ImportError as error:
            what = missing("AzureIdentity", "azure-identity", "azure")
            raise ImportError(what) from error
        self._identity: PerProcess[TokenCredential] = PerProcess(
            DefaultAzureCredential if credential is None else lambda: credential
        )
        self._user = user
        self._scope = scope

    def __repr__(self) -> str:
        whose = "" if self._user is None else f"user={self._user!r}"
        return f"AzureIdentity({whose})"

    def credential(self) -> Credential:
        """Return a token. Blocks, unless azure-identity has one that will do.

        Raises:
            Exception: azure-identity's `ClientAuthenticationError`, mostly.
        """
        access = self._identity.get().get_token(self._scope)
        user = user_of(access.token) if self._user is None else self._user
        return Credential(access.token, user, float(access.expires_on))


def user_of(token: str) -> str | None:
    """Return the role that a token is for; None if it does not say.

    The token is not verified: the server does that.
    """
    claims = _claims(token)
    # A user-assigned managed identity: its role has the name of its resource.
    resource = claims.get("xms_mirid")
    if isinstance(resource, str) and MANAGED_IDENTITY in resource.lower():
        return resource.rpartition("/")[2] or None
    names = (claims.get(key) for key in NAMES)
    return next((name for name in names if isinstance(name, str) and name), None)


def _claims(token: str) -> dict[str, Any]:
    """Return the payload of a JWT (RFC 7519); nothing if it is none."""
    _, _, rest = token.partition(".")
    payload, _, _ = rest.partition(".")
    padded = payload + "=" * (-len(payload) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}

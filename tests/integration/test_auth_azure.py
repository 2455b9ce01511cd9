"""Tokens of Microsoft Entra ID, by azure-identity, from an endpoint on loopback."""

import base64
import json
import logging
import secrets
import time
from collections.abc import Iterator

import pytest

from pgdbpool.auth.azure import SCOPE, AzureIdentity
from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.provider import Credential, as_provider
from pgdbpool.errors import CredentialError
from tests.tokens import Call, TokenServer

pytest.importorskip("azure.identity", reason="needs pip install 'pgdbpool[azure]'")

SIGNATURE = secrets.token_hex(16)


def jwt(**claims: str) -> str:
    """Return a token that nobody signed."""
    parts = ({"alg": "RS256", "typ": "JWT"}, {"aud": "ossrdbms", **claims})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts]
    return ".".join([*(part.rstrip(b"=").decode() for part in encoded), SIGNATURE])


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """Give a managed identity as App Service has it, which may use plain HTTP."""
    server = TokenServer()
    with server.serving():
        for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET", "FEDERATED_TOKEN_FILE"):
            monkeypatch.delenv(f"AZURE_{name}", raising=False)
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.port}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "of this machine")
        # Of the default chain only this: the others look at the user's own machine.
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        answer(server, jwt(upn="alice@contoso.com"))
        yield server


def answer(server: TokenServer, token: str, life: int = 3600) -> None:
    """Have the endpoint give a token."""

    def answer(call: Call) -> tuple[int, object]:
        assert call.headers["x-identity-header"] == "of this machine"
        assert f"{call.query['resource']}/.default" == SCOPE
        expires_on = str(int(time.time()) + life)
        return 200, {
            "access_token": token,
            "expires_on": expires_on,
            "resource": call.query["resource"],
            "token_type": "Bearer",
        }

    server.answers["/token"] = answer


def test_a_token_is_the_password_of_whom_it_names(identity: TokenServer) -> None:
    """With the end that the endpoint says."""
    credential = AzureIdentity().credential()

    assert credential.secret == jwt(upn="alice@contoso.com")
    assert credential.user == "alice@contoso.com"
    assert credential.expires_at == pytest.approx(time.time() + 3600, abs=5)
    assert identity.count("/token") == 1


def test_one_default_credential_serves_a_process(identity: TokenServer) -> None:
    """M15: it keeps tokens of its own, which a new one each time would lose."""
    provider = AzureIdentity()
    for _ in range(5):
        provider.credential()
    assert identity.count("/token") == 1


def test_what_is_kept_behind_a_pool_is_fetched_once(identity: TokenServer) -> None:
    """Through the check of the answer, and the cache."""
    cache = Credentials(as_provider(AzureIdentity()), name="orders")
    assert cache.get() == cache.get()
    assert cache.get().user == "alice@contoso.com"
    assert identity.count("/token") == 1
    cache.rest()


def test_a_given_user_is_believed(identity: TokenServer) -> None:
    """As a member of a group one logs in with the name of the group."""
    provider = AzureIdentity(user="shop-team")
    assert provider.credential().user == "shop-team"
    assert repr(provider) == "AzureIdentity(user='shop-team')"
    assert identity.calls


def test_a_token_that_names_nobody_leaves_that_to_the_dsn(
    identity: TokenServer,
) -> None:
    """A service principal's has no name."""
    answer(identity, jwt(appid="0a1b", idtyp="app"))
    assert AzureIdentity().credential().user is None


def test_a_credential_of_ones_own_is_used(identity: TokenServer) -> None:
    """Such as a user-assigned managed identity, with the name of its resource."""
    from azure.identity import ManagedIdentityCredential  # noqa: PLC0415 - optional

    group = "/subscriptions/1/resourcegroups/shop/providers"
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    answer(identity, jwt(xms_mirid=f"{group}/{kind}/shop-app"))
    own = ManagedIdentityCredential(client_id="0a1b")

    assert AzureIdentity(own).credential().user == "shop-app"
    assert identity.calls[0].query["client_id"] == "0a1b"


def test_an_endpoint_that_fails_is_told_by_its_error(identity: TokenServer) -> None:
    """As the driver's error that a pool expects, with azure-identity's as cause."""
    identity.answers["/token"] = lambda _: (400, {"error": "no_identity"})
    with pytest.raises(CredentialError, match="provider AzureIdentity failed") as said:
        as_provider(AzureIdentity())()
    assert type(said.value.__cause__).__name__ == "ClientAuthenticationError"


def test_the_token_is_never_shown(
    identity: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 38: also where the library and HTTP log all that they do."""
    caplog.set_level(logging.DEBUG)
    provider = AzureIdentity()
    cache = Credentials(as_provider(provider, "bob"), name="orders")
    with pytest.raises(CredentialError, match="but the DSN says 'bob'"):
        cache.get()
    credential: Credential = provider.credential()

    assert identity.calls
    assert len(caplog.records) > 5
    assert SIGNATURE in credential.secret
    for said in (caplog.text, repr(credential), repr(provider), repr(cache)):
        assert SIGNATURE not in said

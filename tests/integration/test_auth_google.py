"""Tokens for Cloud SQL, by google-auth, from endpoints on loopback."""

import datetime as dt
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.google import SCOPE, GoogleCloudSql
from pgdbpool.auth.provider import as_provider
from pgdbpool.errors import CredentialError
from tests.fresh import python
from tests.tokens import Call, TokenServer

pytest.importorskip("google.auth", reason="needs pip install 'pgdbpool[google]'")

EMAIL = "shop@project-1.iam.gserviceaccount.com"
USER = "shop@project-1.iam"
ACCOUNTS = "/computeMetadata/v1/instance/service-accounts"


class Tokens(TokenServer):
    """An endpoint that gives another token each time.

    Attributes:
        given: the tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def token(self, call: Call) -> tuple[int, Any]:
        """Return a token, as OAuth 2.0 has it."""
        asked_for = call.query.get("scopes") or call.query.get("assertion")
        assert asked_for
        self.given.append(f"ya29.{secrets.token_hex(16)}")
        return 200, {
            "access_token": self.given[-1],
            "expires_in": 3599,
            "token_type": "Bearer",
        }


@pytest.fixture
def endpoint() -> Iterator[Tokens]:
    """Give an endpoint for tokens."""
    server = Tokens()
    with server.serving():
        server.answers["/token"] = server.token
        yield server


@pytest.fixture
def key_file(
    endpoint: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Give the key of a service account, which is the application's default."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    info = {
        "type": "service_account",
        "project_id": "project-1",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "token_uri": f"http://127.0.0.1:{endpoint.port}/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(info), encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return info


def claims_of(call: Call) -> dict[str, Any]:
    """Return what a service account asserts."""
    from google.auth import jwt  # noqa: PLC0415 - optional

    claims: dict[str, Any] = jwt.decode(call.query["assertion"], verify=False)
    return claims


@pytest.mark.usefixtures("key_file")
def test_a_token_is_the_password_of_the_service_account(endpoint: Tokens) -> None:
    """For the scope of logins and no more; the role has a shorter name."""
    credential = GoogleCloudSql().credential()

    assert credential.secret == endpoint.given[0]
    assert credential.user == USER
    assert credential.expires_at == pytest.approx(time.time() + 3599, abs=5)
    assert claims_of(endpoint.calls[0])["scope"] == SCOPE
    assert claims_of(endpoint.calls[0])["iss"] == EMAIL


@pytest.mark.usefixtures("key_file")
def test_each_call_fetches_a_new_token(endpoint: Tokens) -> None:
    """To keep it is the cache's business."""
    provider = GoogleCloudSql()
    secrets_got = [provider.credential().secret for _ in range(3)]
    assert secrets_got == endpoint.given
    cache = Credentials(as_provider(provider), name="orders")
    assert cache.get() == cache.get()
    assert endpoint.count("/token") == 4
    cache.rest()


def test_credentials_of_ones_own_are_used(
    endpoint: Tokens, key_file: dict[str, str]
) -> None:
    """With the scope that they need; those that were given stay as they are."""
    from google.oauth2 import service_account  # noqa: PLC0415 - optional

    own = service_account.Credentials.from_service_account_info(key_file)
    provider = GoogleCloudSql(own, user="shop-team")

    assert provider.credential().user == "shop-team"
    assert repr(provider) == "GoogleCloudSql(user='shop-team')"
    assert own.token is None
    assert claims_of(endpoint.calls[0])["scope"] == SCOPE


def test_a_person_whose_name_is_not_known_is_left_to_the_dsn(
    endpoint: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials of gcloud may or may not have the address."""
    from google.oauth2 import credentials  # noqa: PLC0415 - optional

    def refresh(self: credentials.Credentials, _request: object) -> None:
        self.token = "ya29.person"
        self.expiry = dt.datetime(2100, 1, 1)  # noqa: DTZ001 - as google-auth has it

    monkeypatch.setattr(credentials.Credentials, "refresh", refresh)
    person = credentials.Credentials(None, refresh_token="r")
    assert GoogleCloudSql(person).credential().user is None

    known = credentials.Credentials(None, refresh_token="r", account="al@example.com")
    credential = GoogleCloudSql(known).credential()
    assert credential.user == "al@example.com"
    assert credential.expires_at == 4102444800.0
    assert not endpoint.calls


def test_a_machine_of_google_asks_its_metadata_server(endpoint: Tokens) -> None:
    """Where nothing else is set up; in a process of its own, as it is found once."""
    endpoint.headers = {"Metadata-Flavor": "Google"}  # type: ignore[misc]
    account = (200, {"email": EMAIL, "scopes": [SCOPE], "aliases": ["default"]})
    endpoint.answers = {
        "/": lambda _: (200, "computeMetadata/\n"),
        "/computeMetadata/v1/project/project-id": lambda _: (200, "project-1"),
        f"{ACCOUNTS}/default/": lambda _: account,
        f"{ACCOUNTS}/{EMAIL}/": lambda _: account,
        f"{ACCOUNTS}/default/token": endpoint.token,
        f"{ACCOUNTS}/{EMAIL}/token": endpoint.token,  # of an older google-auth
    }
    program = (
        "from pgdbpool.auth.google import GoogleCloudSql; p = GoogleCloudSql(); "
        "first = p.credential(); print(first.user, first.secret, p.credential().secret)"
    )
    place = f"127.0.0.1:{endpoint.port}"
    environ = {**os.environ, "GCE_METADATA_HOST": place, "GCE_METADATA_IP": place}
    environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
    environ["CLOUDSDK_CONFIG"] = "/nonexistent"
    said = python("-c", program, environ=environ, timeout=50)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [USER, *endpoint.given]
    asked_for = [c.query["scopes"] for c in endpoint.calls if c.path.endswith("/token")]
    assert asked_for == [SCOPE] * 2


@pytest.mark.usefixtures("key_file")
def test_an_endpoint_that_refuses_is_told_by_its_error(endpoint: Tokens) -> None:
    """As the driver's error that a pool expects, with google-auth's as cause."""
    endpoint.answers["/token"] = lambda _: (400, {"error": "invalid_grant"})
    with pytest.raises(CredentialError, match=r"RefreshError: .*invalid_grant") as said:
        as_provider(GoogleCloudSql())()
    assert type(said.value.__cause__).__name__ == "RefreshError"


@pytest.mark.usefixtures("key_file")
def test_the_token_is_never_shown(
    endpoint: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 38: also where the library and HTTP log all that they do."""
    caplog.set_level(logging.DEBUG)
    provider = GoogleCloudSql()
    cache = Credentials(as_provider(provider, "bob"), name="orders")
    with pytest.raises(CredentialError, match="but the DSN says 'bob'"):
        cache.get()
    credential = provider.credential()

    assert len(endpoint.given) == 2
    for said in (caplog.text, repr(credential), repr(provider), repr(cache)):
        for token in endpoint.given:
            assert token not in said

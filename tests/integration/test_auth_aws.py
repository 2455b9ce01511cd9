"""Tokens of RDS, signed by boto3 with credentials from an endpoint on loopback."""

import datetime as dt
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest

from pgdbpool.auth.aws import AwsRdsIam
from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.provider import as_provider
from pgdbpool.errors import CredentialError
from tests.tokens import TokenServer

pytest.importorskip("boto3", reason="needs pip install 'pgdbpool[aws]'")

HOST = "shop.c0ffee.eu-central-1.rds.amazonaws.com"
KEY = secrets.token_hex(20)
SESSION_TOKEN = secrets.token_hex(40)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TokenServer]:
    """Give the credentials of a container, as ECS and EKS have them."""
    server = TokenServer()
    with server.serving():
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE", "REGION"):
            monkeypatch.delenv(f"AWS_{name}", raising=False)
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(f"AWS_{name}", str(tmp_path / name))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.port}/role"
        )
        server.answers["/role"] = lambda _: (200, role())
        yield server


def role() -> dict[str, str]:
    """Return temporary credentials, as the endpoint has them."""
    end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=6)
    return {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": KEY,
        "Token": SESSION_TOKEN,
        "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def signed_by(key: str, token: str, region: str) -> bool:
    """Whether RDS would take a token (IAM user guide, "Signature Version 4")."""
    place, _, query = token.partition("/?")
    parts = dict(parse_qsl(query))
    signature = parts.pop("X-Amz-Signature")
    canonical = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(parts.items())
    )
    nothing = hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n{canonical}\nhost:{place}\n\nhost\n{nothing}"
    date = parts["X-Amz-Date"]
    scope = f"{date[:8]}/{region}/rds-db/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
    mac = f"AWS4{key}".encode()
    for part in (*scope.split("/"), text):
        mac = hmac.digest(mac, part.encode(), "sha256")
    return mac.hex() == signature


def test_a_token_is_what_rds_would_accept(endpoint: TokenServer) -> None:
    """For the place, the user and the region, signed with the role's key."""
    credential = AwsRdsIam(HOST, 5433, user="shop app").credential()

    assert credential.secret.startswith(
        f"{HOST}:5433/?Action=connect&DBUser=shop%20app"
    )
    assert signed_by(KEY, credential.secret, "eu-central-1")
    assert not signed_by("another key", credential.secret, "eu-central-1")
    assert credential.user == "shop app"
    assert credential.expires_at == pytest.approx(time.time() + 900, abs=5)
    assert endpoint.count("/role") == 1


def test_signing_needs_the_endpoint_once(endpoint: TokenServer) -> None:
    """As long as the role's credentials last; a client is made once a process."""
    provider = AwsRdsIam(HOST, user="app")
    first = provider._client
    for _ in range(20):
        provider.credential()
    assert provider._client is first
    assert endpoint.count("/role") == 1


@pytest.mark.parametrize(
    ("host", "region", "signed_for"),
    [
        ("db.internal", "eu-west-3", "eu-west-3"),
        (HOST, "eu-west-3", "eu-west-3"),
        ("db.internal", None, "ap-south-1"),
        (HOST, None, "eu-central-1"),
    ],
)
def test_the_region_is_the_given_or_the_hosts_or_the_sessions(
    endpoint: TokenServer,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    region: str | None,
    signed_for: str,
) -> None:
    """In this order: a token for another region is refused."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    credential = AwsRdsIam(host, user="app", region=region).credential()
    assert signed_by(KEY, credential.secret, signed_for)
    assert endpoint.calls


def test_each_server_of_a_pool_has_tokens_of_its_own(endpoint: TokenServer) -> None:
    """With the key of one role; a place that was given stands for all of them."""
    provider = AwsRdsIam(user="app")
    assert repr(provider) == "AwsRdsIam(user='app')"
    with pytest.raises(CredentialError, match="give it the host"):
        provider.credential()

    for host in HOST, HOST.replace("eu-central-1", "us-gov-west-1"):
        token = provider.at(host, 5434).credential().secret
        assert token.startswith(f"{host}:5434/?")
        assert signed_by(KEY, token, host.split(".")[2])
    placed = AwsRdsIam(HOST, user="app")
    assert placed.at("cname.example.com", 1) is placed
    assert endpoint.calls


def test_a_session_of_ones_own_is_used(endpoint: TokenServer) -> None:
    """With the credentials and the region that it has."""
    import boto3  # noqa: PLC0415 - optional

    session = boto3.Session("AKIAOTHER", "other key", region_name="eu-north-1")
    credential = AwsRdsIam("db.internal", user="app", session=session).credential()

    assert signed_by("other key", credential.secret, "eu-north-1")
    assert not endpoint.calls


def test_credentials_may_come_later(
    endpoint: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was made without would never look again."""
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    provider = AwsRdsIam(HOST, user="app")
    cache = Credentials(as_provider(provider), name="orders")
    with pytest.raises(
        CredentialError, match="AwsRdsIam failed: NoCredentialsError: Unable to locate"
    ):
        cache.get()

    monkeypatch.setenv(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{endpoint.port}/role"
    )
    assert signed_by(KEY, cache.get().secret, "eu-central-1")
    cache.rest()


def test_no_region_is_told_by_its_error(endpoint: TokenServer) -> None:
    """Which is boto3's own."""
    with pytest.raises(
        CredentialError, match="NoRegionError: You must specify a region"
    ):
        as_provider(AwsRdsIam("db.internal", user="app"))()
    assert endpoint.count("/role") <= 1


def test_the_token_is_never_shown(
    endpoint: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 38. At DEBUG botocore itself writes down what it signs, and how."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.INFO)
    provider = AwsRdsIam(HOST, user="app")
    cache = Credentials(as_provider(provider, "bob"), name="orders")
    try:
        with pytest.raises(CredentialError, match="'app', but the DSN says 'bob'"):
            cache.get()
        credential = provider.credential()
    finally:
        logging.getLogger("botocore").setLevel(logging.NOTSET)

    signature = credential.secret.rpartition("=")[2]
    assert endpoint.calls
    for said in (caplog.text, repr(credential), repr(provider), repr(cache)):
        for part in (signature, SESSION_TOKEN, KEY):
            assert part not in said

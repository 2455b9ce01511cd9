"""What the providers of the clouds read from tokens and names, and what they need."""

import base64
import datetime as dt
import json
import secrets
import threading
import time
from types import SimpleNamespace

import pytest

from pgdbpool.auth import aws, azure, google
from pgdbpool.auth.sdk import PerProcess
from tests.fresh import run

IDENTITIES = "/subscriptions/1/resourcegroups/g/providers/Microsoft.ManagedIdentity"
MACHINES = "/subscriptions/1/resourcegroups/g/providers/Microsoft.Compute"


# Without the libraries.

CLASSES = {
    "azure": "AzureIdentity",
    "aws": "AwsRdsIam",
    "google": "GoogleCloudSql",
}


@pytest.mark.parametrize("extra", CLASSES)
def test_without_its_library_a_provider_says_what_to_install(extra: str) -> None:
    """When it is made; to import all of pgdbpool needs none of them: M16."""
    program = (
        "import pgdbpool; "
        f"from pgdbpool.auth.{extra} import {CLASSES[extra]} as Provider; "
        "Provider(**({'user': 'app'} if Provider.__name__ == 'AwsRdsIam' else {}))"
    )
    without = ["azure.identity", "boto3", "google.auth", "requests"]
    ended = run(program, without=without)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {CLASSES[extra]} needs ")
    assert last.endswith(f": pip install 'pgdbpool[{extra}]'")


# One object a process.


def test_one_object_is_made_for_all_threads() -> None:
    """M15: whoever asks first makes it, and the others wait for that."""
    made = []
    may_end = threading.Event()

    def make() -> object:
        made.append(object())
        assert may_end.wait(10.0)
        return made[-1]

    one = PerProcess(make)
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(one.get())) for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join()
    assert got == made * 50


def test_what_could_not_be_made_is_tried_again() -> None:
    """By the next who asks."""
    errors = [ConnectionError("no route")]

    def make() -> str:
        if errors:
            raise errors.pop()
        return "made"

    one = PerProcess(make)
    with pytest.raises(ConnectionError):
        one.get()
    assert one.get() == "made"


def test_another_process_has_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """And waits for no lock that a thread of its parent holds."""
    one = PerProcess(object)
    mine = one.get()
    (lock,) = one._locks.values()
    with lock:
        monkeypatch.setattr("os.getpid", lambda: -1)
        assert one.get() is not mine
        assert one.get() is one.get()


# Azure: the name in a token.


def jwt(claims: object) -> str:
    """Return a token that nobody signed, with an end that is no Base64."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return f"e30.{payload.decode()}.{secrets.token_hex(16)}-"


CLAIMS: dict[str, tuple[object, str | None]] = {
    "person": ({"upn": "al@x.com", "unique_name": "live.com#al"}, "al@x.com"),
    "person, version 2": ({"preferred_username": "al@x.com"}, "al@x.com"),
    "guest": ({"unique_name": "al@y.com", "upn": ""}, "al@y.com"),
    "user-assigned": (
        {"xms_mirid": f"{IDENTITIES}/userAssignedIdentities/shop", "upn": "x"},
        "shop",
    ),
    "system-assigned": ({"xms_mirid": f"{MACHINES}/virtualMachines/vm"}, None),
    "nameless": ({"xms_mirid": f"{IDENTITIES}/userAssignedIdentities/"}, None),
    "application": ({"appid": "1", "oid": "2", "idtyp": "app"}, None),
    "named application": ({"app_displayname": "shop"}, "shop"),
    "umlaut": ({"upn": "jürgen@x.com"}, "jürgen@x.com"),
    "other types": ({"upn": 7, "xms_mirid": ["x"], "unique_name": None}, None),
    "nothing": ({}, None),
    "no object": ([1, 2], None),
}


@pytest.mark.parametrize(("claims", "user"), CLAIMS.values(), ids=CLAIMS)
def test_the_name_is_read_from_the_claims(claims: object, user: str | None) -> None:
    """Of each kind of account that has one."""
    assert azure.user_of(jwt(claims)) == user


@pytest.mark.parametrize(
    "token", ["", "opaque", "a.b", "a.!!!.c", "a.eyJ1cG4iOiI.c", "..", "a.ÿÿÿÿ.c"]
)
def test_a_token_that_is_none_of_json_has_no_name(token: str) -> None:
    """What is in it is the server's business: no error comes of that."""
    assert azure.user_of(token) is None


# AWS: the region in a name, the end in a token.


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("shop.c0ffee.eu-central-1.rds.amazonaws.com", "eu-central-1"),
        ("shop.cluster-ro-c0ffee.ap-southeast-2.rds.amazonaws.com", "ap-southeast-2"),
        ("SHOP.C0FFEE.US-EAST-1.RDS.AMAZONAWS.COM", "us-east-1"),
        ("shop.c0ffee.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
        ("shop.c0ffee.rds.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("db.internal", None),
        ("eu-central-1.rds.amazonaws.com.evil.org", None),
        ("", None),
    ],
)
def test_the_region_is_in_the_name_of_an_endpoint(
    host: str, region: str | None
) -> None:
    """Of AWS's own names, not of a CNAME."""
    assert aws.region_of(host) == region


def test_a_token_says_when_it_expires() -> None:
    """By the clock that signed it."""
    token = "h:5432/?Action=connect&X-Amz-Date=20261122T000000Z&X-Amz-Expires=900"
    assert aws.expiry_of(token) == 1795306500.0


@pytest.mark.parametrize("token", ["", "h:5432/?X-Amz-Date=soon&X-Amz-Expires=900"])
def test_a_token_that_does_not_say_so_lives_as_long_as_the_manual_says(
    token: str,
) -> None:
    """A quarter of an hour."""
    assert aws.expiry_of(token) == pytest.approx(time.time() + 900.0, abs=5.0)


# Google: the role of an account, the end of a token.


@pytest.mark.parametrize(
    ("credentials", "user"),
    [
        ({"service_account_email": "a@p.iam.gserviceaccount.com"}, "a@p.iam"),
        (
            {"service_account_email": "1-compute@developer.gserviceaccount.com"},
            "1-compute@developer",
        ),
        ({"account": "al@example.com"}, "al@example.com"),
        ({"service_account_email": None, "account": "al@x.com"}, "al@x.com"),
        ({"service_account_email": "default"}, None),
        ({"account": ""}, None),
        ({}, None),
    ],
)
def test_the_role_of_an_account_is_its_address(
    credentials: dict[str, object], user: str | None
) -> None:
    """Without what would make it too long."""
    assert google.user_of(SimpleNamespace(**credentials)) == user


@pytest.mark.parametrize(
    ("expiry", "end"),
    [
        (None, None),
        (dt.datetime(2026, 11, 22), 1795305600.0),  # noqa: DTZ001 - google-auth's
        (dt.datetime(2026, 11, 22, tzinfo=dt.timezone.utc), 1795305600.0),
    ],
)
def test_the_end_of_a_token_is_utc(
    expiry: dt.datetime | None, end: float | None
) -> None:
    """Whether google-auth says so or not."""
    assert google.expiry_of(SimpleNamespace(expiry=expiry)) == end

"""Row 38: what libpq or a server repeats of a secret is masked."""

from pathlib import Path

import pytest

from pgdbpool.doctor.masking import MASK, masked, masked_name
from tests.unit.environments import clear

URL = "postgresql://u:sup3rsecret@h/db"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a home in which nothing is, and an environment that says nothing."""
    clear(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("params", "said", "told"),
    [
        ({"password": "sup3rsecret"}, "a sup3rsecret b", f"a {MASK} b"),
        ({"sslpassword": "sup3rsecret"}, "xsup3rsecretx", f"x{MASK}x"),
        ({"dbname": URL}, f'database "{URL}" does not', f'database "{MASK}" does not'),
        ({"dbname": "pw@h"}, 'database "pw@h" does not', f'database "{MASK}" does not'),
        ({"user": "app@corp"}, 'role "app@corp"', 'role "app@corp"'),
        ({}, f'database "{URL}" does not', f'database "postgresql://{MASK}" does not'),
        ({}, "GET https://u:pw@vault/x", f"GET https://{MASK}@vault/x"),
        ({}, "GET https://vault/x failed", "GET https://vault/x failed"),
        # Short secrets are words of their own.
        ({"password": "abc"}, "abc, abcd: (abc)", f"{MASK}, abcd: ({MASK})"),
        ({"password": "p.w"}, 'value "p.w" pxw', f'value "{MASK}" pxw'),
        # One that is a part of another does not keep that from being masked.
        (
            {"password": "sup3rsecret", "sslpassword": "sup3rsecret-long"},
            "sup3rsecret-long",
            MASK,
        ),
    ],
)
def test_what_may_be_a_secret_is_masked(
    params: dict[str, str], said: str, told: str
) -> None:
    """And nothing else."""
    assert masked(said, params, []) == told


@pytest.mark.parametrize("name", ["PGDATABASE", "PGHOST", "PGUSER", "PGSERVICE"])
def test_a_url_in_a_variable_is_masked(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the variable is for; also where the server has cut it."""
    url = URL.replace("sup3rsecret", "sup3r secret" * 8)
    monkeypatch.setenv(name, url)
    assert masked(f"x {url} y", {}, []) == f"x {MASK} y"
    assert masked(f'"{url[:63]}" y', {}, []) == f'"{MASK}" y'


def test_secrets_of_libpqs_files_are_masked(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Of the usual ones, and of those that are named."""
    (home / ".pgpass").write_text("# a comment\nh:5432:*:u:pa\\:ss\\\\1\nno line\n")
    (home / ".pg_service.conf").write_text("[shop]\nhost=h\npassword = fr0m-service\n")
    assert masked(r"pa:ss\1 fr0m-service h", {}, []) == f"{MASK} {MASK} h"
    other = home / "other"
    other.write_text("*:*:*:*:0ther-one\n")
    assert masked("0ther-one", {"passfile": str(other)}, []) == MASK
    monkeypatch.setenv("PGPASSFILE", str(other))
    assert masked("0ther-one", {}, []) == MASK
    other.write_text("password=s3rvice-one\n")
    monkeypatch.setenv("PGSERVICEFILE", str(other))
    assert masked("s3rvice-one", {}, []) == MASK


def test_the_name_of_an_endpoint_has_no_password() -> None:
    """It is in the table, and in JSON."""
    assert masked_name(f"{URL}:5432", {"host": URL}) == f"{MASK}:5432"
    assert masked_name(f"{URL}:5432", {}) == f"postgresql://{MASK}"
    assert masked_name("db1:5432", {"password": "db1"}) == "db1:5432"

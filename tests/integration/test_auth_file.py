"""A password in a file, as Kubernetes and Docker mount secrets."""

import os
import secrets
from pathlib import Path

import pytest

from pgdbpool.auth.cache import Credentials
from pgdbpool.auth.file import PasswordFile
from pgdbpool.auth.provider import as_provider
from pgdbpool.errors import CredentialError

SECRET = secrets.token_hex(16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give where the password is."""
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n", encoding="utf-8")
    return path


@pytest.fixture
def cache(path: Path) -> Credentials:
    """Give a cache over that file."""
    return Credentials(as_provider(PasswordFile(path)), name="orders")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_line_breaks_at_the_end_do_not_count(path: Path, ending: str) -> None:
    """Editors and `echo` add them; anything else belongs to the password."""
    path.write_bytes(f" {SECRET}\n{SECRET} {ending}".encode())
    credential = PasswordFile(path, user="app").credential()
    assert credential.secret == f" {SECRET}\n{SECRET} "
    assert credential.user == "app"
    assert credential.expires_at is None


def test_the_file_is_read_when_it_has_changed(path: Path, cache: Credentials) -> None:
    """By the next connect; one that has not is not read again."""
    before = cache.get()
    assert cache.get() is cache.get()
    path.write_text("written anew", encoding="utf-8")
    assert cache.get().secret == "written anew"
    assert before.secret == SECRET


def test_another_file_of_the_same_size_and_time_is_another_version(
    path: Path, cache: Credentials
) -> None:
    """It is another file all the same."""
    path.write_text("one", encoding="utf-8")
    then = path.stat()
    assert cache.get().secret == "one"
    other = path.with_name("other")
    other.write_text("two", encoding="utf-8")
    os.utime(other, ns=(then.st_atime_ns, then.st_mtime_ns))
    other.replace(path)
    assert cache.get().secret == "two"


def test_a_swapped_link_is_followed(tmp_path: Path) -> None:
    """So Kubernetes replaces all files of a secret at once."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "password").write_text(name, encoding="utf-8")
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "password").symlink_to("..data/password")
    cache = Credentials(as_provider(PasswordFile(tmp_path / "password")), name="orders")
    assert cache.get().secret == "first"

    (tmp_path / "..tmp").symlink_to("second")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    assert cache.get().secret == "second"


def test_what_was_read_is_kept_while_there_is_no_file(
    path: Path, cache: Credentials
) -> None:
    """It is being written; the next version is read as soon as it is there."""
    cache.get()
    path.unlink()
    assert cache.get().secret == SECRET
    path.write_text("", encoding="utf-8")
    assert cache.get().secret == SECRET
    path.write_text("new", encoding="utf-8")
    assert cache.get().secret == "new"
    cache.rest()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """When it is first needed, not when the provider is made."""
    path = tmp_path / "password"
    provider = PasswordFile(path)
    with pytest.raises(CredentialError, match="No such file or directory") as caught:
        as_provider(provider)()
    assert str(caught.value).startswith(f"cannot read the password from {path}: ")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    path.write_text(SECRET, encoding="utf-8")
    assert provider.credential().secret == SECRET


def test_a_folder_is_no_password(tmp_path: Path) -> None:
    """Named as well."""
    with pytest.raises(CredentialError, match=f"{tmp_path}: Is a directory"):
        PasswordFile(tmp_path).credential()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\r\n\n", "it is empty"),
        (SECRET.encode() + b"\xff", "it is not UTF-8"),
    ],
)
def test_a_file_without_a_password_says_so(
    path: Path, content: bytes, says: str
) -> None:
    """Without a word of what is in it, also in what the error hangs on."""
    path.write_bytes(content)
    with pytest.raises(CredentialError, match=says) as caught:
        PasswordFile(path).credential()
    assert caught.value.__context__ is None
    assert str(path) in str(caught.value)


def test_a_nul_is_told_before_libpq_meets_it(path: Path) -> None:
    """Which would take it for the end."""
    path.write_bytes(SECRET.encode() + b"\0")
    with pytest.raises(CredentialError, match="NUL") as caught:
        as_provider(PasswordFile(path))()
    assert SECRET not in str(caught.value)


def test_its_repr_names_the_file(path: Path) -> None:
    """And nothing that is in it."""
    assert repr(PasswordFile(path)) == f"PasswordFile({str(path)!r})"
    assert PasswordFile(str(path)).path == str(path)

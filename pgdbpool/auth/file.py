"""The password is in a file, such as a secret that Kubernetes or Docker mounts."""

import os

from pgdbpool.auth.provider import Credential
from pgdbpool.errors import CredentialError


class PasswordFile:
    """A file with nothing but the password, read again when it has changed.

    Line breaks at its end do not count. A change is noticed before the next
    connect, whether the file is written anew or another one takes its name.

    Args:
        path: where; it need not be there yet.
        user: whose password it is; None: whomever the DSN names.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, user: str | None = None
    ) -> None:
        self.path = os.fspath(path)
        self._user = user

    def __repr__(self) -> str:
        return f"PasswordFile({self.path!r})"

    def credential(self) -> Credential:
        """Return the password. Blocks while the file is read.

        Raises:
            CredentialError: it cannot be read, is empty or no text.
        """
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 - a path of any kind
                content = file.read()
        except OSError as error:
            raise self._error(error.strerror or type(error).__name__) from error
        secret = _decoded(content)
        if secret is None:
            raise self._error("it is not UTF-8")
        secret = secret.rstrip("\r\n")
        if not secret:
            raise self._error("it is empty")
        return Credential(secret, self._user)

    def version(self) -> object:
        """Return what tells this content from any other, without reading it.

        Raises:
            OSError: there is no such file.
        """
        now = os.stat(self.path)  # noqa: PTH116 - a path of any kind
        return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns

    def _error(self, why: str) -> CredentialError:
        return CredentialError(f"cannot read the password from {self.path}: {why}")


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:  # whose args hold the content, so it ends here
        return None

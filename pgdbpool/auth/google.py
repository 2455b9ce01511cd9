"""IAM, for Google Cloud SQL: an OAuth 2.0 access token is the password."""

import datetime as dt
from typing import Any, Final

from pgdbpool.auth.provider import Credential
from pgdbpool.auth.sdk import PerProcess, missing

# Cloud SQL manual, "Log in using IAM database authentication".
SCOPE: Final = "https://www.googleapis.com/auth/sqlservice.login"
# A role cannot have a longer name, so these lack it: same manual, "Manage users
# with IAM database authentication".
SUFFIX: Final = ".gserviceaccount.com"


class GoogleCloudSql:
    """Logs in to Cloud SQL as a service account or a person.

    Args:
        credentials: one of google-auth's; by default the application's default
            credentials, found once for each process.
        user: the role to log in as; by default the e-mail address of the account,
            a service account's without ``.gserviceaccount.com``. If google-auth
            does not know it, the DSN has to name the role.

    Raises:
        ImportError: google-auth or requests is not installed.
    """

    def __init__(
        self,
        credentials: Any = None,  # noqa: ANN401 - those of google-auth vary by version
        *,
        user: str | None = None,
    ) -> None:
        try:
            import google.auth  # noqa: PLC0415 - optional
            import google.auth.transport.requests as transport  # noqa: PLC0415
        except ImportError as error:
            what = missing("GoogleCloudSql", "google-auth", "google")
            raise ImportError(what) from error
        self._auth = google.auth
        self._transport = transport
        self._given = credentials
        self._user = user
        self._credentials: PerProcess[Any] = PerProcess(self._new_credentials)

    def __repr__(self) -> str:
        whose = "" if self._user is None else f"user={self._user!r}"
        return f"GoogleCloudSql({whose})"

    def credential(self) -> Credential:
        """Return a new token. Blocks.

        Raises:
            Exception: google-auth's `GoogleAuthError`.
        """
        credentials = self._credentials.get()
        credentials.refresh(self._transport.Request())
        user = user_of(credentials) if self._user is None else self._user
        return Credential(credentials.token, user, expiry_of(credentials))

    def _new_credentials(self) -> Any:  # noqa: ANN401 - those of google-auth vary
        if self._given is None:
            credentials, _ = self._auth.default(scopes=[SCOPE])
            return credentials
        return self._auth.credentials.with_scopes_if_required(self._given, [SCOPE])


def user_of(credentials: Any) -> str | None:  # noqa: ANN401 - those of google-auth vary
    """Return the role of an account; None if google-auth does not know whose it is."""
    for name in ("service_account_email", "account"):
        email = getattr(credentials, name, None)
        if isinstance(email, str) and "@" in email:
            return email.removesuffix(SUFFIX)
    return None


def expiry_of(credentials: Any) -> float | None:  # noqa: ANN401 - as above
    """Return when a token expires, seconds since the epoch; None: it does not say."""
    expiry: dt.datetime | None = credentials.expiry
    if expiry is None:
        return None
    if expiry.tzinfo is None:  # it is UTC all the same
        expiry = expiry.replace(tzinfo=dt.timezone.utc)
    return expiry.timestamp()
